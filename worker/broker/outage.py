"""A Redis that is away: when to try again, and when to give up."""

import time
from collections.abc import Callable

from loguru import logger
from redis.exceptions import RedisError

_LONGEST_PAUSE_SECONDS = 2.0


class Outage:
    """Knows since when Redis is away.

    Args:
        most_seconds: For how long it may be.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        self._since: float | None = None
        self._pause = 0.0
        self.reason: str | None = None
        """What Redis said, or did not say, last; None while it is there."""
        self.met_at = -float("inf")
        """When Redis was found away last, monotonic seconds."""
        self.retry_at = 0.0
        """When to try again, monotonic seconds; 0 while Redis is there."""

    @property
    def pausing(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self.retry_at

    @property
    def too_long(self) -> bool:
        """Whether it is time to give up."""
        return self._since is not None and time.monotonic() - self._since > self._most_seconds

    def outlast(self, act: Callable[[], object], stopped: Callable[[], bool]) -> None:
        """Repeat what Redis refuses, until it does not.

        Raises:
            redis.exceptions.RedisError: It is time to give up, or somebody has ``stopped`` it.
        """
        while True:
            try:
                act()
            except RedisError as error:
                self.met(error, waiting=0)
                if self.too_long or stopped():
                    raise
                time.sleep(self._pause)
            else:
                self.over()
                return

    def over(self) -> None:
        """Redis has answered."""
        self._since, self._pause, self.retry_at, self.reason = None, 0.0, 0.0, None

    def met(self, error: RedisError, waiting: int) -> None:
        """Redis has not; so many results wait."""
        moment = time.monotonic()
        self._since, self.met_at = self._since or moment, moment
        self._pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause or 0.1)
        self.retry_at = moment + self._pause
        self.reason = f"redis: {type(error).__name__}: {error}"
        logger.warning("{}; {} results wait; again in {:.1f} s", self.reason, waiting, self._pause)
        if self.too_long:
            logger.error("redis: away for more than {} s; giving up", self._most_seconds)
