"""OpenAI's speech API in front of a queue of speech jobs: one more producer, without a model or a memory."""

__version__ = "0.1.0"
