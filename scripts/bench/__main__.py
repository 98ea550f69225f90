"""``python scripts/bench``, or ``python -m bench`` with ``scripts`` on the path."""

import sys
from pathlib import Path

if not __package__:  # Python puts a folder that it runs on the path, and not the one that it is in
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.command import main

if __name__ == "__main__":
    sys.exit(main())
