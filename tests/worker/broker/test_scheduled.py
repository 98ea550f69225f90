"""The scheduler inside a worker, beside RQ's own."""

import time
from datetime import timedelta

from redis import Redis
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue
from rq.rate_limit import RateLimit
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from rq.utils import now

from hands import enqueue, fetch, status
from worker.broker.scheduled import Scheduler


def schedule(queue: Queue, seconds_ago: float, **options: object) -> str:
    job_id = enqueue(queue, **options)
    queue.connection.lrem(queue.key, 1, job_id)
    job = fetch(queue, job_id)
    Queue(queue.name, connection=queue.connection, serializer=JSONSerializer).schedule_job(
        job, now() - timedelta(seconds=seconds_ago)
    )
    return job_id


def test_what_is_due_is_queued_once_in_order_and_the_rest_waits(connection: Redis, queue: Queue) -> None:
    later, second, first = schedule(queue, -60), schedule(queue, 1), schedule(queue, 5)
    scheduler = Scheduler(connection, [queue])
    scheduler.start()
    scheduler.run()
    assert queue.job_ids == [first, second]
    assert [status(queue, i) for i in (later, first)] == [JobStatus.SCHEDULED, JobStatus.QUEUED]
    assert queue.scheduled_job_registry.get_job_ids() == [later]
    scheduler.stop()


def test_front_stays_front(connection: Redis, queue: Queue) -> None:
    waiting = enqueue(queue)
    retried = schedule(queue, 1, retry=Retry(max=2, interval=1, enqueue_at_front=True))
    connection.hset(Job.key_for(retried), "ended_at", "2026-01-01T00:00:00.000000Z")
    scheduler = Scheduler(connection, [queue])
    scheduler.start()
    scheduler.run()
    assert queue.job_ids == [retried, waiting]
    scheduler.stop()


def test_one_scheduler_at_a_time(connection: Redis, queue: Queue) -> None:
    job_id = schedule(queue, 1)
    stock = RQScheduler([queue], connection=connection, serializer=JSONSerializer)
    assert stock.acquire_locks()  # type: ignore[no-untyped-call]
    ours = Scheduler(connection, [queue])
    ours.start()
    ours.run()
    assert queue.count == 0
    stock.release_locks()  # type: ignore[no-untyped-call]
    ours.start()
    time.sleep(1.01)
    ours.run()
    assert queue.job_ids == [job_id]
    assert not stock.acquire_locks()  # type: ignore[no-untyped-call]
    ours.stop()
    assert stock.acquire_locks()  # type: ignore[no-untyped-call]
    stock.release_locks()  # type: ignore[no-untyped-call]


def test_unreadable_and_deleted_jobs_do_not_stop_the_others(connection: Redis, queue: Queue) -> None:
    gone, broken, text, good = (schedule(queue, seconds) for seconds in (4, 3, 2, 1))
    connection.delete(Job.key_for(gone))
    connection.hset(Job.key_for(broken), mapping={"created_at": b"\xff", "timeout": "soon"})
    connection.delete(Job.key_for(text))
    connection.set(Job.key_for(text), "no hash")
    scheduler = Scheduler(connection, [queue])
    scheduler.start()
    scheduler.run()
    assert queue.job_ids == [broken, good]
    assert queue.scheduled_job_registry.count == 0
    scheduler.stop()


def test_a_rate_limit_is_kept(connection: Redis, queue: Queue) -> None:
    limit = RateLimit(queue.name, 1)
    jobs = [schedule(queue, 5 - i, rate_limit=limit) for i in range(2)]
    connection.delete(*connection.keys(f"rq:rl:{queue.name}*"))
    scheduler = Scheduler(connection, [queue])
    scheduler.start()
    scheduler.run()
    assert queue.job_ids == jobs[:1]
    assert status(queue, jobs[1]) == JobStatus.RATE_LIMITED
    scheduler.stop()
