"""Idle workers of one queue: a job wakes one of them or two, and never nobody."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from rq.queue import Queue

from rwkv_tts.keys import WATCH_PREFIX
from waiting import until
from worker.broker.watcher import QueueWatcher

IDLE = 16


class Crowd:
    """Watchers of one queue; whoever is told of a job takes it at once, if it is still there."""

    def __init__(self, redis_url: str, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self.told: list[int] = []
        self.taken = 0
        self.watchers = [
            QueueWatcher(Redis.from_url(redis_url), queue, self._telling(number)) for number in range(IDLE)
        ]
        for watcher in self.watchers:
            watcher.start()
            watcher.arm()

    def _telling(self, number: int) -> Callable[[], None]:
        def tell() -> None:
            job = self._queue.connection.lpop(self._queue.key)
            with self._lock:
                self.told.append(number)
                self.taken += job is not None

        return tell


@pytest.fixture
def crowd(redis_url: str, queue: Queue) -> Iterator[Crowd]:
    crowd = Crowd(redis_url, queue)
    until(lambda: queue.connection.exists(WATCH_PREFIX + queue.name))
    yield crowd
    for watcher in crowd.watchers:
        watcher.stop()


def test_a_lone_job_wakes_one_watcher_and_perhaps_the_next(crowd: Crowd, queue: Queue) -> None:
    queue.connection.rpush(queue.key, "job")
    until(lambda: crowd.taken)
    time.sleep(0.3)
    assert len(crowd.told) <= 3


def test_jobs_that_stay_wake_one_watcher_after_the_other(crowd: Crowd, queue: Queue) -> None:
    queue.connection.rpush(queue.key, *range(3 * IDLE))
    until(lambda: len(crowd.told) == IDLE)
    assert sorted(crowd.told) == list(range(IDLE))


def test_a_watch_that_is_lost_is_taken_up_again(crowd: Crowd, queue: Queue) -> None:
    """Its holder was cut off, or frozen: nobody rings."""
    queue.connection.set(WATCH_PREFIX + queue.name, "", px=2000)
    time.sleep(1.2)
    queue.connection.rpush(queue.key, "job")
    until(lambda: crowd.taken)
