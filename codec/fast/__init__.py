"""Decoding on a GPU with products of matrices in float16. Needs Triton."""
