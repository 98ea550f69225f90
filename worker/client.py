"""The client where it was before it became a package of its own; new programs import ``rwkv_tts``."""

from rwkv_tts import *  # noqa: F403 - exactly what that package offers
