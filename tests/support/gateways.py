"""Gateways that serve for the length of a block, and workers whose rows make silence."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from uuid import uuid4

from redis import Redis

from bench.httpapi import speak
from bench.overhead import start
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


@contextmanager
def paced(url: str, rows: int = 64, max_queue: int | None = None) -> Iterator[str]:
    """A worker whose rows make silence; yields the name of its queue."""
    queue = f"paced-{uuid4().hex}"
    worker, pipe = start(speak, url, queue, rows, max_queue)
    try:
        pipe.recv()
        until(lambda: Redis.from_url(url).scard(f"rq:workers:{queue}"))
        yield queue
    finally:
        worker.kill()
        worker.join()


def jobs(connection: Redis, queue: str) -> int:
    """How many run or wait."""
    return int(connection.zcard(f"rq:wip:{queue}")) + int(connection.llen(f"rq:queue:{queue}"))
