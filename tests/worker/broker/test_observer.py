"""What a worker counts of its jobs, against what becomes of them in a real Redis."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from rq import Callback, Retry
from rq.command import send_stop_job_command
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import MakeHand, enqueue, fetch, status
from rwkv_tts.keys import DEATHS_PREFIX, FUNCTION
from scraping import Samples, shown
from scripted import Script, ScriptedBackend
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules
from worker.ops.metrics import Metrics

Counts = dict[str, float]


class Desk:
    """A worker that plays its jobs, and what it counts."""

    def __init__(self, url: str, queue: Queue) -> None:
        self.metrics, self.script, self.queue = Metrics(), Script(), queue
        self.worker = BatchWorker(
            worker_connection(url),
            lambda ended, freed: ScriptedBackend(self.script, ended, freed, rows=8),
            Rules(queue=(queue.name,), lease_timeout=0.5, drain_timeout=0, max_attempts=2),
            max_jobs=8,
            observers=(self.metrics,),
        )

    def submit(self, job_id: str, *, retry: Retry | None = None, timeout: int = 60, **wishes: object) -> str:
        """Queue a job that behaves as wished; its id is made unique."""
        request = {"text": job_id, "metadata": wishes}
        job_id = f"{job_id}-{self.queue.name}"
        self.queue.enqueue_call(
            FUNCTION, kwargs={"request": request}, job_id=job_id, retry=retry, timeout=timeout, result_ttl=60
        )
        return job_id

    def status(self, job_id: str) -> JobStatus:
        return status(self.queue, job_id)

    def until(self, wanted: JobStatus, *job_ids: str) -> None:
        until(lambda: {self.status(job_id) for job_id in job_ids} == {wanted})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work for the length of the block."""
        thread = threading.Thread(target=self.worker.work)
        thread.start()
        try:
            yield
        finally:
            self.worker.request_stop()
            thread.join()

    def counts(self) -> Counts:
        """What is not zero, by short names."""
        found: Samples = shown(self.metrics.registry)
        return {
            name.removeprefix("rwkv_tts_jobs_"): value
            for name, value in found.items()
            if name.startswith("rwkv_tts_jobs_") and value
        }


@pytest.fixture
def plain_queue(connection: Redis, queue: Queue) -> Queue:
    """The test's queue as producers see it."""
    return Queue(queue.name, connection=connection, serializer=JSONSerializer)


@pytest.fixture
def desk(redis_url: str, plain_queue: Queue) -> Desk:
    return Desk(redis_url, plain_queue)


def test_ends_are_counted_by_what_they_were(desk: Desk) -> None:
    good = [desk.submit(f"good-{i}") for i in range(3)]
    bad = [
        desk.submit("refused", refused="no"),
        desk.submit("fails", fails=1),
        desk.submit("late", held=True, timeout=1),
        enqueue(desk.queue, job_id=f"named-{desk.queue.name}", on_failure=Callback("os.remove")),
    ]
    retried = desk.submit("retried", fails=1, retry=Retry(max=2))
    stopped = desk.submit("stopped", held=True)
    cancelled = desk.submit("cancelled", held=True)
    with desk.working():
        desk.until(JobStatus.STARTED, stopped, cancelled)
        until(lambda: desk.queue.connection.pubsub_numsub(desk.worker.pubsub_channel_name)[0][1])
        send_stop_job_command(desk.queue.connection, stopped)
        fetch(desk.queue, cancelled).cancel()
        desk.until(JobStatus.FINISHED, *good, retried)
        desk.until(JobStatus.FAILED, *bad)
        desk.until(JobStatus.STOPPED, stopped)
        until(lambda: "lost_total" in desk.counts())
    assert desk.counts() == {
        "claimed_total": 11,  # the retried one twice
        "finished_total": 4,
        'failed_total{reason="invalid"}': 2,
        'failed_total{reason="internal"}': 1,
        'failed_total{reason="timeout"}': 1,
        'failed_total{reason="cancelled"}': 1,
        'retried_total{reason="internal"}': 1,
        "lost_total": 1,
    }


def test_jobs_that_go_back_are_counted(desk: Desk) -> None:
    held = [desk.submit(f"held-{i}", held=True) for i in range(3)]
    with desk.working():
        desk.until(JobStatus.STARTED, *held)
    assert desk.queue.job_ids == held
    assert desk.counts() == {"claimed_total": 3, "put_back_total": 3}


def test_recoveries_are_counted_by_the_worker_that_makes_them(
    desk: Desk, redis_url: str, make_hand: MakeHand, queue: Queue
) -> None:
    bystander = Desk(redis_url, desk.queue)
    dead = make_hand()
    back, abandoned = enqueue(queue), enqueue(queue)
    queue.connection.set(DEATHS_PREFIX + abandoned, 1)
    assert len(dead.claim()) == 2
    dead.die()
    with desk.working():
        desk.until(JobStatus.FINISHED, back)
        desk.until(JobStatus.FAILED, abandoned)
    assert desk.counts() == {
        'recovered_total{outcome="put_back"}': 1,
        'recovered_total{outcome="abandoned"}': 1,
        'failed_total{reason="abandoned"}': 1,
        "claimed_total": 1,
        "finished_total": 1,
    }
    assert bystander.counts() == {}
