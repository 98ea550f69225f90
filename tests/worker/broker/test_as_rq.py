"""What RQ's own workers can do besides running jobs, ours can, too."""

import random
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import MakeHand, fetch, leftovers, status
from rwkv_tts.keys import FUNCTION, lease_key
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.lease import NameTakenError
from worker.broker.rules import Rules

MakeWorker = Callable[..., BatchWorker]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def make_worker(redis_url: str, queue: Queue, script: Script) -> MakeWorker:
    """Makes a worker that plays its jobs, of the test's queue or of others."""

    def make(*queues: str, rows: int = 4, **options: Any) -> BatchWorker:
        return BatchWorker(
            worker_connection(redis_url),
            lambda ended, freed: ScriptedBackend(script, ended, freed, rows=rows),
            Rules(queue=queues or (queue.name,), lease_timeout=2),
            max_jobs=rows,
            **options,
        )

    return make


def submit(queue: Queue, text: str = "hello", **wishes: Any) -> str:
    request = {"text": text, "metadata": wishes}
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    return str(plain.enqueue_call(FUNCTION, kwargs={"request": request}).id)


def state(worker: BatchWorker) -> Any:
    return worker.connection.hget(worker.key, "state")


# In which order several queues are served.


@pytest.fixture
def three(connection: Redis) -> list[str]:
    """Three queues with three jobs each, whose texts are a0, a1, a2, b0 and so on."""
    names = [f"{letter}-{uuid4().hex}" for letter in "abc"]
    for name in names:
        for number in range(3):
            submit(Queue(name, connection=connection), f"{name[0]}{number}")
    return names


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_queues_take_turns(make_worker: MakeWorker, script: Script, three: list[str], rows: int) -> None:
    make_worker(*three, rows=rows).work(burst=True, dequeue_strategy="round_robin")
    assert script.started == [f"{letter}{number}" for number in range(3) for letter in "abc"]


def test_queues_take_turns_with_a_queue_that_is_empty(
    make_worker: MakeWorker, script: Script, three: list[str], connection: Redis
) -> None:
    connection.delete(Queue(three[1], connection=connection).key)
    make_worker(*three, rows=2).work(burst=True, dequeue_strategy="round_robin")
    assert script.started == ["a0", "c0", "a1", "c1", "a2", "c2"]


def test_queues_are_served_at_random(make_worker: MakeWorker, script: Script, three: list[str]) -> None:
    random.seed(1)  # one time in 200, chance is in order
    for _ in range(5):
        make_worker(*three, rows=1).work(burst=True, dequeue_strategy="random")
    in_turn = [f"{letter}{number}" for number in range(3) for letter in "abc"]
    assert sorted(script.started) == sorted(in_turn)
    assert script.started not in (in_turn, sorted(in_turn))


# Being looked at.


def test_a_worker_says_that_it_is_idle_as_soon_as_its_last_job_has_ended(
    make_worker: MakeWorker, queue: Queue, script: Script
) -> None:
    held = [submit(queue, f"held {number}", held=True) for number in range(2)]
    worker = make_worker()
    worker._crew.lease.seconds = 3600
    with in_thread(worker):
        until(lambda: all(status(queue, job) == JobStatus.STARTED for job in held))
        worker._crew.signs.next_at = time.monotonic() + 3600  # no beat tells
        submitted = submit(queue)
        until(lambda: status(queue, submitted) == JobStatus.FINISHED)
        assert state(worker) == b"busy"
        script.release.set()
        until(lambda: all(status(queue, job) == JobStatus.FINISHED for job in held))
        assert state(worker) == b"idle"


def test_others_see_a_worker_as_they_see_those_of_rq(
    make_worker: MakeWorker, queue: Queue, connection: Redis, script: Script
) -> None:
    job = submit(queue, held=True)
    with in_thread(make_worker()) as worker:
        until(lambda: status(queue, job) == JobStatus.STARTED)
        (seen,) = BatchWorker.all(queue=queue)
        assert seen == worker
        assert (seen.get_state(), seen.queue_names(), seen.get_current_job_id()) == ("busy", [queue.name], job)
        assert BatchWorker.find_by_key(worker.key, connection) in BatchWorker.all(connection)
        script.release.set()
    assert BatchWorker.all(queue=queue) == []
    assert BatchWorker.find_by_key("rq:worker:nobody", connection) is None


def test_a_worker_that_is_to_stop_says_since_when(make_worker: MakeWorker, queue: Queue, script: Script) -> None:
    job = submit(queue, held=True)
    with in_thread(make_worker()) as worker:
        until(lambda: status(queue, job) == JobStatus.STARTED)
        assert worker.shutdown_requested_date is None
        worker.request_stop()
        until(lambda: worker.shutdown_requested_date is not None)
        script.release.set()


# Working more than once.


def test_a_worker_may_work_again(make_worker: MakeWorker, queue: Queue) -> None:
    worker = make_worker()
    for _ in range(3):
        jobs = [submit(queue) for _ in range(6)]
        assert worker.work(burst=True)
        assert [status(queue, job) for job in jobs] == [JobStatus.FINISHED] * 6
    assert not worker.work(burst=True)
    assert state(worker) == b"idle"
    assert leftovers(queue) == []


def test_what_a_worker_has_put_back_is_done_when_it_works_again(
    make_worker: MakeWorker, queue: Queue, script: Script
) -> None:
    job = submit(queue, held=True)
    worker = make_worker()
    with in_thread(worker):
        until(lambda: status(queue, job) == JobStatus.STARTED)
        worker._crew.drain._seconds = 0.0
    assert (worker.exit_code, queue.job_ids) == (3, [job])
    script.release.set()
    assert worker.work(burst=True)
    assert (worker.exit_code, status(queue, job)) == (0, JobStatus.FINISHED)
    assert len(fetch(queue, job).results()) == 1


# Names.


def test_no_two_workers_have_one_name(make_worker: MakeWorker, queue: Queue, connection: Redis) -> None:
    name = uuid4().hex
    with in_thread(make_worker(name=name)) as worker:
        until(lambda: connection.exists(worker.key))
        with pytest.raises(NameTakenError, match=rf"^name: a worker named '{name}' is registered; accepted: "):
            make_worker(name=name).work(burst=True)
        assert connection.exists(lease_key(name))
        assert connection.hget(worker.key, "pid")
    connection.hset(worker.key, "pid", 1)
    connection.hdel(worker.key, "death")  # of one that was killed, or of a stock worker
    with pytest.raises(NameTakenError):
        make_worker(name=name).work(burst=True)
    assert not connection.exists(lease_key(name))
    connection.delete(worker.key)


def test_what_a_killed_worker_has_left_counts_as_left_when_one_of_its_name_comes(
    make_worker: MakeWorker, make_hand: MakeHand, queue: Queue, connection: Redis, script: Script
) -> None:
    """Its lease has the same name, so that all would look as if it were in good hands."""
    job = submit(queue, held=True)
    killed = make_hand()
    killed.claim()
    killed.die()
    connection.delete(f"rq:worker:{killed.name}")  # a minute later
    with in_thread(make_worker(name=killed.name)):
        until(lambda: script.started)
        assert connection.get(f"rwkv-tts:deaths:{job}") == b"1"
        script.release.set()
        until(lambda: status(queue, job) == JobStatus.FINISHED)
    assert len(fetch(queue, job).results()) == 1
    assert leftovers(queue, killed) == []
