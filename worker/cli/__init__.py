"""The ``rwkv-tts`` command."""
