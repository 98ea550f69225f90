"""How many requests of one caller are spoken at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import ApiError
from gateway.keys import Caller


class Turns:
    """Counts requests that are being spoken.

    Args:
        most: Of one caller at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    @contextmanager
    def of(self, caller: Caller) -> Iterator[None]:
        """Hold a turn.

        Raises:
            ApiError: This caller has no more.
        """
        if self._taken[caller.name] >= self._most:
            told = f"{self._most} requests of this key are being spoken, which is all it may have at once"
            raise ApiError(429, told, "requests", code="rate_limit_exceeded", retry_after=1)
        self._taken[caller.name] += 1
        try:
            yield
        finally:
            self._taken[caller.name] -= 1
