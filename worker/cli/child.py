"""``python -m worker.cli.child`` is the ``rwkv-tts`` command as a child of another, with which it ends.

Its standard input is a pipe of which the parent alone has the other end: the system closes that for the dead, too.
"""

import os
import sys
from threading import Thread

_ORPHANED = 1


def _end_with_parent() -> None:
    """At once: what runs is taken over from it as from any worker that dies."""
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written
    os._exit(_ORPHANED)


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()  # first: the imports below take seconds
    from worker.cli.app import main

    main()
