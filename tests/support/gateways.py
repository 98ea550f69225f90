"""Gateways that serve for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from gateway.app import make_app
from gateway.server import address, listen, make_server
from gateway.settings import Settings
from waiting import until


@contextmanager
def serving(redis: str, **settings: Any) -> Iterator[str]:
    """Run a gateway on a free port of this machine, and yield its URL."""
    chosen = Settings(redis=redis, port=0, **settings)
    with listen(chosen) as listening:
        server = make_server(make_app(chosen), chosen)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until(lambda: server.started)
            yield address(listening)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
