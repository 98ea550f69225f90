"""Enqueues jobs whose time has come: retries and repeats with an interval, ``enqueue_in``, ``enqueue_at``."""

import time
from collections.abc import Sequence

from loguru import logger
from redis import Redis
from rq.queue import Queue
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from worker.broker.claim import JOB_PREFIX
from worker.broker.jobs import HeldJob, restore_job
from worker.broker.scripts import lua
from worker.broker.tolerance import is_malformed

_AT_ONCE = 100


class Scheduler:
    """RQ's scheduler inside the worker, without a process of its own: it holds RQ's locks, so that one scheduler
    at a time serves a queue, and ``rq info`` lists it.

    Args:
        connection: Redis.
        queues: The queues to serve.
    """

    def __init__(self, connection: Redis, queues: Sequence[Queue]) -> None:
        self._queues = {queue.name: queue for queue in queues}
        self._locks = RQScheduler(
            list(queues), connection=connection, logging_level="WARNING", serializer=JSONSerializer
        )
        self._locks._connection = connection  # type: ignore[assignment]
        self._script = connection.register_script(lua("enqueue_due"))
        self._connection = connection
        self._next = 0.0

    def start(self) -> None:
        self._locks.acquire_locks()
        self._locks.register_birth()

    def run(self) -> None:
        """Enqueue what is due, at most once a second."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._locks.interval
        if self._locks.should_reacquire_locks:
            self._locks.acquire_locks()
        self._locks.heartbeat()
        for name in self._locks.acquired_locks:
            self._enqueue_due(self._queues[name])

    def stop(self) -> None:
        """Let another scheduler take over at once."""
        self._locks.stop()

    def _enqueue_due(self, queue: Queue) -> None:
        registry, moment = queue.scheduled_job_registry, now()
        limited = self._script(
            keys=[registry.key, queue.key],
            args=[moment.timestamp(), _AT_ONCE, JOB_PREFIX, utcformat(moment)],
        )
        for raw_id, flat in limited:
            raw = dict(zip(flat[::2], flat[1::2], strict=True))
            job = restore_job(raw_id.decode(), raw, self._connection, queue.name)
            if not (job.has_rate_limit and self._enqueue_limited(queue, job)):
                logger.warning("job {job}: its rate limit is not readable; it is queued without", job=job.id)
                with self._connection.pipeline() as pipeline:
                    registry.remove(job.id, pipeline=pipeline)
                    queue._enqueue_job(job, pipeline=pipeline)
                    pipeline.execute()

    def _enqueue_limited(self, queue: Queue, job: HeldJob) -> bool:
        """Let a job wait for a slot; False when it cannot, because the keys of its rate limit are malformed."""
        try:
            with self._connection.pipeline() as pipeline:
                queue.scheduled_job_registry.remove(job.id, pipeline=pipeline)
                queue._enqueue_rate_limited_job(job, pipeline=pipeline, at_front=job.should_enqueue_at_front())
                pipeline.execute()
        except Exception as error:
            if not is_malformed(error):
                raise
            # The other commands of the transaction were run, so that it may be on its queue.
            return self._connection.hget(job.key, "status") == b"queued"
        return True
