"""Back-pressure: a bound that holds under concurrency, and an error that tells how long it may take."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from rq.queue import Queue

from hands import Hand, status
from rwkv_tts.client import TTSClient
from rwkv_tts.load import QueueLoad
from rwkv_tts.submission import QueueFullError
from worker.broker.lease import Lease


def announce(queue: Queue, name: str, **says: Any) -> None:
    """Be a live worker of the queue, as far as its load goes."""
    with queue.connection.pipeline() as pipeline:
        Lease(name, 60).renew({"max_queue": None, "running": 0, "jobs_per_second": 0.0, **says}, pipeline)
        pipeline.sadd(f"rq:workers:{queue.name}", f"rq:worker:{name}")
        pipeline.execute()


def test_the_limit_holds_exactly_with_many_producers(redis_url: str, queue: Queue) -> None:
    clients = [TTSClient(redis_url, queue.name, max_queue=10) for _ in range(8)]

    def submit(client: TTSClient) -> int:
        refused = 0
        for _ in range(5):
            try:
                client.submit("hello")
            except QueueFullError:
                refused += 1
        return refused

    with ThreadPoolExecutor(8) as threads:
        refused = sum(threads.map(submit, clients))
    assert (queue.count, refused) == (10, 30)
    assert len(queue.connection.keys("rq:job:*")) >= 10


def test_a_refusal_names_depth_limit_and_wait_and_leaves_nothing(connection: Redis, queue: Queue) -> None:
    announce(queue, queue.name, jobs_per_second=0.5, running=4)
    client = TTSClient(connection, queue.name, max_queue=2)
    kept = [client.submit("hello") for _ in range(2)]
    before = connection.dbsize()
    message = f"queue {queue.name}: 2 jobs wait, 2 may; estimated wait 4 s"
    with pytest.raises(QueueFullError, match=message):
        client.submit("hello")
    assert connection.dbsize() == before
    assert queue.job_ids == kept
    connection.lpop(queue.key)
    client.submit("hello")


def test_the_workers_announce_the_limit(connection: Redis, queue: Queue) -> None:
    announce(queue, queue.name + "-1", max_queue=5)
    announce(queue, queue.name + "-2", max_queue=1)
    client = TTSClient(connection, queue.name)
    client.submit("hello")
    with pytest.raises(QueueFullError, match="1 jobs wait, 1 may; estimated wait unknown"):
        client.submit("hello")


def test_options_of_rq_pass_through_under_a_limit(connection: Redis, queue: Queue, hand: Hand) -> None:
    client = TTSClient(connection, queue.name, max_queue=2)
    first = client.submit("hello", job_options={"job_id": queue.name, "timeout": 7, "meta": {"a": 1}})
    assert first == queue.name
    dependent = client.submit("world", job_options={"depends_on": first})
    assert status(queue, dependent) == "deferred"
    (claimed,) = hand.claim()
    assert (claimed.id, claimed.job.timeout) == (first, 7)
    assert claimed.request["text"] == "hello"


def test_without_a_limit_nobody_is_refused(connection: Redis, queue: Queue) -> None:
    client = TTSClient(connection, queue.name)
    for _ in range(20):
        client.submit("hello")
    assert client.load() == QueueLoad(depth=20, limit=None, workers=0, running=0, jobs_per_second=0.0)


def test_dead_workers_do_not_count(connection: Redis, queue: Queue) -> None:
    announce(queue, queue.name + "-1", jobs_per_second=2.0, running=3)
    announce(queue, queue.name + "-2", jobs_per_second=1.0, running=1)
    Lease(queue.name + "-2", 60).release(connection)
    assert TTSClient(connection, queue.name).load() == QueueLoad(0, None, 1, 3, 2.0, capacity=2.0)


def test_what_a_worker_can_do_counts_more_than_what_it_did_in_a_quiet_minute(
    connection: Redis, queue: Queue
) -> None:
    announce(queue, queue.name + "-1", jobs_per_second=0.1, capacity=3.0)
    announce(queue, queue.name + "-2", jobs_per_second=1.0)
    client = TTSClient(connection, queue.name)
    for _ in range(8):
        client.submit("hello")
    assert client.load().estimated_wait == 2.0


@pytest.mark.parametrize(
    ("load", "seconds"),
    [
        (QueueLoad(10, None, 2, 8, 2.5), 4.0),
        (QueueLoad(0, None, 1, 8, 0.0), 0.0),
        (QueueLoad(0, None, 0, 0, 0.0), None),
        (QueueLoad(10, None, 1, 8, 0.25, capacity=2.5), 4.0),
        (QueueLoad(10, None, 1, 8, 0.0), None),
    ],
)
def test_estimated_wait(load: QueueLoad, seconds: float | None) -> None:
    assert load.estimated_wait == seconds
