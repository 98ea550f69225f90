"""A network between one process and the server that can be disturbed."""

import contextlib
import os
import socket
import threading
import time
from enum import StrEnum
from pathlib import Path
from random import Random

from chaos.namespace import PORT, Namespace

_BUFFER = 1 << 16
_SLOWEST_SECONDS = 0.4


class Trouble(StrEnum):
    """What a network may do to bytes.

    ``REFUSE``: connections end and new ones are closed at once. ``DEAF``: commands arrive and replies vanish, so
    that whatever the process asked for happens and it never hears of it. ``MUTE``: nothing arrives at either end,
    and nobody is told. ``SLOW``: everything arrives, late.
    """

    REFUSE = "refuse"
    DEAF = "deaf"
    MUTE = "mute"
    SLOW = "slow"


class Proxy:
    """Passes bytes from a socket of its own to that of the server.

    Args:
        path: Where its unix socket is to be.
        server: The server's.
        user: Redis user of the process.
        namespace: Where the process lives, if anywhere: then it is reached over TCP inside.

    Attributes:
        url: What the process connects to.
    """

    def __init__(self, path: Path, server: Path, user: str, namespace: Namespace | None = None) -> None:
        self.namespace = namespace
        self._server = server
        self._trouble: Trouble | None = None
        self._random = Random(path.name)  # noqa: S311 - delays, no secret
        self._open: set[socket.socket] = set()
        self._dead: set[socket.socket] = set()
        if namespace is None:
            self.url = f"unix://{user}:{user}@{path}"
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(64)
        else:
            self.url = f"redis://{user}:{user}@127.0.0.1:{PORT}"
            self._listener = namespace.listener
        threading.Thread(target=self._accept, daemon=True).start()

    def disturb(self, trouble: Trouble) -> None:
        self._trouble = trouble
        if trouble is Trouble.REFUSE:
            self._end_all()

    def forget(self) -> None:
        """Every connection of now is dead, and neither end is told, as when a firewall forgets it."""
        self._dead |= self._open

    def mend(self) -> None:
        """Work again; connections that have lost bytes end."""
        if self._trouble is not Trouble.SLOW:
            self._end_all()
        self._trouble = None

    def close(self) -> None:
        self._listener.close()
        self._end_all()
        if self.namespace is not None:
            self.namespace.close()

    def _end_all(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                if self._trouble is Trouble.REFUSE:
                    raise ConnectionRefusedError
                server.connect(os.fspath(self._server))
            except OSError:
                client.close()
                server.close()
                continue
            self._open |= {client, server}
            for ends in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER):
                if self._trouble is Trouble.SLOW:
                    time.sleep(self._random.uniform(0, _SLOWEST_SECONDS))
                if self._arrives(source, replies):
                    target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if replies:
            self._open -= {source, target}
            self._dead -= {source, target}

    def _arrives(self, source: socket.socket, replies: bool) -> bool:
        vanishes = self._trouble is Trouble.MUTE or (replies and self._trouble is Trouble.DEAF)
        return not vanishes and source not in self._dead
