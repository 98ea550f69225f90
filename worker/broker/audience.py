"""Ends jobs whose listener is gone, of those that say who listens."""

import time
from collections import defaultdict

from loguru import logger
from redis import Redis
from redis.exceptions import ResponseError

from rwkv_tts.keys import listener_channel
from rwkv_tts.refusal import Cause, Refusal
from worker.broker.endings import Endings
from worker.broker.outage import Outage
from worker.broker.outcome import Fate, Verdict
from worker.broker.rights import is_missing
from worker.broker.running import Running, RunningJobs

_LOOK_SECONDS = 0.4
_GRACE_SECONDS = 15.0
"""Listeners have so long to come back after Redis was away."""

_ALONE = Verdict(Fate.STOPPED, Refusal("", Cause.CANCELLED, "its listener is gone"))


class Audience:
    """Looks twice before it ends a job: a listener may be about to connect again.

    Args:
        connection: Redis.
        jobs: Those that run.
        endings: Ends jobs.
        outage: Knows when Redis was away.
    """

    def __init__(self, connection: Redis, jobs: RunningJobs, endings: Endings, outage: Outage) -> None:
        self._connection, self._jobs, self._endings, self._outage = connection, jobs, endings, outage
        self._missed: set[str] = set()
        self._able = True
        self._looked_at = 0.0
        self.next_at = float("inf")
        """When to look again, monotonic seconds; infinity while nobody is known to listen."""

    def look(self) -> None:
        """Find out who is gone, if it is time to.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        now = time.monotonic()
        if now < self._looked_at + _LOOK_SECONDS or not self._able:
            return
        self._looked_at = now
        heard: dict[str, list[Running]] = defaultdict(list)
        for running in self._jobs:
            if running.claimed.job.listener is not None:
                heard[running.claimed.job.listener].append(running)
        self.next_at = now + _LOOK_SECONDS if heard else float("inf")
        absent = self._absent(list(heard)) if heard else set()
        if now < self._outage.met_at + _GRACE_SECONDS:
            absent = set()
        for listener in absent & self._missed:
            for running in heard[listener]:
                self._endings.stop_early(running, _ALONE)
        self._missed = absent

    def _absent(self, listeners: list[str]) -> set[str]:
        try:
            counts = self._connection.pubsub_numsub(*map(listener_channel, listeners))
        except ResponseError as error:
            if not is_missing(error):
                raise
            logger.warning("redis: {}; jobs go on when their listener is gone", error)
            self._able, self.next_at = False, float("inf")
            return set()
        return {listener for listener, (_, count) in zip(listeners, counts, strict=True) if not count}
