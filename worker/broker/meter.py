"""How fast counters grow."""

import time
from collections import deque
from collections.abc import Sequence


class Meter:
    """Remembers counters for a while.

    Args:
        counters: How many there are; all of them begin at 0.
        window: Seconds to look back.
    """

    def __init__(self, counters: int, window: float) -> None:
        self._samples = deque([(time.monotonic(), tuple([0.0] * counters))])
        self._window = window

    def grown(self, counters: Sequence[float]) -> tuple[float, list[float]]:
        """Take the counters as they are now: over how many seconds, and by how much each has grown.

        The time is the window or a little more; right after the start it is less, never under 1.
        """
        moment = time.monotonic()
        self._samples.append((moment, tuple(counters)))
        while self._samples[1][0] <= moment - self._window:
            self._samples.popleft()
        since, before = self._samples[0]
        return max(1.0, moment - since), [now - then for now, then in zip(counters, before, strict=True)]
