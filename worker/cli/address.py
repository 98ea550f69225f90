"""Where the server of a data folder listens: a file in the folder, locked by the process that runs the server.

A file that nobody has locked is left from a process that was killed; what it says counts only if a server answers.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import TextIO

DATA = Path("redis-data")
"""Of a worker without a Redis, in the folder where it is started."""

_NAME = "address"
_SCHEME = "unix://"
_SECONDS = 2.0


class FolderError(Exception):
    """A data folder is another user's."""


def next_door(folder: Path = DATA) -> str | None:
    """The URL of the server that runs on a data folder; None where none answers, or where others could write."""
    try:
        path = Path((folder / _NAME).read_text(encoding="utf-8").removeprefix(_SCHEME))
        ours = all(_is_ours(one) for one in (folder, folder / _NAME, path.parent, path))
        return f"{_SCHEME}{path}" if ours and _answers(path) else None
    except (OSError, ValueError):
        return None


def lock(folder: Path) -> TextIO | None:
    """The address file of a data folder, locked as long as it is open; None while another process has it.

    Raises:
        FolderError: The folder is another user's.
        OSError: It cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise FolderError(f"{folder}: belongs to another user; accepted: a folder of your own")
    folder.chmod(0o700)  # the jobs are nobody else's either
    file = os.fdopen(
        os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+", encoding="utf-8"
    )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def write(file: TextIO, url: str) -> None:
    """Tell where the server listens; "" when it no longer does."""
    file.seek(0)
    file.truncate()
    file.write(url)
    file.flush()


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have put it there."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(5) == b"+PONG"
