"""A real gateway in front of a real worker, for the tests of what clients see."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from openai import OpenAI

from gateways import serving
from rwkv_tts import TTSClient
from worker.cli.local import local_worker
from worker.settings import Settings as WorkerSettings

QUEUE = "spoken-for"


@pytest.fixture(scope="session")
def worker(redis_url: str, random_model: Path) -> Iterator[TTSClient]:
    """A worker that all tests of the gateway share, and a client of its queue; its model never ends by itself."""
    with local_worker(WorkerSettings(model=random_model, queue=(QUEUE,), max_rows=8), redis_url) as local:
        local.wait_until_ready()
        yield TTSClient(redis_url, QUEUE)


@pytest.fixture(scope="session")
def url(redis_url: str, worker: TTSClient) -> Iterator[str]:
    """A gateway of that queue."""
    with serving(redis_url, queue=QUEUE) as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def openai(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def deserted() -> str:
    """The name of a queue that no worker serves."""
    return f"deserted-{uuid4().hex}"
