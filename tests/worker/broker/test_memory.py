"""A Redis with little memory: nothing is claimed that could not be stored, and all is done once there is room."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from loguru import logger
from redis import Redis
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import fetch, leftovers, status
from rwkv_tts.keys import audio_key
from scripted import Script, ScriptedBackend
from servers import SERVERS
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules

LIMIT = 20_000_000
JOBS = 120
AUDIO_BYTES = 320_044
"""Ten seconds of WAV."""


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of its own, whose settings change."""
    folder = tmp_path_factory.mktemp("small")
    path = folder / "redis.sock"
    with SERVERS[request.param](folder, path):
        yield f"unix://{path}"


@pytest.fixture
def connection(server: str) -> Iterator[Redis]:
    one = Redis.from_url(server)
    yield one
    one.config_set("maxmemory", 0)
    one.config_set("maxmemory-policy", "noeviction")
    one.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue(f"q-{uuid4().hex}", connection=connection, serializer=JSONSerializer)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []
    sink = logger.add(found.append, format="{level}: {message}")
    yield found
    logger.remove(sink)


def submit(queue: Queue, number: int, **wishes: Any) -> str:
    request = {"text": f"job {number}", "metadata": {"bytes": AUDIO_BYTES, "seconds": 0.02, **wishes}}
    return str(queue.enqueue_call("worker.tasks.synthesize", kwargs={"request": request}).id)


def used(connection: Redis) -> int:
    """Bytes of memory."""
    return int(connection.info("memory")["used_memory"])


@contextmanager
def working(connection: Redis, queue: Queue, script: Script) -> Iterator[BatchWorker]:
    """A worker in a thread."""
    url = f"unix://{connection.connection_pool.connection_kwargs['path']}"
    worker = BatchWorker(
        worker_connection(url),
        lambda ended, freed: ScriptedBackend(script, ended, freed, rows=16),
        Rules(queue=(queue.name,), lease_timeout=1),
        max_jobs=32,
    )
    with in_thread(worker):
        yield worker


@pytest.mark.parametrize("workers", [1, 3])
def test_load_beyond_the_limit_waits_and_all_of_it_is_done_when_results_are_fetched(
    connection: Redis, queue: Queue, lines: list[str], workers: int
) -> None:
    connection.config_set("maxmemory", LIMIT)
    jobs, script = [submit(queue, number) for number in range(JOBS)], Script()
    with ExitStack() as stack:
        worker, *_ = [stack.enter_context(working(connection, queue, script)) for _ in range(workers)]
        until(lambda: worker.trouble is not None)
        waiting = settled(queue)
        assert LIMIT / AUDIO_BYTES / 2 < JOBS - waiting < LIMIT / AUDIO_BYTES, "most of the room was used"
        time.sleep(1)
        assert worker.trouble is not None
        assert "too much for the results of more jobs" in worker.trouble
        assert queue.count == waiting, "nothing is claimed"
        assert used(connection) < 0.97 * LIMIT, "producers still have room"
        missing = set(jobs)
        while missing:
            missing -= set(fetched(connection, missing))
    assert {status(queue, job) for job in jobs} == {JobStatus.FINISHED}
    assert all(len(fetch(queue, job).results()) == 1 for job in jobs)
    assert leftovers(queue) == []
    assert [line for line in lines if "OOM" in line or "OutOfMemory" in line] == []
    assert len([line for line in lines if "too much for the results" in line]) == workers, "each says it once"


def settled(queue: Queue) -> int:
    """How many jobs wait, when that has not changed for some beats and none runs."""
    while True:
        before = queue.count
        time.sleep(1)
        if queue.count == before and not queue.started_job_registry.count:
            return before


def fetched(connection: Redis, jobs: set[str]) -> list[str]:
    """Take the audio that there is."""
    got = [job for job in jobs if connection.strlen(audio_key(job)) == AUDIO_BYTES]
    if got:
        connection.delete(*map(audio_key, got))
    time.sleep(0.05)
    return got


def test_jobs_that_fill_redis_while_they_wait_are_done_one_by_one(connection: Redis, queue: Queue) -> None:
    for number in range(100):
        connection.set(f"other:{number}", bytes(1_000_000))
    connection.config_set("maxmemory", used(connection) + 9_000_000)
    jobs, script = [submit(queue, number, bytes=1000) for number in range(8)], Script()
    with working(connection, queue, script):
        until(lambda: {status(queue, job) for job in jobs} == {JobStatus.FINISHED})
    assert script.most == 1


@pytest.mark.parametrize(("policy", "warned"), [("noeviction", 0), ("allkeys-lru", 1), ("volatile-ttl", 1)])
def test_a_policy_that_deletes_jobs_is_named_at_the_start(
    connection: Redis, queue: Queue, lines: list[str], policy: str, warned: int
) -> None:
    connection.config_set("maxmemory", LIMIT)
    connection.config_set("maxmemory-policy", policy)
    job, script = submit(queue, 1), Script()
    with working(connection, queue, script):
        until(lambda: status(queue, job) == JobStatus.FINISHED)
    told = [line for line in lines if line.startswith("WARNING: redis: maxmemory-policy")]
    assert len(told) == warned
    assert all(policy in line and "accepted: noeviction" in line for line in told)


def without_limit(_: Redis) -> None:
    """Nothing to do: a server has none by default."""


def without_the_right_to_ask(connection: Redis) -> None:
    connection.config_set("maxmemory", LIMIT)
    connection.acl_setuser("default", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"])
    connection.execute_command("ACL", "SETUSER", "default", "-info")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("prepare", "line"),
    [(without_limit, "INFO: redis: no maxmemory is set"), (without_the_right_to_ask, "WARNING: redis: INFO: ")],
)
def test_without_a_limit_to_keep_a_worker_says_so_once_and_works(
    connection: Redis, queue: Queue, lines: list[str], prepare: Callable[[Redis], None], line: str
) -> None:
    prepare(connection)
    jobs, script = [submit(queue, number, held=True) for number in range(16)], Script()
    try:
        with working(connection, queue, script) as worker:
            until(lambda: script.most == 16)
            script.release.set()
            until(lambda: {status(queue, job) for job in jobs} == {JobStatus.FINISHED})
            time.sleep(1)
            assert worker.trouble is None
    finally:
        connection.execute_command("ACL", "SETUSER", "default", "+info")  # type: ignore[no-untyped-call]
    assert len([one for one in lines if one.startswith(line)]) == 1


def test_large_results_are_recorded_in_several_calls(connection: Redis, queue: Queue) -> None:
    """All of them in one would not fit, though each of them does."""
    jobs, script = [submit(queue, number, bytes=2_000_000, held=True) for number in range(16)], Script()
    with working(connection, queue, script) as worker:
        until(lambda: len(script.started) == 16)
        connection.config_set("maxmemory", used(connection) + 46_000_000)
        script.release.set()
        until(lambda: {status(queue, job) for job in jobs} == {JobStatus.FINISHED})
        assert worker.trouble is None or "MB of its memory" in worker.trouble
