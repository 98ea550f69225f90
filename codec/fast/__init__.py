"""Decoding on a GPU: the wave generator in float16. Needs Triton."""
