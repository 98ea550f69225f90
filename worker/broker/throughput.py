"""How many jobs end."""

import time
from collections import deque

_WINDOW_SECONDS = 60.0


class Throughput:
    """Counts what has ended in the last minute."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._ended: deque[float] = deque()

    def count(self, jobs: int) -> None:
        self._ended.extend([time.monotonic()] * jobs)

    def per_second(self) -> float:
        now = time.monotonic()
        while self._ended and self._ended[0] < now - _WINDOW_SECONDS:
            self._ended.popleft()
        return len(self._ended) / max(1.0, min(_WINDOW_SECONDS, now - self._since))
