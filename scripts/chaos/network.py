"""A network between one process and the server that can be cut."""

import contextlib
import socket
import threading
from pathlib import Path

from chaos.plan import Kind

_BUFFER = 1 << 16


class Proxy:
    """Passes bytes from a unix socket of its own to that of the server, until it is cut.

    Cut with ``REFUSE``, connections end and new ones are closed at once. Cut with ``DEAF``, commands still arrive
    and replies vanish: whatever the process asked for happens, and it never hears of it.
    """

    def __init__(self, path: Path, server: Path) -> None:
        self.url = f"unix://{path}"
        self._server = server
        self._cut: Kind | None = None
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, kind: Kind) -> None:
        self._cut = kind
        if kind is Kind.REFUSE:
            self._end_all()

    def mend(self) -> None:
        """Work again; connections of the time before have lost bytes and end."""
        self._end_all()
        self._cut = None

    def close(self) -> None:
        self._listener.close()
        self._end_all()

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
                if self._cut is Kind.REFUSE:
                    raise ConnectionRefusedError
                server.connect(str(self._server))
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
                if not (replies and self._cut is Kind.DEAF):
                    target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if replies:
            self._open -= {source, target}
