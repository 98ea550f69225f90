"""How long a worker works: until it is told to stop, or for some jobs, or until it was idle for some time."""

import time


class Shift:
    """Knows when the work is done.

    Args:
        burst: It is done when the queues are empty.
        max_jobs: It is done after so many jobs; None without a limit.
        max_idle_seconds: It is done after so long without a job; None without a limit.

    Attributes:
        left: Jobs that may still start; infinity without a limit.
    """

    def __init__(
        self, burst: bool = False, max_jobs: int | None = None, max_idle_seconds: float | None = None
    ) -> None:
        self._burst = burst
        self._max_idle_seconds = float("inf") if max_idle_seconds is None else max_idle_seconds
        self._idle_since: float | None = None
        self.left = float("inf") if max_jobs is None else max_jobs

    def over(self, *, idle: bool, emptied: bool) -> bool:
        """Whether it is, for a worker that has nothing to do, or has; ``emptied``: its queues are."""
        if not idle:
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or time.monotonic()
        return self.left <= 0 or (self._burst and emptied) or self.patience() <= 0

    def patience(self) -> float:
        """Seconds until a worker that stays idle has been idle for too long."""
        idle = 0.0 if self._idle_since is None else time.monotonic() - self._idle_since
        return self._max_idle_seconds - idle
