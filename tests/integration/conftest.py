"""A real server and a real worker process for the tests of the queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from worker.client import TTSClient
from worker.embedded import embedded_redis
from worker.local import LocalWorker, local_worker
from worker.settings import Settings


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with embedded_redis() as url:
        yield url


@pytest.fixture(scope="session")
def connection(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


@pytest.fixture(scope="module")
def served(redis_url: str, random_model: Path) -> Iterator[tuple[LocalWorker, TTSClient]]:
    """One worker with 8 rows that the tests of a module share."""
    with local_worker(Settings(model=random_model, queue="shared", max_rows=8), redis_url) as local:
        local.wait_until_ready()
        yield local, TTSClient(redis_url, "shared")


@pytest.fixture
def client(served: tuple[LocalWorker, TTSClient]) -> TTSClient:
    return served[1]
