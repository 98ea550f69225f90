"""A worker's signs of life: its lease, what it says in it, and whether its jobs are still its own."""

import time
from collections.abc import Callable, Iterable
from itertools import chain, groupby
from typing import Any

from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus
from rq.worker_registration import register

from rwkv_tts.keys import CANCELLED_PREFIX
from rwkv_tts.refusal import Cause, Refusal
from worker.broker.backend import Backend
from worker.broker.claim import HORIZON_SECONDS
from worker.broker.endings import Endings
from worker.broker.lease import REPLIES, Lease, NameTakenError
from worker.broker.messages import Tuned
from worker.broker.meter import Meter
from worker.broker.outcome import Fate, Verdict
from worker.broker.running import Running, RunningJobs
from worker.broker.scripts import lua

_SILENT_SECONDS = 60
"""RQ's tools list a dead worker for so long."""

_LATELY_SECONDS = 60.0
_ANSWERS = 8
"""Answers to changes of values that the lease repeats, so that everyone who asks has the time to read theirs."""

_MOST_CANCELLED = 1000
_TAKEN = Verdict(Fate.PUT_BACK, Refusal("", Cause.CANCELLED, "cancelled on request"))


def _registry(running: Running) -> str:
    return str(running.claimed.queue.started_job_registry.key)


class SignsOfLife:
    """Says at every beat that the worker lives, and finds out which jobs were taken from it.

    Args:
        worker: The RQ worker that lives.
        lease: Its lease.
        jobs: Those that it runs.
        backend: Says more.
        endings: Ends jobs that were taken.
        max_queue: Jobs that may wait, which the lease announces.
        suspended: Whether workers are suspended.

    Attributes:
        next_at: When the next beat is due, monotonic seconds.
        recovered: Jobs of dead workers that this one has put back.
        said: What the last beat has told.
    """

    def __init__(
        self,
        worker: BaseWorker,
        lease: Lease,
        jobs: RunningJobs,
        backend: Backend,
        endings: Endings,
        max_queue: int | None,
        suspended: Callable[[], bool],
    ) -> None:
        self._worker, self._lease, self._jobs = worker, lease, jobs
        self._backend, self._endings = backend, endings
        self._max_queue, self._suspended = max_queue, suspended
        self._answers: dict[str, str | None] = {}
        self._meter = Meter(counters=1, window=_LATELY_SECONDS)
        self.next_at = 0.0
        self.recovered = 0
        self.said: dict[str, Any] = {}

    def begin(self, register: Callable[[], None]) -> None:
        """Give the first sign of life, and register.

        Raises:
            NameTakenError: There is a worker of this name.
        """
        connection = self._worker.connection
        self._lease.take(self._says(), connection)
        try:
            register()
        except ValueError:  # RQ knows of one, which has no lease
            self._lease.release(connection)
            raise NameTakenError(self._worker.name) from None

    def end(self, register: Callable[[], None]) -> None:
        """Register the death; RQ then forgets which jobs are left, and they are listed again, to be found soon."""
        left = [one.claimed.member for one in self._jobs]
        register()
        if left:
            self._worker.connection.sadd(WORKER_EXECUTIONS_KEY_TEMPLATE.format(self._worker.name), *left)

    @property
    def due(self) -> bool:
        """Whether it is time for a beat."""
        return time.monotonic() >= self.next_at

    def beat(self) -> set[str]:
        """Renew the lease, and see which jobs were taken from us or are to stop.

        Returns:
            The entries of the worker's set of executions.
        """
        running = groupby(sorted(self._jobs, key=_registry), key=_registry)
        held = {registry: list(jobs) for registry, jobs in running}
        with self._worker.connection.pipeline(transaction=False) as pipeline:
            self.said = self._says()
            self._lease.renew(self.said, pipeline)
            self._worker.heartbeat(_SILENT_SECONDS, pipeline=pipeline)
            self._worker.set_state(self._state(), pipeline=pipeline)
            pipeline.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(self._worker.name))
            notes = [CANCELLED_PREFIX + queue.name for queue in self._worker.queues]
            oldest = time.time() - HORIZON_SECONDS
            pipeline.eval(lua("cancelled"), len(notes), *notes, oldest, _MOST_CANCELLED)
            for registry, jobs in held.items():
                pipeline.zmscore(registry, [one.claimed.member for one in jobs])
            replies = pipeline.execute()
        self.next_at = time.monotonic() + self._lease.interval
        self._lease.renewed(*replies[:REPLIES])
        if replies[REPLIES]:
            self._register_again()
        ours, cancelled, *scores = replies[REPLIES + 4 :]
        self._stop(cancelled)
        for one, score in zip(chain(*held.values()), chain(*scores), strict=True):
            if score is None:  # cancelled, deleted or recovered: decided by others, so no callback is told
                self._endings.stop_early(one, _TAKEN)
        return {member.decode(errors="replace") for member in ours}

    def _stop(self, cancelled: Iterable[bytes]) -> None:
        """Stop the jobs among these that run here: the message that said so may have been lost."""
        for job_id in (raw.decode(errors="replace") for raw in cancelled):
            if job_id in self._jobs:
                self._endings.stop(job_id)

    def _says(self) -> dict[str, Any]:
        """What the lease tells."""
        return {
            "max_queue": self._max_queue,
            "running": len(self._jobs),
            "jobs_per_second": round(self._ended_lately(), 3),
            "recovered": self.recovered,
            "answers": self._answers,
            **self._backend.says(),
        }

    def _ended_lately(self) -> float:
        """Jobs a second."""
        seconds, (jobs,) = self._meter.grown([self._endings.ended])
        return jobs / seconds

    def answer(self, tuned: Tuned) -> None:
        """Repeat an answer in the lease, from now on, until newer ones have taken its place."""
        self._answers[tuned.id] = tuned.error
        if len(self._answers) > _ANSWERS:
            del self._answers[next(iter(self._answers))]
        self.next_at = 0.0

    def _state(self) -> WorkerStatus:
        if self._jobs:
            return WorkerStatus.BUSY
        return WorkerStatus.SUSPENDED if self._suspended() else WorkerStatus.IDLE

    def _register_again(self) -> None:
        """The worker's hash had expired, as after a long outage."""
        worker = self._worker
        with worker.connection.pipeline() as pipeline:
            pipeline.hset(worker.key, mapping=worker.serialize())
            register(worker, pipeline)
            pipeline.execute()
