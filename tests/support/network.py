"""A network in front of a server that can be cut, and worse."""

import contextlib
import socket
import threading
from collections.abc import Callable

_UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Network:
    """Passes bytes to a port of this machine, as its mode says.

    Modes: ``open``; ``cut``, where connections end at once; ``deaf``, where requests arrive and replies vanish;
    ``busy``, where every request is answered with 503.
    """

    def __init__(self, port: int) -> None:
        self._target, self._mode = port, "open"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        """Change the mode; connections of the time before end."""
        self._mode = mode
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.set("cut")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            if self._mode == "busy":
                client.recv(1 << 16)
                client.sendall(_UNAVAILABLE)
            elif self._mode != "cut":
                self._join(client)
        self._open.discard(client)

    def _join(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            back = (server, client, lambda: self._mode == "deaf")
            thread = threading.Thread(target=_pass_on, args=back, daemon=True)
            thread.start()
            _pass_on(client, server, lambda: False)
            thread.join()


def _pass_on(source: socket.socket, target: socket.socket, swallows: Callable[[], bool]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if not swallows():
                target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
