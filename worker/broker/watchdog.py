"""Ends the process when nothing advances any more: its jobs come back through the recovery of other workers."""

import faulthandler
import time

_FIRST_BUSY = object()


class Watchdog:
    """Must be fed; a C thread of the interpreter counts down, so that even a held interpreter lock is no way out.

    When it bites, the stacks of all threads go to stderr and the process ends with code 1.

    Args:
        seconds: Time without progress; 0 switches it off.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: object = _FIRST_BUSY
        self._fed_at = 0.0

    def feed(self, progress: int | None) -> None:
        """Start the countdown anew if anything advanced, or if there is nothing to do."""
        idle = progress is None
        if self._seconds and (idle or progress != self._last):
            self._last = progress
            self._arm()

    def _arm(self) -> None:
        if time.monotonic() - self._fed_at > self._seconds / 20:
            self._fed_at = time.monotonic()
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def stop(self) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
