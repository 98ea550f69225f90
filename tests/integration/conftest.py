"""A real server and a real worker process for the tests of the queue."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from make_random_model import RandomModel, write_random_model
from rwkv_tts.client import TTSClient
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An endless model that speaks for many seconds: for tests of what happens to jobs while they run."""
    directory = tmp_path_factory.mktemp("slow") / "model"
    write_random_model(directory, RandomModel(layers=96, tokenizer="bytes", seed=1, eos_logit=-30.0))
    return directory


@pytest.fixture(scope="module")
def served(redis_url: str, random_model: Path) -> Iterator[tuple[LocalWorker, TTSClient]]:
    """One worker with 8 rows that the tests of a module share."""
    with local_worker(Settings(model=random_model, queue=("shared",), max_rows=8), redis_url) as local:
        local.wait_until_ready()
        yield local, TTSClient(redis_url, "shared")


@pytest.fixture
def client(served: tuple[LocalWorker, TTSClient]) -> TTSClient:
    return served[1]


@pytest.fixture(autouse=True)
def _needs_redis_cli(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("redis_cli") and not (
        shutil.which("valkey-cli") or shutil.which("redis-cli")
    ):
        pytest.skip("redis-cli is not installed: apt-get install redis-tools")
