"""``python -m worker`` is the ``rwkv-tts`` command."""

from worker.cli.app import main

main()
