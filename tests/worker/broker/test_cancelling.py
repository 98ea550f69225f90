"""Cancelling: the producer is told what comes of it, and no lost message undoes it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from redis import Redis
from rq.job import JobStatus, Retry
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import MakeHand, enqueue, leftovers, status
from rwkv_tts import TTSClient
from rwkv_tts.keys import ARGUMENT, CANCELLED_PREFIX, FUNCTION
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.outcome import Fate, Outcome
from worker.broker.rules import Rules

Working = Callable[[], AbstractContextManager[BatchWorker]]


@pytest.fixture
def client(connection: Redis, queue: Queue) -> TTSClient:
    return TTSClient(connection, queue.name)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def working(redis_url: str, queue: Queue, script: Script) -> Working:
    def start() -> AbstractContextManager[BatchWorker]:
        rules = Rules(queue=(queue.name,), lease_timeout=2)
        connection = worker_connection(redis_url)
        worker = BatchWorker(connection, lambda *told: ScriptedBackend(script, *told), rules, max_jobs=8)
        return in_thread(worker)

    return start


def submit(queue: Queue, retry: Retry | None = None, **wishes: Any) -> str:
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    request = {"text": "hello", "metadata": wishes}
    return str(plain.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, retry=retry).id)


def noted(queue: Queue) -> Any:
    return queue.connection.zrange(CANCELLED_PREFIX + queue.name, 0, -1)


def test_a_queued_job_is_taken_off(client: TTSClient, queue: Queue) -> None:
    job = enqueue(queue)
    assert client.cancel(job)
    assert (status(queue, job), queue.job_ids) == (JobStatus.CANCELED, [])
    assert not client.cancel(job)


def test_a_running_job_stops_though_nobody_hears_the_message(
    client: TTSClient, working: Working, queue: Queue
) -> None:
    job, other = submit(queue, held=True), submit(queue, held=True)
    with working() as worker:
        until(lambda: status(queue, other) == JobStatus.STARTED)
        worker.unsubscribe()
        assert client.cancel(job)
        until(lambda: status(queue, job) == JobStatus.STOPPED)
        assert status(queue, other) == JobStatus.STARTED
        assert client.cancel(other)
    assert not client.cancel(job)
    assert (noted(queue), leftovers(queue)) == ([], [])


def test_a_connection_that_is_cut_right_before_loses_no_cancellation(
    client: TTSClient, working: Working, queue: Queue, connection: Redis
) -> None:
    job = submit(queue, held=True)
    with working():
        until(lambda: status(queue, job) == JobStatus.STARTED)
        connection.client_kill_filter(_type="pubsub")
        assert client.cancel(job)
        until(lambda: status(queue, job) == JobStatus.STOPPED)


def test_a_job_that_was_cancelled_under_a_dead_worker_does_not_run_again(
    client: TTSClient, working: Working, make_hand: MakeHand, queue: Queue, script: Script
) -> None:
    job, hand = submit(queue, held=True), make_hand()
    (claimed,) = hand.claim()
    assert client.cancel(job)
    assert hand.committer.commit([Outcome(claimed, Fate.PUT_BACK)]) == [True]
    with working():
        until(lambda: status(queue, job) == JobStatus.STOPPED)
    assert script.started == []
    assert (noted(queue), leftovers(queue)) == ([], [])


def test_a_job_that_ends_by_itself_leaves_no_note(client: TTSClient, make_hand: MakeHand, queue: Queue) -> None:
    job, hand = submit(queue), make_hand()
    (claimed,) = hand.claim()
    assert client.cancel(job)
    assert hand.committer.commit([Outcome(claimed, Fate.FINISHED, {"said": "hello"})]) == [True]
    assert (noted(queue), client.cancel(job)) == ([], False)


def test_what_is_no_note_stops_no_worker(working: Working, queue: Queue, connection: Redis) -> None:
    connection.hset(CANCELLED_PREFIX + queue.name, "a", "b")
    with working() as worker:
        job = submit(queue)
        until(lambda: status(queue, job) == JobStatus.FINISHED)
        assert worker.trouble is None
        until(lambda: not connection.exists(CANCELLED_PREFIX + queue.name))
