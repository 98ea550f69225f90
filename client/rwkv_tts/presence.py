"""Tells workers that a client is alive: by a connection to Redis that is there as long as its process is."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.client import PubSub
from redis.exceptions import ResponseError

from rwkv_tts.keys import LISTENER_META, listener_channel

_CONFIRM_SECONDS = 5.0


class Presence:
    """Subscribes to a channel of the client's own, on which nobody speaks: workers ask whether somebody is there.

    Redis drops a subscription with its connection, so a process that is killed is gone at once, and one that is
    merely slow is not. Safe to use from several threads.

    Args:
        connection: Redis.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection, self._name = connection, uuid4().hex
        self._lock = threading.Lock()
        self._channel: PubSub | None = None

    def bind(self, job_options: Mapping[str, Any] | None) -> dict[str, Any]:
        """These options for a job that is to end when this client is gone; as they are where Redis has no pub/sub.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        options = dict(job_options or {})
        if self._begin():
            options["meta"] = {**(options.get("meta") or {}), LISTENER_META: self._name}
        return options

    def keep(self) -> None:
        """Be there again if the connection was lost; without a round trip if it was not.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        if self._channel is not None and self._lock.acquire(blocking=False):
            try:
                while self._channel.get_message(timeout=0) is not None:
                    pass
            finally:
                self._lock.release()

    def _begin(self) -> bool:
        with self._lock:
            if self._channel is None:
                channel = self._connection.pubsub()
                with suppress(ResponseError):  # not there, or not allowed
                    channel.subscribe(listener_channel(self._name))
                    channel.get_message(timeout=_CONFIRM_SECONDS)
                    self._channel = channel
            return self._channel is not None
