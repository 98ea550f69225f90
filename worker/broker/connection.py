"""How a worker reaches Redis."""

import re
import time

from loguru import logger
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError, ResponseError
from redis.retry import Retry
from rq.defaults import RQ_KEY_PREFIX

from rwkv_tts.connection import connect
from worker.broker.rights import is_missing

_SOCKET_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class ClusterError(RuntimeError):
    """Redis is a cluster, and this node cannot hold all keys."""


def worker_connection(url: str, seconds: float = _SOCKET_SECONDS) -> Redis:
    """A connection whose commands fail within ``seconds``: the worker itself decides when to try again."""
    return connect(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=Retry(NoBackoff(), 0))


def impatient(connection: Redis, seconds: float = _SOCKET_SECONDS) -> Redis:
    """Let the commands of somebody's connection fail as soon as those of our own."""
    connection.set_retry(Retry(NoBackoff(), 0))
    connection.connection_pool.connection_kwargs |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    connection.connection_pool.disconnect()
    connection.connection_pool.reset()
    return connection


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
    """Refuse a node of a cluster that cannot hold all keys.

    Raises:
        ClusterError: They have no hash tag, or they belong to another node.
    """
    try:
        clustered = connection.info("cluster").get("cluster_enabled")
    except ResponseError as error:
        if not is_missing(error):
            raise
        return  # managed servers that hide it tell of a node's own faults one by one
    if not clustered:
        return
    if not re.search(r"{[^}]+}", RQ_KEY_PREFIX):
        raise ClusterError(
            f"a cluster needs keys with a hash tag, and RQ_KEY_PREFIX is {RQ_KEY_PREFIX!r}; "
            "accepted: RQ_KEY_PREFIX={rq}, here and at producers"
        )
    try:
        connection.exists(RQ_KEY_PREFIX)
    except MovedError as error:
        problem = f"the keys of {RQ_KEY_PREFIX!r} are on the node {error.host}:{error.port}; accepted: its address"
        raise ClusterError(problem) from None
