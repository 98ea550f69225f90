"""How a worker reaches Redis."""

import time

from loguru import logger
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from rwkv_tts.connection import connect

_SOCKET_SECONDS = 5.0
_RETRY_SECONDS = 1.0


def worker_connection(url: str, seconds: float = _SOCKET_SECONDS) -> Redis:
    """A connection whose commands fail within ``seconds``: the worker itself decides when to try again."""
    return connect(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0))


def wait_for_redis(connection: Redis, seconds: float) -> None:
    """Return when Redis answers.

    Raises:
        redis.exceptions.RedisError: It has not, for ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.ping()
        except RedisError as error:
            if time.monotonic() >= deadline:
                raise
            logger.warning("redis: {}: {}; again in {} s", type(error).__name__, error, _RETRY_SECONDS)
            time.sleep(_RETRY_SECONDS)
        else:
            return
