"""``python -m worker`` is the ``rwkv-tts`` command."""

from worker.cli import main

main()
