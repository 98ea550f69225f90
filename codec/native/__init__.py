"""The wave generator as compiled code for CPUs."""
