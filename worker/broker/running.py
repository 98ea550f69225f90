"""The jobs inside a worker, and when they must have ended."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from worker.broker.backend import Cause
from worker.broker.claim import Claimed
from worker.broker.commit import Fate, Outcome


@dataclass
class Running:
    """A job inside a worker.

    Attributes:
        verdict: Why it is to end early, as fate, reason and cause; the first cause counts.
        outcome: Its end, while a callback runs for it.
    """

    claimed: Claimed
    verdict: tuple[Fate, str, Cause] | None = None
    outcome: Outcome | None = None


@dataclass(order=True)
class Deadline:
    """When a job, or the callback that runs for its outcome, must have ended; monotonic seconds."""

    at: float
    running: Running = field(compare=False)
    outcome: Outcome | None = field(compare=False)
    reason: str = field(compare=False)

    @property
    def met(self) -> bool:
        """Whether what it was set for has ended; not whether the job has."""
        return self.running.outcome is not self.outcome


class Deadlines:
    """The earliest first."""

    def __init__(self) -> None:
        self._heap: list[Deadline] = []

    def add(self, running: Running, seconds: float, reason: str) -> None:
        """Set a deadline for what the job does now: its run, or its callback."""
        heapq.heappush(self._heap, Deadline(time.monotonic() + seconds, running, running.outcome, reason))

    def due(self) -> Iterator[Deadline]:
        """Take off those that have passed."""
        while self._heap and self._heap[0].at <= time.monotonic():
            yield heapq.heappop(self._heap)

    def next_at(self) -> float:
        """When the next one passes; infinity when there is none."""
        return self._heap[0].at if self._heap else float("inf")
