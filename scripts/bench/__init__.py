"""Benchmarks: what is measured, how it is timed and repeated, and how figures are shown and compared."""
