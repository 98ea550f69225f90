"""Finds jobs of dead workers: they go back to the front of their queue, or fail when it happens too often."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.queue import Queue
from rq.utils import now

from rwkv_tts.keys import DEATHS_PREFIX, HOLDERS_PREFIX, LEASE_PREFIX, RECOVERY_PREFIX
from worker.broker.claim import (
    EXECUTION_PREFIX,
    EXECUTIONS_PREFIX,
    HORIZON_SECONDS,
    JOB_PREFIX,
    Claimed,
    Claimer,
)
from worker.broker.scripts import lua

_WORKERS_EXECUTIONS = WORKER_EXECUTIONS_KEY_TEMPLATE.format("%s")
_PREFIXES = (DEATHS_PREFIX, JOB_PREFIX, EXECUTION_PREFIX, EXECUTIONS_PREFIX, _WORKERS_EXECUTIONS, LEASE_PREFIX)
_AT_ONCE = 500
"""Executions that one call of the script ends, or looks at: Redis is blocked meanwhile."""

_SILENT_SECONDS = 60.0
"""An execution without a heartbeat for so long is looked at; workers give each of theirs one every 15 seconds."""


@dataclass(frozen=True)
class Exhausted:
    """A job that must fail now, because too many workers have died while they ran it."""

    claimed: Claimed
    last_worker: str


class Recovery:
    """Looks after the jobs of dead workers; what it costs Redis grows with the workers, not with their jobs.

    Args:
        connection: Redis.
        worker_name: RQ's name of the worker that looks.
        lease: Its lease.
        max_attempts: Starts of a job that may end in a worker's death.
        claimer: Reads the jobs that are to fail.
    """

    def __init__(
        self, connection: Redis, worker_name: str, lease: str, max_attempts: int, claimer: Claimer
    ) -> None:
        self._connection = connection
        self._worker, self._lease = worker_name, lease
        self.max_attempts = max_attempts
        self._claimer = claimer
        self._recover = connection.register_script(lua("recover"))
        self._rescue = connection.register_script(lua("rescue"))

    def run(self, queue: Queue, lock_seconds: float) -> tuple[int, Sequence[Exhausted]]:
        """Look once, unless another worker has just done so.

        Returns:
            How many jobs went back to the queue, and the jobs that the caller must fail.
        """
        back, exhausted, more = 0, list[Exhausted](), 1
        while more:
            went, failing, more = self._look(queue, lock_seconds)
            back, exhausted = back + went, exhausted + failing
        return back, exhausted

    def _look(self, queue: Queue, lock_seconds: float) -> tuple[int, list[Exhausted], int]:
        """Call the script once; it also tells whether there are more."""
        holders = HOLDERS_PREFIX + queue.name
        terms = (HORIZON_SECONDS, self.max_attempts, _AT_ONCE, _SILENT_SECONDS, random.random())  # noqa: S311
        back, exhausted, more = self._recover(
            keys=[queue.started_job_registry.key, queue.key, RECOVERY_PREFIX + queue.name, holders],
            args=[round(lock_seconds * 1000), self._worker, self._lease, now().timestamp(), *terms, *_PREFIXES],
        )
        jobs = [
            Exhausted(
                self._claimer.read(job_id.decode(), execution.decode(), flat, queue),
                worker.decode(errors="replace"),
            )
            for job_id, execution, worker, flat in exhausted
        ]
        return back, jobs, more

    def rescue(self, queue: Queue) -> None:
        """Put back what stock workers took off the queue and never started."""
        stranded = queue.intermediate_queue
        for raw_id in self._connection.lrange(stranded.key, 0, -1):
            job_id = raw_id.decode(errors="replace") if isinstance(raw_id, bytes) else raw_id
            if stranded.should_be_cleaned_up(job_id):
                self._rescue(keys=[stranded.key, queue.key], args=[raw_id])
            else:
                stranded.set_first_seen(job_id)
