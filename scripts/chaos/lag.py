"""Networks between replicas and their master that can be slow: what the master tells arrives late, or never."""

import contextlib
import socket
import threading
import time
from queue import SimpleQueue

_BUFFER = 1 << 16
_REPLICATES = b"PSYNC"
"""What a connection says once that is a replica's."""


class Lag:
    """Passes bytes on from ports to other ports; what goes to replicas takes its time.

    A connection that ends loses what is on its way, as with a host that is gone.

    Attributes:
        seconds: The time that it takes.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._listeners: list[socket.socket] = []

    def listen(self, port: int, target: int) -> None:
        """Pass on what comes to a port."""
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket, target: int) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", target), timeout=5)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            replica = threading.Event()
            threading.Thread(target=self._to_server, args=(client, server, replica), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client, replica), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, replica: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_BUFFER):
                if _REPLICATES in data:
                    replica.set()
                server.sendall(data)
        _end(client, server)

    def _to_client(self, server: socket.socket, client: socket.socket, replica: threading.Event) -> None:
        late: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        sender: threading.Thread | None = None
        with contextlib.suppress(OSError):
            while data := server.recv(_BUFFER):
                if not replica.is_set():
                    client.sendall(data)
                    continue
                if sender is None:
                    sender = threading.Thread(target=_send_late, args=(client, late), daemon=True)
                    sender.start()
                late.put((time.monotonic() + self.seconds, data))
        _end(client, server)
        late.put((0.0, b""))


def _send_late(client: socket.socket, late: "SimpleQueue[tuple[float, bytes]]") -> None:
    """Send what is due; nothing more when the connection has ended."""
    with contextlib.suppress(OSError):
        while True:
            due, data = late.get()
            if not data:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            client.sendall(data)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
