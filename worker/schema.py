"""Requests and results where they were before the client became a package; new programs import ``rwkv_tts``."""

from rwkv_tts.schema import *  # noqa: F403

RequestError = ValueError
"""What it was is two errors now, of a request and of a text that cannot be spoken; both are ValueErrors."""
