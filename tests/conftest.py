"""What several packages' tests share: golden vectors when they are there, a small random model always."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from redis import Redis
from rq.queue import Queue
from rq.serializers import JSONSerializer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hands import Hand, MakeHand, new_hand
from make_random_model import RandomModel, write_random_model
from worker.broker.jobs import HeldJob
from worker.cli.embedded import embedded_redis

WideResults = Callable[[Tensor, int], AbstractContextManager[list[str]]]
GOLDEN_VARIABLE = "RWKV_TTS_GOLDEN"

hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")  # the same examples in each run, however busy the machine is


@pytest.fixture(scope="session")
def golden() -> Path:
    """The directory of golden vectors."""
    beside_repository = Path(__file__).parents[2] / "shared" / "golden"
    directory = Path(os.environ.get(GOLDEN_VARIABLE, beside_repository))
    if not directory.is_dir():
        pytest.skip(f"no golden vectors: {directory} is not a directory; set {GOLDEN_VARIABLE}")
    return directory


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real server, for the whole session: tests use queues of their own names."""
    with embedded_redis() as url:
        yield url


@pytest.fixture(scope="session")
def connection(redis_url: str) -> Redis:
    return Redis.from_url(redis_url)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model directory, text as bytes, whose rows run to their limit; do not change it."""
    directory = tmp_path_factory.mktemp("random") / "model"
    write_random_model(directory, RandomModel(layers=2, tokenizer="bytes", seed=1, eos_logit=-30.0))
    return directory


@pytest.fixture(scope="session")
def ending_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose rows end by themselves: without a seed, one in 600 before its first token."""
    directory = tmp_path_factory.mktemp("ending") / "model"
    write_random_model(directory, RandomModel(layers=2, tokenizer="bytes", seed=1))
    return directory


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(f"q-{uuid4().hex}", connection=connection, job_class=HeldJob, serializer=JSONSerializer)


@pytest.fixture
def make_hand(connection: Redis, queue: Queue) -> MakeHand:
    def make(*more: Queue, result_ttl: int = 60) -> Hand:
        return new_hand(connection, queue, *more, result_ttl=result_ttl)

    return make


@pytest.fixture
def hand(make_hand: MakeHand) -> Hand:
    return make_hand()


class _WideResults(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, buffer: Tensor, width: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self._storage, self._width = buffer.untyped_storage().data_ptr(), width

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.ndim:
                continue
            if tensor.shape[-1] >= self._width and tensor.untyped_storage().data_ptr() != self._storage:
                self.found.append(str(func))
        return result


@pytest.fixture(scope="session")
def wide_results() -> WideResults:
    """Lists the operations in a block whose result is as wide as logits, but lies outside their buffer.

    Called with the buffer and the smallest width that counts.
    """

    @contextmanager
    def watch(buffer: Tensor, width: int) -> Iterator[list[str]]:
        with _WideResults(buffer, width) as mode:
            yield mode.found

    return watch
