"""Time budgets: how far a training stage has come and when the present call has to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Budget:
    """A stage's schedule in trained seconds, spread over as many calls as it takes.

    total_seconds is the schedule's length, limit_seconds what this call may use and spent what the calls before it
    used. The clock starts at construction, or again at restart(), which leaves start-up costs out of the schedule.
    """

    total_seconds: float
    limit_seconds: float
    spent: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False, repr=False)
    _schedule_started: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start both clocks."""
        self._started = self._schedule_started = self.clock()

    def restart(self) -> None:
        """Start the schedule's clock now; the call's own limit keeps counting from construction."""
        self._schedule_started = self.clock()

    def trained(self) -> float:
        """Seconds trained so far, the calls before this one included: the next call's `spent`."""
        return self.spent + self.clock() - self._schedule_started

    def progress(self) -> float:
        """Share of the schedule done, 0..1."""
        return 1.0 if self.total_seconds <= 0 else min(1.0, self.trained() / self.total_seconds)

    def done(self) -> bool:
        """Whether the whole schedule has been trained."""
        return self.progress() >= 1.0

    def exhausted(self) -> bool:
        """Whether this call has to end: its limit is used up or the schedule is done."""
        return self.done() or self.clock() - self._started >= self.limit_seconds
