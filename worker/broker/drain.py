"""Being told to stop: once to finish what runs, twice to put it back."""

import time

_SAME_SIGNAL_SECONDS = 1.0


class Drain:
    """Remembers when a worker was told to stop.

    Args:
        seconds: Time for running jobs to finish after the first time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._told_at: list[float] = []

    def tell(self) -> None:
        """Somebody wants the worker to stop; within a second it is the same wish."""
        moment = time.monotonic()
        if not self._told_at or moment - self._told_at[-1] > _SAME_SIGNAL_SECONDS:
            self._told_at.append(moment)

    @property
    def wanted(self) -> bool:
        """Whether the worker is to stop."""
        return bool(self._told_at)

    @property
    def at_once(self) -> bool:
        """Whether it is not to wait for jobs any longer: it was told twice, or the time is over."""
        return self.wanted and (len(self._told_at) > 1 or time.monotonic() - self._told_at[0] > self._seconds)
