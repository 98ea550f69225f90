"""The memory of Redis: a worker starts only as many jobs as Redis will have room for the results of."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue
from rq.worker_registration import REDIS_WORKER_KEYS

from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome
from worker.broker.rights import is_missing

_RESERVE = 0.1
"""Of the limit: for producers' jobs, for readers' buffers, and for results that are larger than those before."""

_FIRST_GUESS = 1 << 20
"""Bytes of a result, before there was one: a WAV of half a minute."""

_BESIDE = 4096
"""Bytes of the entries that RQ writes for a job's end."""

_COPIES = 2
"""On its way in, a result is in Redis as the value and as the argument of the command that writes it."""

_SMOOTHING = 16
"""Results over which the mean is taken."""

_SILENT_SECONDS = 60.0


@dataclass(frozen=True)
class MemoryUse:
    """How much of its memory a Redis uses.

    Attributes:
        used: Bytes that count against the limit.
        limit: ``maxmemory``; 0 without one.
        policy: What Redis does at the limit.
    """

    used: int
    limit: int
    policy: str

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "MemoryUse":
        """What ``INFO memory`` says; a server that tells no limit has none."""
        used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
        return cls(used, int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", "noeviction")))


class Memory(Observer):
    """Asks at every beat what Redis has left, and shares it among the workers.

    Args:
        connection: Redis.
        queues: Those whose running jobs count.

    Attributes:
        allowance: Jobs that this worker may start until the next beat; infinity without a limit.
        reason: Why there is no room for more jobs; None while there is.
    """

    def __init__(self, connection: Redis, queues: Sequence[Queue]) -> None:
        self._connection, self._queues = connection, queues
        self._mean = float(_FIRST_GUESS)
        self._blind = False
        self._policy = ""
        self._silent_until = 0.0
        self.allowance = float("inf")
        self.reason: str | None = None

    def beat(self, _: Mapping[str, Any], __: Callable[[], int], /) -> None:
        if not self._blind:
            self._look()

    def claimed(self, jobs: int, /) -> None:
        self.allowance -= jobs

    def ended(self, outcome: Outcome, /) -> None:
        """Learn how large results are."""
        if outcome.fate is Fate.FINISHED:
            self._mean += (outcome.size + _BESIDE - self._mean) / _SMOOTHING

    def _look(self) -> None:
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            pipeline.scard(REDIS_WORKER_KEYS)
            for queue in self._queues:
                pipeline.zcard(queue.started_job_registry.key)
            info, *counts = pipeline.execute(raise_on_error=False)
        if is_missing(info):
            self._blind = True
            logger.warning("redis: INFO: {}; its memory is not watched", info)
            return
        if isinstance(info, RedisError):
            raise info
        workers, *running = [count if isinstance(count, int) else 0 for count in counts]
        self._judge(MemoryUse.of(info), max(1, workers), sum(running))

    def _judge(self, use: MemoryUse, workers: int, running: int) -> None:
        self._show_policy(use)
        if not use.limit:
            self.allowance, self.reason = float("inf"), None
            return
        left, cost = use.limit - use.used, _COPIES * self._mean
        free = int((left - _RESERVE * use.limit) / cost) - running
        self._set_reason(use if free <= 0 else None)
        if running == 0 and left - _RESERVE * use.limit / 2 > workers * cost:
            free = max(free, 1)  # what fills Redis may be the jobs that wait: one by one they make room
        self.allowance = max(0, -(-free // workers))

    def _show_policy(self, use: MemoryUse) -> None:
        policy = use.policy if use.limit else "without a limit"
        if policy == self._policy:
            return
        self._policy = policy
        if not use.limit:
            logger.info("redis: no maxmemory is set; nothing bounds the results that it holds")
        elif policy != "noeviction":
            logger.warning(
                "redis: maxmemory-policy {}: at its limit it deletes jobs, results and leases; "
                "accepted: noeviction",
                policy,
            )

    def _set_reason(self, full: MemoryUse | None) -> None:
        before, self.reason = self.reason, None
        if full is None:
            return
        megabytes = f"{full.used / 1e6:.1f} of {full.limit / 1e6:.1f} MB"
        self.reason = f"redis: {megabytes} of its memory are used, too much for the results of more jobs"
        if before is None and time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SILENT_SECONDS
            logger.warning("{}; jobs wait until some expire or are dropped", self.reason)
