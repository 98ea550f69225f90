"""Continuous batching: rows, the scheduler, the slots of the state pool and the engine's step.

Knows nothing of Redis, of jobs or of audio.
"""
