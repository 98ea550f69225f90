"""How jobs enter a worker: watched for, claimed, and handed to the backend."""

import time
from collections import deque
from collections.abc import Callable, Sequence, Set

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue
from rq.utils import now

from rwkv_tts.refusal import Cause, Refusal, RequestError
from worker.broker.backend import Backend
from worker.broker.callbacks import Callbacks
from worker.broker.claim import MOST_DROPPED, Claim, Claimed, Claimer
from worker.broker.endings import AT_ONCE, Endings
from worker.broker.memory import Memory
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome
from worker.broker.progress import Progress
from worker.broker.running import RunningJobs
from worker.broker.shift import Shift
from worker.broker.watcher import QueueWatcher

_LOST_RACE_SECONDS = 0.05
_DEFAULT_TIMEOUT = 180
_HANDING_OVER_SECONDS = 0.1
_AGAIN_SECONDS = 5.0
"""Until a job that was left to a newer worker is queued again."""

_NOTHING = Claim(suspended=False, dropped=0, alone=False, blocked=False, claimed=())


class Intake:
    """Takes as many jobs as there is room for.

    Args:
        claimer: Claims jobs.
        progress: Knows what earlier executions of a job have made.
        jobs: Those that run; claimed ones are added.
        most: How many may.
        backend: Does them.
        endings: Gets those that are refused.
        callbacks: Those that jobs may name.
        observer: Is told of claims.
        memory: Knows for how many results Redis has room.

    Attributes:
        emptied: The last look found fewer jobs than there was room for.
        shift: How many jobs may still start.
    """

    def __init__(
        self,
        claimer: Claimer,
        progress: Progress,
        jobs: RunningJobs,
        most: int,
        backend: Backend,
        endings: Endings,
        callbacks: Callbacks,
        observer: Observer,
        memory: Memory,
    ) -> None:
        self._claimer, self._jobs, self._most = claimer, jobs, most
        self._progress = progress
        self._backend, self._endings = backend, endings
        self._callbacks, self._observer, self._memory = callbacks, observer, memory
        self._watchers: list[QueueWatcher] = []
        self._last = _NOTHING
        self._claimed: deque[Claimed] = deque()  # not handed over yet
        self._notified = False
        self._may_arm_at = 0.0
        self.emptied = False
        self.shift = Shift()

    @property
    def suspended(self) -> bool:
        """Workers are suspended, as far as the last look tells."""
        return self._last.suspended

    @property
    def blocked(self) -> bool:
        """The next job must run alone and waits for the end of those that run."""
        return self._last.blocked

    def room(self) -> int:
        """Jobs that may be claimed now: what the backend has room for, and Redis for their results."""
        if self._last.alone and self._jobs:
            return 0
        ours = min(self._backend.room() - len(self._claimed), self._most - len(self._jobs))
        return int(min(ours, self.shift.left, self._memory.allowance))

    def run(self, *, claim: bool) -> None:
        """Claim what there is room for and hand it over, for a moment only: then a sign of life may be due.

        Without ``claim``, as when the worker is to stop, what has not been handed over goes back instead.
        """
        if not claim:
            self._put_back_claimed()
            return
        until = time.monotonic() + _HANDING_OVER_SECONDS
        self._hand_over(until)
        total = 0
        while not self._claimed and (room := self.room()) > 0:
            self._last = self._claimer.claim(min(room, AT_ONCE), len(self._jobs))
            self._observer.claimed(len(self._last.claimed))
            started = self._start(self._last.claimed)
            total += started
            self._hand_over(until)
            whole = self._last.dropped < MOST_DROPPED  # or signs of life come before the next look
            self.emptied = whole and started < min(room, AT_ONCE)
            if self.emptied or not whole:
                break
        if self._notified and total == 0:
            # Another worker was faster, or workers are suspended: do not spin on the job that is still there.
            self._may_arm_at = time.monotonic() + _LOST_RACE_SECONDS
        self._notified = False

    def put_back_unknown(self, members: Set[str]) -> None:
        """Put back jobs that are ours in Redis and that we do not know of: a claim whose answer was lost.

        Args:
            members: Entries of the worker's own set of executions.
        """
        unknown = members - {running.claimed.member for running in self._jobs}
        if unknown:
            logger.warning("{} jobs that this worker does not know of go back to their queues", len(unknown))
            self._endings.put_back(self._claimer.read_members(unknown))

    def _start(self, batch: Sequence[Claimed]) -> int:
        """Let jobs enter; returns how many.

        A job that was taken from us while we were silent, and has not ended here yet, goes back for now: the
        end of its earlier execution would be taken for that of this one.
        """
        fresh = [claimed for claimed in batch if claimed.id not in self._jobs]
        still_here = [claimed for claimed in batch if claimed.id in self._jobs]
        self.shift.left -= len(fresh)
        for claimed in fresh:
            self._jobs.enter(claimed)
            if claimed.stop:
                self._endings.stop(claimed.id)
        self._claimed.extend(fresh)
        if still_here:
            self._endings.put_back(reversed(still_here))
        if fresh:
            self._backend.expect([claimed.request for claimed in fresh if claimed.refusal is None])
        return len(fresh)

    def _put_back_claimed(self) -> None:
        while self._claimed:
            claimed = self._claimed.pop()
            if not self._is_stopped(claimed):
                self._endings.end(Outcome(claimed, Fate.PUT_BACK))

    def _hand_over(self, until: float) -> None:
        """Hand over jobs until the time has come."""
        while self._claimed and time.monotonic() < until:
            claimed = self._claimed.popleft()
            if not self._is_stopped(claimed):
                self._submit(claimed)

    def _is_stopped(self, claimed: Claimed) -> bool:
        """Whether a job was stopped before it began; it ends then."""
        running = self._jobs.get(claimed.id)
        if running is None or running.verdict is None:
            return False
        self._endings.end(Outcome(claimed, running.verdict.fate, refusal=running.verdict.refusal))
        return True

    def _submit(self, claimed: Claimed) -> None:
        refusal = claimed.refusal or self._callbacks.refusal(claimed.job)
        if refusal is not None:
            self._refuse(claimed, refusal)
            return
        job = claimed.job
        queued = (now() - job.enqueued_at).total_seconds() if job.enqueued_at else 0.0
        try:
            before = self._progress.before(claimed) if claimed.begun else []
            self._backend.submit(job.id, claimed.request, max(0.0, queued), before)
        except RequestError as error:
            self._refuse(claimed, error.refusal)
        except RedisError as error:  # what the backend asks of Redis could not be read
            away = Refusal("redis", Cause.INTERNAL, f"{type(error).__name__}: {error}")
            self._endings.end(Outcome(claimed, Fate.PUT_BACK, refusal=away))
        else:
            self._set_deadline(claimed)

    def _refuse(self, claimed: Claimed, refusal: Refusal) -> None:
        """Fail a job, or leave it to a newer worker, which may know what its newer client asks for."""
        if refusal.cause is Cause.INVALID and claimed.job.may_wait:
            self._endings.end(Outcome(claimed, Fate.PUT_BACK, refusal=refusal, delay=_AGAIN_SECONDS))
        else:
            self._endings.end(Outcome(claimed, Fate.FAILED, refusal=refusal))

    def _set_deadline(self, claimed: Claimed) -> None:
        running, timeout = self._jobs.get(claimed.id), claimed.job.timeout or _DEFAULT_TIMEOUT
        if running is not None and timeout > 0:
            late = Refusal("timeout", Cause.TIMEOUT, f"the job ran for more than {timeout:g} s")
            self._endings.deadlines.add(running, timeout, late)

    # Waiting for jobs.

    def watch(self, connection: Redis, queues: Sequence[Queue], notify: Callable[[], None]) -> None:
        """Start the threads that wait for jobs; they call ``notify``, once for each time they are armed."""
        self._watchers = [QueueWatcher(connection, queue, notify) for queue in queues]
        for watcher in self._watchers:
            watcher.start()

    def noticed(self) -> None:
        """A watcher has seen a job."""
        self._notified = True

    def patience(self) -> float:
        """Seconds until the queues are to be looked at again; infinity when a watcher tells, or without room."""
        if self._claimed:
            return 0.0
        if self.blocked or self.room() <= 0:
            return float("inf")
        moment = time.monotonic()
        if moment < self._may_arm_at:
            return self._may_arm_at - moment
        if not self.emptied:
            return 0.0
        for watcher in self._watchers:
            watcher.arm()
        return float("inf")

    def stop(self) -> None:
        """Stop the threads that wait for jobs."""
        for watcher in self._watchers:
            watcher.stop()
