"""How fast counters grow."""

import time
from collections import deque
from collections.abc import Sequence

WINDOW_SECONDS = 10.0


class Meter:
    """Remembers counters for a while.

    Args:
        counters: How many there are; all of them begin at 0.
    """

    def __init__(self, counters: int) -> None:
        self._samples = deque([(time.monotonic(), tuple([0.0] * counters))])

    def grown(self, counters: Sequence[float]) -> tuple[float, list[float]]:
        """Take the counters as they are now: over how many seconds, and by how much each has grown.

        The time is the last ``WINDOW_SECONDS`` or a little more; right after the start it is less, never under 1.
        """
        moment = time.monotonic()
        self._samples.append((moment, tuple(counters)))
        while self._samples[1][0] <= moment - WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return max(1.0, moment - since), [now - then for now, then in zip(counters, before, strict=True)]
