"""``python -m worker.cli`` is the ``rwkv-tts`` command."""

from worker.cli.app import main

main()
