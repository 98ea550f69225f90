"""Waits for jobs without taking them."""

import threading
from collections.abc import Callable

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError

_BLOCK_SECONDS = 1
_RETRY_SECONDS = 1.0


class QueueWatcher(threading.Thread):
    """Blocks on the head of one queue and reports, once for each time it is armed, that there is a job.

    Rotating the head onto itself (BLMOVE from left to left of the same list) blocks like a pop and takes
    nothing, so a crash at any moment leaves the job where it was.
    """

    def __init__(self, connection: Redis, queue_key: str, notify: Callable[[], None]) -> None:
        super().__init__(name=f"watch {queue_key}", daemon=True)
        self._connection = connection
        self._key = queue_key
        self._notify = notify
        self._armed = threading.Event()
        self._stopped = False

    def arm(self) -> None:
        """Report the next time there is a job."""
        self._armed.set()

    def stop(self) -> None:
        self._stopped = True
        self._armed.set()

    def run(self) -> None:
        while not self._stopped:
            self._armed.wait()
            if self._has_job() and not self._stopped:
                self._armed.clear()
                self._notify()

    def _has_job(self) -> bool:
        try:
            return self._connection.blmove(self._key, self._key, _BLOCK_SECONDS, "LEFT", "LEFT") is not None
        except RedisError as error:
            logger.warning("watching {}: {}; trying again in {} s", self._key, error, _RETRY_SECONDS)
            threading.Event().wait(_RETRY_SECONDS)
            return False
