"""What a worker does for all now and then: the jobs of dead workers, RQ's listings, what has expired."""

import time
from collections.abc import Sequence

from loguru import logger
from redis import Redis
from rq.queue import Queue

from rwkv_tts.refusal import Cause, Refusal
from worker.broker import maintenance
from worker.broker.claim import HORIZON_SECONDS
from worker.broker.endings import AT_ONCE, Endings
from worker.broker.lease import Lease
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome
from worker.broker.recovery import Recovery
from worker.broker.running import RunningJobs

_HEARTBEAT_SECONDS = 15.0


class Upkeep:
    """Does what is due.

    Args:
        connection: Redis.
        queues: Those that the worker serves.
        lease: Tells whether silence means death.
        recovery: Finds jobs of dead workers.
        jobs: Those that run here; those that must fail are added.
        endings: Gets jobs that must fail.
        observer: Is told of recovered jobs.
    """

    def __init__(
        self,
        connection: Redis,
        queues: Sequence[Queue],
        lease: Lease,
        recovery: Recovery,
        jobs: RunningJobs,
        endings: Endings,
        observer: Observer,
    ) -> None:
        self._connection, self._queues = connection, queues
        self._lease, self._recovery = lease, recovery
        self._jobs, self._endings, self._observer = jobs, endings, observer
        self._next_heartbeat = self._next_cleaning = 0.0

    def run(self) -> int:
        """Do it; returns how many jobs of dead workers went back to their queues."""
        moment, back = time.monotonic(), 0
        if self._lease.may_judge:
            back = sum(map(self._recover, self._queues))
        if moment >= self._next_heartbeat:
            self._next_heartbeat = moment + _HEARTBEAT_SECONDS
            self._heartbeat_jobs()
        if moment >= self._next_cleaning:
            self._next_cleaning = moment + maintenance.INTERVAL_SECONDS
            maintenance.clean(self._connection, self._queues, self._recovery)
        return back

    def _recover(self, queue: Queue) -> int:
        back, exhausted = self._recovery.run(queue, self._lease.interval)
        if back:
            logger.warning("queue {}: {} jobs of dead workers went back", queue.name, back)
        self._observer.recovered(back, len(exhausted))
        for one in exhausted:
            self._jobs.enter(one.claimed)
            problem = (
                f"{self._recovery.max_attempts} workers died while they ran it "
                f"(setting max_attempts); the last was {one.last_worker}"
            )
            refusal = Refusal("abandoned", Cause.ABANDONED, problem)
            self._endings.end(Outcome(one.claimed, Fate.FAILED, refusal=refusal))
        return back

    def _heartbeat_jobs(self) -> None:
        """What RQ's tools show of running jobs; those that have ended may have no execution any more."""
        ended = self._endings.waiting_ids
        running = [one for one in self._jobs if one.claimed.id not in ended]
        for i in range(0, len(running), AT_ONCE):
            with self._connection.pipeline(transaction=False) as pipeline:
                for one in running[i : i + AT_ONCE]:
                    registry = one.claimed.queue.started_job_registry
                    one.claimed.execution.heartbeat(registry, HORIZON_SECONDS, pipeline=pipeline)
                pipeline.execute()
