"""What a worker meets at the edges: keys of the wrong type, ids by the thousand, claims it has never heard of."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import MakeHand, enqueue, fetch, leftovers, status
from rwkv_tts import JobFailedError, TTSClient
from rwkv_tts.keys import FUNCTION, PRESENCE_KEY, lease_key
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.claim import MOST_DROPPED, Claimer
from worker.broker.connection import worker_connection
from worker.broker.lease import Lease
from worker.broker.rules import Rules

Working = Callable[..., AbstractContextManager[BatchWorker]]


@pytest.fixture
def working(redis_url: str) -> Working:
    """Starts a worker that plays its jobs, in a thread, for the length of a block."""

    @contextmanager
    def start(*queues: str) -> Iterator[BatchWorker]:
        worker = BatchWorker(
            worker_connection(redis_url),
            lambda ended, freed: ScriptedBackend(Script(), ended, freed, rows=16),
            Rules(queue=queues, lease_timeout=2),
            max_jobs=16,
        )
        with in_thread(worker):
            yield worker

    return start


def submit(queue: Queue, text: str = "hello", job_id: str | None = None, **wishes: Any) -> str:
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    request = {"text": text, "metadata": wishes}
    return str(plain.enqueue_call(FUNCTION, kwargs={"request": request}, job_id=job_id).id)


def test_bad_jobs_do_not_wait_for_the_next_sign_of_life(working: Working, queue: Queue) -> None:
    """A beat is due each half second; sixteen jobs a beat would take half a minute here."""
    jobs = [submit(queue, refused="no") for _ in range(1000)]
    with working(queue.name):
        until(lambda: queue.failed_job_registry.count == len(jobs), timeout=25)
    assert leftovers(queue) == []


def test_ids_that_name_nothing_are_taken_off_in_small_bites(
    make_hand: MakeHand, working: Working, queue: Queue
) -> None:
    queue.connection.rpush(queue.key, *(f"gone-{number}" for number in range(3 * MOST_DROPPED)))
    job = submit(queue)
    claim = make_hand().claimer.claim(5)
    assert (claim.dropped, list(claim.claimed)) == (MOST_DROPPED, [])
    with working(queue.name):
        until(lambda: status(queue, job) == JobStatus.FINISHED)


def test_a_queue_that_is_no_list_does_not_stop_the_others(
    working: Working, queue: Queue, connection: Redis
) -> None:
    broken = Queue(f"{queue.name}-broken", connection=connection)
    connection.hset(broken.key, "a", "b")
    job = submit(queue)
    with working(broken.name, queue.name) as worker:
        until(lambda: status(queue, job) == JobStatus.FINISHED)
        assert worker.trouble is None
    connection.delete(broken.key)


@pytest.mark.parametrize("job_id", ["order.1", "tenant:7", "日本"])
def test_a_job_whose_id_rq_would_not_write_fails_with_a_reason(
    working: Working, queue: Queue, connection: Redis, job_id: str
) -> None:
    """Written by another program: RQ itself refuses to."""
    good = submit(queue)
    connection.rename(Job.key_for(submit(queue, job_id="stand-in")), Job.key_for(job_id))
    connection.lrem(queue.key, 0, "stand-in")
    connection.rpush(queue.key, job_id)
    with working(queue.name):
        until(lambda: queue.count == 0 and status(queue, good) == JobStatus.FINISHED)
    assert connection.hget(Job.key_for(job_id), "status") == b"failed"
    assert connection.hget(Job.key_for(job_id), "exc_info") == b"job id: accepted are letters, digits, - and _"
    connection.delete(Job.key_for(job_id))


def test_a_claim_that_the_worker_has_never_heard_of_goes_back(working: Working, queue: Queue) -> None:
    """As when Redis has lost the answer, or was set back by a second after its end was recorded."""
    with working(queue.name) as worker:
        until(lambda: worker.get_state() == "idle")
        lease = lease_key(worker.name)
        claimer = Claimer(queue.connection, [queue], worker.name, worker.key, lease, 1 << 20, deadly=2)
        queue.connection.set("rq:suspended", 1)
        try:
            job = enqueue(queue)
            queue.connection.delete("rq:suspended")
            claimer.claim(1)
        finally:
            queue.connection.delete("rq:suspended")
        until(lambda: status(queue, job) == JobStatus.FINISHED)
    assert len(fetch(queue, job).results()) == 1
    assert leftovers(queue) == []


def test_a_clock_that_was_set_back_does_not_end_recovery(connection: Redis) -> None:
    seconds = 0.2
    connection.set(PRESENCE_KEY, f"{time.time() + 3600:.6f}", px=60_000)
    lease = Lease("clock", seconds)
    deadline = time.monotonic() + 60
    while not lease.may_judge:
        assert time.monotonic() < deadline
        with connection.pipeline(transaction=False) as pipeline:
            lease.renew({}, pipeline)
            lease.renewed(*pipeline.execute())
        time.sleep(0.02)
    lease.release(connection)


def test_the_client_is_told_of_a_failure_that_left_no_entry(queue: Queue, connection: Redis) -> None:
    job = submit(queue)
    connection.hset(Job.key_for(job), mapping={"status": "failed", "exc_info": "job id: no"})
    with pytest.raises(JobFailedError, match="job id: no"):
        TTSClient(connection, queue.name).result(job, timeout=5)


# How long it works, as RQ's workers are told.


def make_worker(url: str, queue: Queue) -> BatchWorker:
    return BatchWorker(
        worker_connection(url),
        lambda ended, freed: ScriptedBackend(Script(), ended, freed, rows=4),
        Rules(queue=(queue.name,), lease_timeout=2),
        max_jobs=8,
    )


@pytest.mark.parametrize("most", [1, 3, 6])
def test_it_ends_after_as_many_jobs_as_it_was_told(redis_url: str, queue: Queue, most: int) -> None:
    jobs = [submit(queue, f"job {number}") for number in range(7)]
    worker = make_worker(redis_url, queue)
    assert worker.work(max_jobs=most)
    assert [status(queue, job) for job in jobs] == [JobStatus.FINISHED] * most + [JobStatus.QUEUED] * (7 - most)
    assert queue.job_ids == jobs[most:]
    assert leftovers(queue) == []


def test_it_ends_when_it_was_idle_for_too_long(redis_url: str, queue: Queue) -> None:
    job = submit(queue)
    worker = make_worker(redis_url, queue)
    assert worker.work(max_idle_time=1)
    assert status(queue, job) == JobStatus.FINISHED


def test_it_says_what_it_cannot_do(redis_url: str, queue: Queue) -> None:
    worker: Any = make_worker(redis_url, queue)
    with pytest.raises(ValueError, match=r"^dequeue_strategy: 'fair'; accepted: default, round_robin, random$"):
        worker.work(dequeue_strategy="fair")
    with pytest.raises(TypeError, match="max_job"):
        worker.work(max_job=1)
