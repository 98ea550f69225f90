"""Tells keys that hold what RQ never writes from a Redis that is away, or that refuses to write."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger
from redis.exceptions import DataError, RedisError, ResponseError

_OF_THE_COMMAND = ("ERR", "WRONGTYPE")
"""Codes of errors that are a command's own fault; all others are the server's, such as OOM, READONLY, MISCONF."""

NO_RIGHT = ("ERR ACL failure", "ERR The user executing the script")
"""How a script's want of rights begins, in newer servers and in those up to Redis 7.0."""

_OF_THE_DATA = ("WRONGTYPE", "wrong number of arguments", "is not an integer", "is not a valid float")


def is_malformed(error: Exception) -> bool:
    """Whether the keys are to blame, so that the same call would fail again; else Redis or the way to it is."""
    if isinstance(error, ResponseError):
        return any(part in str(error) for part in _OF_THE_DATA)
    return isinstance(error, DataError) or not isinstance(error, RedisError | OSError)


def is_of_the_server(reply: str) -> bool:
    """Whether an error reply tells of the server's state, so that the same command may be taken later."""
    return reply.partition(" ")[0] not in _OF_THE_COMMAND or reply.startswith(NO_RIGHT)


@contextmanager
def tolerant(what: str) -> Iterator[None]:
    """Go on after malformed keys have stopped ``what``, which is optional; one line in the log says so."""
    try:
        yield
    except Exception as error:
        if not is_malformed(error):
            raise
        logger.warning("{}: {}: {!r}; skipped", what, type(error).__name__, str(error)[:200])
