"""What a batch worker needs of whatever does its jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from rwkv_tts.schema import SynthesisRequest


class BackendBrokenError(RuntimeError):
    """What does the jobs has broken down; only a new process can help."""


class Cause(StrEnum):
    """What a failure comes from."""

    INVALID = "invalid"
    MODEL = "model"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    CALLBACK = "callback"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Ended:
    """What became of a job.

    Attributes:
        result: The return value, JSON; None when the job failed.
        audio: The bytes to store beside the result.
        tokens: What it takes to keep its voice, ``rwkv_tts.voice_store.VoiceTokens`` as JSON; empty to store none.
        error: One line that says why there is no result.
        cause: What the error comes from.
        retry: Whether another try could end better.
    """

    job_id: str
    result: dict[str, Any] | None = None
    audio: bytes = b""
    tokens: str = ""
    error: str | None = None
    cause: Cause = Cause.INTERNAL
    retry: bool = True


class Backend(Protocol):
    """Does many jobs at once; every job that was submitted ends exactly once, by a callback from any thread."""

    def submit(self, job_id: str, request: SynthesisRequest, queued: float, /) -> None:
        """Start a job that waited ``queued`` seconds.

        Raises:
            RequestError: The request is not accepted; the job does not end by the callback.
            redis.exceptions.RedisError: Redis is away; the job did not start and does not end by the callback.
        """

    def cancel(self, job_id: str, reason: str, /) -> None:
        """End a job as soon as possible, with ``reason`` as its error. Unknown ids are ignored."""

    def room(self) -> int:
        """Jobs that could start at once."""

    def progress(self) -> int | None:
        """A number that changes whenever any job advances; None when there is nothing to do.

        Raises:
            BackendBrokenError: Jobs will not advance any more.
        """

    def says(self) -> Mapping[str, Any]:
        """What it tells of itself in the worker's lease, asked for at every beat; fields of ``WorkerLoad``."""
        return {}

    def tune(self, change: Mapping[str, Any], done: Callable[[str | None], None], /) -> None:  # noqa: ARG002
        """Change values at run time; ``done`` is told, from any thread, None or why nothing has changed."""
        done("tune: there is nothing to tune here")

    def close(self) -> None:
        """Let what is inside finish and end the threads."""


MakeBackend = Callable[[Callable[[Ended], None], Callable[[], None]], Backend]
"""Builds a backend around two callbacks: a job has ended; there is room again."""
