"""How a worker reaches Redis."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_SOCKET_SECONDS = 5.0


def worker_connection(url: str) -> Redis:
    """A connection whose commands fail fast: the worker itself decides when to try again."""
    return Redis.from_url(
        url, socket_timeout=_SOCKET_SECONDS, socket_connect_timeout=_SOCKET_SECONDS, retry=Retry(NoBackoff(), 0)
    )
