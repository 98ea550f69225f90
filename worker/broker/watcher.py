"""Waits for jobs without taking them."""

import threading
from collections.abc import Callable

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue

from rwkv_tts.keys import BELL_PREFIX, WATCH_PREFIX

_BLOCK_SECONDS = 1
_RETRY_SECONDS = 1.0
_WATCH_MS = 2000


class QueueWatcher(threading.Thread):
    """Blocks on the head of one queue and reports, once for each time it is armed, that there is a job.

    Rotating the head onto itself (BLMOVE from left to left of the same list) blocks like a pop and takes
    nothing, so a crash at any moment leaves the job where it was. It wakes all who block there, so that only one
    watcher of a queue does: whoever has seen a job, or none for a second, rings for another one. Should a watch
    get lost with its worker, a job waits until some worker's next sign of life at most: then each one looks.
    """

    def __init__(self, connection: Redis, queue: Queue, notify: Callable[[], None]) -> None:
        super().__init__(name=f"watch {queue.key}", daemon=True)
        self._connection = connection
        self._key = queue.key
        self._watch, self._bell = WATCH_PREFIX + queue.name, BELL_PREFIX + queue.name
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
            try:
                self._wait_for_job()
            except RedisError as error:
                logger.warning("watching {}: {}; trying again in {} s", self._key, error, _RETRY_SECONDS)
                threading.Event().wait(_RETRY_SECONDS)

    def _wait_for_job(self) -> None:
        """Wait at the queue, or at the bell while somebody else watches."""
        if not self._connection.set(self._watch, "", nx=True, px=_WATCH_MS):
            self._connection.blpop([self._bell], _BLOCK_SECONDS)
            return
        try:
            if self._has_job() and not self._stopped:
                self._armed.clear()
                self._notify()
        finally:
            self._ring()

    def _has_job(self) -> bool:
        return self._connection.blmove(self._key, self._key, _BLOCK_SECONDS, "LEFT", "LEFT") is not None

    def _ring(self) -> None:
        """Give the watch up, and wake one of those who wait for it."""
        with self._connection.pipeline() as pipeline:
            pipeline.delete(self._watch, self._bell)
            pipeline.lpush(self._bell, "")
            pipeline.pexpire(self._bell, _WATCH_MS)
            pipeline.execute()
