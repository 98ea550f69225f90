"""A worker's sign of life, and what it tells about the past: was there a time when nobody could be heard?"""

import json
import time
from typing import Any

from redis import Redis
from redis.client import Pipeline

from rwkv_tts.keys import PRESENCE_KEY, lease_key
from worker.broker.scripts import lua

REPLIES = 2
"""Replies of a renewal in its pipeline."""


class NameTakenError(ValueError):
    """There is a worker of this name already, or there was one until a moment ago."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"name: a worker named {name!r} is registered; accepted: a name of its own for each process, or none. "
            "The name of one that was killed is free after a minute"
        )


class Lease:
    """A key that expires when its worker falls silent.

    Args:
        worker_name: RQ's name of the worker.
        seconds: Silence after which the worker counts as dead.
    """

    def __init__(self, worker_name: str, seconds: float) -> None:
        self.key, self._name = lease_key(worker_name), worker_name
        self.seconds = seconds
        self._unbroken = 0.0
        self._renewed_at = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two signs of life."""
        return min(1.0, self.seconds / 4)

    def take(self, says: dict[str, Any], connection: Redis) -> None:
        """Give the first sign of life.

        Raises:
            NameTakenError: Somebody else gives signs of life under this name.
        """
        if not connection.set(self.key, json.dumps(says), px=round(self.seconds * 1000), nx=True):
            raise NameTakenError(self._name)

    def renew(self, says: dict[str, Any], pipeline: Pipeline) -> None:
        """Queue the sign of life; pass its ``REPLIES`` replies to ``renewed``."""
        pipeline.set(self.key, json.dumps(says), px=round(self.seconds * 1000))
        # Half of it: after a gap that just did not break the presence, every lease still has time to be renewed.
        pipeline.eval(lua("be_present"), 1, PRESENCE_KEY, round(self.seconds * 500))

    def renewed(self, _: Any, unbroken: bytes) -> None:
        """Take the replies."""
        self._unbroken, self._renewed_at = float(unbroken), time.monotonic()

    @property
    def may_judge(self) -> bool:
        """Whether a missing lease means a dead worker.

        In an outage of Redis everybody's lease runs out. Only when workers have been heard without a gap for a
        whole term has every live one had the time to renew its own.
        """
        return self._unbroken >= self.seconds and time.monotonic() - self._renewed_at < self.seconds

    def release(self, connection: Redis) -> None:
        """Give the lease up at once."""
        connection.delete(self.key)
