"""What a worker must be able to ask of Redis, looked at once at its start: managed servers lack some commands."""

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from worker.broker.tolerance import NO_RIGHT

_UNKNOWN = "unknown command"
_NEEDED = {
    "EVAL": ("EVAL", "return 0", 0),
    "TIME in EVAL": ("EVAL", "return redis.call('TIME')", 0),
    "SCRIPT EXISTS": ("SCRIPT", "EXISTS", "0" * 40),
    "SCRIPT LOAD": ("SCRIPT", "LOAD", "return 0"),
}
_FOR_REPLICAS = {"WAIT (for commit_replicas)": ("WAIT", 0, 1)}


class MissingCommandError(RuntimeError):
    """Redis does not let this worker do what it must; one line that says what."""


def is_missing(error: object) -> bool:
    """Whether a reply says that there is no such command, or that this user may not use it."""
    return isinstance(error, NoPermissionError) or (
        isinstance(error, ResponseError) and f"ERR {error}".startswith((f"ERR {_UNKNOWN}", *NO_RIGHT))
    )


def check_rights(connection: Redis, commit_replicas: int) -> None:
    """Try what a worker cannot do without. CONFIG, INFO, CLIENT and pub/sub are not among it.

    Raises:
        MissingCommandError: Something is missing.
        redis.exceptions.RedisError: Redis is away.
    """
    needed = _NEEDED | (_FOR_REPLICAS if commit_replicas else {})
    with connection.pipeline(transaction=False) as pipeline:
        for command in needed.values():
            pipeline.execute_command(*command)
        replies = pipeline.execute(raise_on_error=False)
    missing = [name for name, reply in zip(needed, replies, strict=True) if is_missing(reply)]
    if missing:
        told = "not there or not allowed; accepted: a server with Lua, the rights of the role worker in users.acl"
        raise MissingCommandError(f"{', '.join(missing)}: {told}")
