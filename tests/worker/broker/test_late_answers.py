"""The worker around a backend of a few lines, when Redis answers late or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.job import JobStatus
from rq.queue import Queue

from hands import enqueue, fetch, leftovers, status
from rwkv_tts.keys import DEATHS_PREFIX
from rwkv_tts.refusal import Refusal
from threads import in_thread
from waiting import until
from worker.broker.backend import Backend, Ended
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules


class Echo(Backend):
    """Ends every job at once."""

    def __init__(self, ended: Callable[[Ended], None]) -> None:
        self._ended = ended

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes], /) -> None:
        self._ended(Ended(job_id, {"said": request["text"]}))

    def cancel(self, job_id: str, refusal: Refusal, /) -> None:
        """Too late for all of them."""

    def room(self) -> int:
        return 4

    def progress(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing to close."""


@contextmanager
def working(url: str, queue: Queue, prepare: Callable[[BatchWorker], None]) -> Iterator[BatchWorker]:
    """A worker in a thread, for the length of the block."""
    rules = Rules(queue=(queue.name,), lease_timeout=2)
    worker = BatchWorker(worker_connection(url), lambda ended, _: Echo(ended), rules, max_jobs=8)
    prepare(worker)
    with in_thread(worker):
        yield worker


def once(function: Callable[..., Any], error: Exception, *, before: bool) -> Callable[..., Any]:
    """Let the first call end by an error, before or after it has done its work."""
    calls = iter([True])

    def call(*args: Any, **kwargs: Any) -> Any:
        first = next(calls, False)
        if first and before:
            raise error
        value = function(*args, **kwargs)
        if first:
            raise error
        return value

    return call


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("error", [RedisTimeoutError("no answer"), RedisConnectionError("cut")])
def test_a_claim_without_an_answer_loses_no_job(
    redis_url: str, queue: Queue, before: bool, error: Exception
) -> None:
    """The server may have done it all the same: the worker owns jobs that it does not know of."""
    jobs = [enqueue(queue) for _ in range(6)]

    def prepare(worker: BatchWorker) -> None:
        claimer = worker._crew.intake._claimer
        claimer.claim = once(claimer.claim, error, before=before)  # type: ignore[method-assign]

    with working(redis_url, queue, prepare) as worker:
        until(lambda: {status(queue, i) for i in jobs} == {JobStatus.FINISHED})
    assert worker.exit_code is ExitCode.DRAINED
    assert all(len(fetch(queue, i).results()) == 1 for i in jobs)
    assert not any(queue.connection.exists(DEATHS_PREFIX + i) for i in jobs)
    assert leftovers(queue) == []


@pytest.mark.parametrize("before", [True, False])
def test_a_commit_without_an_answer_is_sent_again_and_counts_once(
    redis_url: str, queue: Queue, before: bool
) -> None:
    jobs = [enqueue(queue) for _ in range(6)]

    def prepare(worker: BatchWorker) -> None:
        committer = worker._crew.endings._committer
        error = RedisTimeoutError("no answer")
        committer.commit = once(committer.commit, error, before=before)  # type: ignore[method-assign]

    with working(redis_url, queue, prepare):
        until(lambda: {status(queue, i) for i in jobs} == {JobStatus.FINISHED})
    assert all(len(fetch(queue, i).results()) == 1 for i in jobs)
    assert leftovers(queue) == []


@pytest.mark.parametrize("error", [RedisTimeoutError("no answer"), RedisConnectionError("cut")])
def test_a_job_whose_voice_could_not_be_looked_up_goes_back_and_ends(
    redis_url: str, queue: Queue, error: Exception
) -> None:
    jobs = [enqueue(queue) for _ in range(6)]

    def prepare(worker: BatchWorker) -> None:
        backend = worker._crew.backend
        backend.submit = once(backend.submit, error, before=True)  # type: ignore[method-assign]

    with working(redis_url, queue, prepare):
        until(lambda: {status(queue, i) for i in jobs} == {JobStatus.FINISHED})
    assert all(len(fetch(queue, i).results()) == 1 for i in jobs)
    assert not any(queue.connection.exists(DEATHS_PREFIX + i) for i in jobs)
    assert leftovers(queue) == []


def test_a_worker_is_found_again_after_its_hash_has_expired(redis_url: str, queue: Queue) -> None:
    with working(redis_url, queue, lambda _: None) as worker:
        connection: Redis = queue.connection
        until(lambda: connection.exists(worker.key))
        until(lambda: worker.get_state() == "idle")
        connection.delete(worker.key)
        connection.srem("rq:workers", worker.key)
        until(lambda: connection.hexists(worker.key, "birth"))
        assert connection.sismember("rq:workers", worker.key)
        assert connection.ttl(worker.key) > 0
