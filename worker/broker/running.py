"""The jobs inside a worker, and when they must have ended."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rq.executions import Execution

from rwkv_tts.refusal import Refusal
from worker.broker.claim import Claimed
from worker.broker.outcome import Outcome, Verdict

_LEAST_KEPT = 64
"""Deadlines that are kept without a look at whether they were met."""


@dataclass
class Running:
    """A job inside a worker.

    Attributes:
        verdict: How it is to end early; the first one counts.
        outcome: Its end, while a callback runs for it.
        worked: Its work has ended; what is left has no deadline.
        left: It is not inside any more.
        shown_at: When it was last shown how far the job has come, or when the job came; monotonic seconds.
    """

    claimed: Claimed
    verdict: Verdict | None = None
    outcome: Outcome | None = None
    worked: bool = False
    left: bool = False
    shown_at: float = field(default_factory=time.monotonic)


class RunningJobs:
    """All jobs that have entered a worker and have not left it.

    Args:
        executions: RQ's list of the worker's executions, which is kept up to date.
    """

    def __init__(self, executions: dict[str, Execution]) -> None:
        self._executions = executions
        self._jobs: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Running]:
        """Those that are here now; jobs may enter and leave meanwhile."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> Running | None:
        """The job of an id, if it is here."""
        return self._jobs.get(job_id)

    def enter(self, claimed: Claimed) -> Running:
        """Take a job in."""
        running = self._jobs[claimed.id] = Running(claimed)
        self._executions[claimed.execution.id] = claimed.execution
        return running

    def leave(self, claimed: Claimed) -> None:
        """Let a job go."""
        if (running := self._jobs.pop(claimed.id, None)) is not None:
            running.left = True
        self._executions.pop(claimed.execution.id, None)


@dataclass(order=True)
class Deadline:
    """When a job, or the callback that runs for its outcome, must have ended; monotonic seconds."""

    at: float
    running: Running = field(compare=False)
    outcome: Outcome | None = field(compare=False)
    refusal: Refusal = field(compare=False)

    @property
    def met(self) -> bool:
        """Whether what it was set for has ended; not whether the job has."""
        worked = self.running.worked and self.outcome is None
        return worked or self.running.left or self.running.outcome is not self.outcome


class Deadlines:
    """The earliest first; those that were met are forgotten, with their jobs, when they are about half of all."""

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._most = _LEAST_KEPT

    def add(self, running: Running, seconds: float, refusal: Refusal) -> None:
        """Set a deadline for what the job does now, its run or its callback, and say why that ends then."""
        at = time.monotonic() + seconds
        heapq.heappush(self._heap, Deadline(at, running, running.outcome, refusal))
        if len(self._heap) > self._most:
            self._heap = [deadline for deadline in self._heap if not deadline.met]
            heapq.heapify(self._heap)
            self._most = max(_LEAST_KEPT, 2 * len(self._heap))

    def due(self) -> Iterator[Deadline]:
        """Take off those that have passed."""
        while self._heap and self._heap[0].at <= time.monotonic():
            yield heapq.heappop(self._heap)

    def next_at(self) -> float:
        """When the next one passes; infinity when there is none."""
        return self._heap[0].at if self._heap else float("inf")
