"""How a worker reaches Redis."""

import re
import time

from loguru import logger
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq.defaults import RQ_KEY_PREFIX

_SOCKET_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class ClusterError(RuntimeError):
    """Redis is a cluster, and the keys do not share a hash tag."""


def worker_connection(url: str, seconds: float = _SOCKET_SECONDS) -> Redis:
    """A connection whose commands fail within ``seconds``: the worker itself decides when to try again."""
    return Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0))


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


def check_cluster(connection: Redis) -> None:
    """Refuse a cluster whose nodes would have to share a job.

    Raises:
        ClusterError: The keys have no hash tag.
    """
    enabled = connection.info("cluster").get("cluster_enabled")
    if enabled and not re.search(r"{[^}]+}", RQ_KEY_PREFIX):
        raise ClusterError(
            f"a cluster needs keys with a hash tag, and RQ_KEY_PREFIX is {RQ_KEY_PREFIX!r}; "
            "accepted: RQ_KEY_PREFIX={rq}, here and at producers"
        )
