"""What a batch worker needs of whatever does its jobs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from rwkv_tts.refusal import Refusal


class BackendBrokenError(RuntimeError):
    """What does the jobs has broken down; only a new process can help."""


class Stage(NamedTuple):
    """Where some of a job's time has gone.

    Attributes:
        begin, end: ``time.monotonic()`` seconds.
        counts: Of what was done meanwhile.
    """

    name: str
    begin: float
    end: float
    counts: Mapping[str, float]


@dataclass(frozen=True)
class Ended:
    """What became of a job.

    Attributes:
        result: The return value, JSON; None when the job failed.
        attachments: What to store beside the result, by Redis key.
        refusal: Why there is no result.
        worked: The job has not ended yet, but its work has: what is left is not the job's time, and it ends by
            another message.
        stages: Where its time has gone, for observers; in order of their beginning.
    """

    job_id: str
    result: dict[str, Any] | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    refusal: Refusal | None = None
    worked: bool = False
    stages: Sequence[Stage] = ()


@dataclass(frozen=True)
class Made:
    """What a job has made before its end.

    Attributes:
        number: From 1; those of a job follow one another, also those of its successor after a crash.
        heard: Fields of an entry for those who listen; none where there is nothing to hear.
        kept: What a successor needs; empty where it needs nothing more.
        shown: How far the job has come, for its meta, JSON; nothing where that is not to change.
    """

    job_id: str
    number: int
    heard: Mapping[str, bytes] = field(default_factory=dict)
    kept: bytes = b""
    shown: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Does many jobs at once; every job that was submitted ends exactly once, by a callback from any thread."""

    def expect(self, requests: Sequence[Any], /) -> None:  # noqa: ARG002
        """Be told of requests that are about to be submitted: what they need of Redis can be fetched at once.

        Raises:
            redis.exceptions.RedisError: Redis is away; they may be submitted all the same.
        """
        return

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes], /) -> None:
        """Start a job that waited ``queued`` seconds; ``request`` is the JSON value that its call brings.

        ``before`` is what its earlier executions have kept for a successor, in order.

        Raises:
            RequestError: The request is not accepted; the job does not end by the callback.
            redis.exceptions.RedisError: Redis is away; the job did not start and does not end by the callback.
        """

    def cancel(self, job_id: str, refusal: Refusal, /) -> None:
        """End a job as soon as possible, with this refusal. Unknown ids are ignored."""

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


MakeBackend = Callable[[Callable[[Ended | Made], None], Callable[[], None]], Backend]
"""Builds a backend around two callbacks: a job has made something or has ended; there is room again."""
