"""RQ's maintenance, without what it would do to started jobs: those are the recovery's."""

from collections.abc import Sequence

from redis import Redis
from rq.group import Group
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.worker_registration import clean_worker_registry

from worker.broker.jobs import HeldJob
from worker.broker.recovery import Recovery
from worker.broker.tolerance import tolerant

INTERVAL_SECONDS = 30.0


def clean(connection: Redis, queues: Sequence[Queue], recovery: Recovery) -> None:
    """Forget what has expired and finish what was left half done; what is malformed is skipped."""
    for queue in queues:
        if queue.acquire_maintenance_lock():
            _clean_queue(queue, recovery)
            queue.release_maintenance_lock()
    with tolerant("maintenance: rate limits"):
        for limit in RateLimitRegistry.all(connection):
            with tolerant(f"maintenance: rate limit {limit.key!r}"):
                limit.cleanup()
    with tolerant("maintenance: groups"):
        if Group.acquire_maintenance_lock(connection, int(INTERVAL_SECONDS)):
            Group.clean_registries(connection=connection)


def _clean_queue(queue: Queue, recovery: Recovery) -> None:
    for registry in (FinishedJobRegistry, FailedJobRegistry, ReadyJobRegistry):
        with tolerant(f"maintenance: {registry.__name__}"):
            registry(queue=queue, job_class=HeldJob).cleanup()
    with tolerant("maintenance: workers"):
        clean_worker_registry(queue)
    with tolerant("maintenance: intermediate queue"):
        recovery.rescue(queue)
