"""Loops for CPUs, compiled from C when the project is installed; knows tensors' memory, and nothing of models."""
