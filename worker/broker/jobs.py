"""What a worker reads of an RQ job: data of bounded size, plain values, one function, nothing that names code."""

import json
import re
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.utils import utcformat
from rq.webhook import Webhook

from rwkv_tts.keys import ARGUMENT, FUNCTION, LISTENER_META, SCHEMA, SCHEMA_META
from rwkv_tts.pickles import ACCEPTED, PickleError, is_pickled, read_pickle, serializer_of
from rwkv_tts.refusal import invalid

RawJob = Mapping[bytes, bytes]

_UNBOUNDED = (b"exc_info", b"result")
"""Fields that RQ would inflate or parse without a limit, and that a worker has no use for."""

_LARGEST_META = 1 << 16
"""Bytes of ``meta`` that callbacks get to see; RQ parses it at once."""

_LIGHT = 1 << 17
"""Bytes of ``data`` that need no thought; only a recording makes a call larger."""

_MOST_STEPS = 1 << 15
"""Of reading a pickle: some 10 000 values, more than the largest metadata can have."""

_LARGEST = 10**10
"""Of any number: as seconds, 317 years. Far larger ones overflow times and dates."""

POSTPONED = "postponed_at"
"""The field of a job's hash that tells since when older workers leave it to newer ones."""

_NEWER_SECONDS = 600.0
"""For so long a job of a newer client waits for a worker that understands it."""

_LISTENER = re.compile("[0-9a-f]{32}")
_ESSENTIAL = (b"status", b"origin", b"dependency_ids", b"allow_dependency_failures")

_OF_THE_WORKER = {
    *("data", "status", "origin", "worker_name", "enqueued_at", "started_at", "last_heartbeat"),
    *("timeout", "retries_left", "repeats_left", "repeat_intervals"),
}
"""Fields of a running job's hash that callbacks leave alone."""


class HeldJob(Job):
    """An RQ job as a worker holds it: without its data, and with nothing that RQ would import.

    Reading never fails: ``unreadable`` says what is wrong with the hash. Saving writes only what a worker
    changes, so the producer's fields stay as they are.

    Attributes:
        unreadable: What is wrong with the hash; None when nothing is.
        meta_is_whole: Whether ``meta`` is what the hash has, and not too large for that.
        heavy: Its data takes as much room in Redis as audio does.
    """

    success_callback = failure_callback = stopped_callback = None
    func_name = FUNCTION
    unreadable: str | None = None
    meta_is_whole = True
    heavy = False
    made = 0
    """The number of what it has made last, before its end."""
    heard = 0
    """Bytes of that which are for listeners."""
    postponed_at: float | None = None
    """When a worker first left it to a newer one, Unix seconds."""

    def restore(self, raw_data: RawJob) -> None:
        """Read a hash; of one that cannot be read, what is needed to fail it.

        Raises:
            rq.exceptions.NoSuchJobError: The hash has no data field, so it is no job.
        """
        raw = {name: value for name, value in raw_data.items() if name not in _UNBOUNDED}
        if b"data" not in raw:
            raise NoSuchJobError("its hash has no data")
        self.heavy = len(raw[b"data"]) > _LIGHT
        self.serializer = serializer_of(inflate(raw[b"data"], 1))
        raw[b"data"] = b""
        with suppress(ValueError):
            self.postponed_at = float(raw_data[POSTPONED.encode()]) if POSTPONED.encode() in raw_data else None
        if len(raw.get(b"meta", b"")) > _LARGEST_META:
            del raw[b"meta"]
            self.meta_is_whole = False
        webhooks = raw.pop(b"webhooks", b"")
        try:
            super().restore(raw)
            self._check()
            self.webhooks = [Webhook.from_dict(one) for one in json.loads(webhooks)] if webhooks else []
        except Exception as error:  # noqa: BLE001 - a producer may have written anything, RQ asserts and casts
            self.unreadable = f"{type(error).__name__}: {str(error)[:200]!r}"
            self._restore_essentials(raw)

    @property
    def listener(self) -> str | None:
        """Whose end is its end, too; None where nobody is named."""
        name = self.meta.get(LISTENER_META) if isinstance(self.meta, dict) else None
        return name if isinstance(name, str) and _LISTENER.fullmatch(name) else None

    def _check(self) -> None:
        """Refuse what RQ reads without a look and stumbles over later."""
        timeouts = [self.callback_timeout(event) for event in ("on_success", "on_failure", "on_stopped")]
        options = (self.timeout, self.result_ttl, self.failure_ttl, self.ttl, self.retries_left, self.repeats_left)
        intervals = [*(self.retry_intervals or []), *(self.repeat_intervals or [])]
        for number in (*timeouts, *(option for option in options if option is not None), *intervals):
            if not abs(number) <= _LARGEST:
                raise ValueError("a number is out of range")
        if not isinstance(self.retry_intervals or [], list) or not isinstance(self.repeat_intervals or [], list):
            raise TypeError("intervals are not a list")
        self.retry_intervals = self.retry_intervals or None
        if not isinstance(self._dependency_ids, list):
            raise TypeError("dependency_ids is not a list")
        for job_id in self._dependency_ids:
            self.key_for(job_id).encode()

    def _restore_essentials(self, raw: RawJob) -> None:
        essentials = {name: raw[name] for name in _ESSENTIAL if name in raw}
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.retry_intervals = self.repeat_intervals = None
        try:
            super().restore({b"data": b"", **essentials})
        except Exception:  # noqa: BLE001 - likewise
            super().restore({b"data": b""})

    def dependencies_are_met(self, *args: Any, **options: Any) -> bool:
        """Whether the job may run; one that cannot be read never may."""
        return self.unreadable is None and super().dependencies_are_met(*args, **options)

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The fields that a worker changes."""
        dates = {
            "enqueued_at": self.enqueued_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "last_heartbeat": self.last_heartbeat,
        }
        numbers = {
            "timeout": self.timeout,
            "retries_left": self.retries_left,
            "repeats_left": self.repeats_left,
        }
        fields: dict[str, Any] = {name: utcformat(date) for name, date in dates.items() if date is not None}
        fields |= {name: number for name, number in numbers.items() if number is not None}
        fields |= {"status": self._status, "origin": self.origin, "worker_name": self.worker_name or ""}
        if self.repeat_intervals is not None:
            fields["repeat_intervals"] = json.dumps(self.repeat_intervals)
        return fields

    @property
    def may_wait(self) -> bool:
        """Whether what is refused here may be served by a newer worker, which has had no chance yet."""
        schema = self.meta.get(SCHEMA_META) if isinstance(self.meta, dict) else None
        newer = isinstance(schema, int) and schema > SCHEMA
        return newer and (self.postponed_at is None or 0 <= time.time() - self.postponed_at < _NEWER_SECONDS)

    @property
    def callback_names(self) -> dict[str, str]:
        """The callbacks that the hash names: ``on_success``, ``on_failure``, ``on_stopped``."""
        names = {
            "on_success": self._success_callback_name,
            "on_failure": self._failure_callback_name,
            "on_stopped": self._stopped_callback_name,
        }
        return {event: name for event, name in names.items() if name}

    def callback_timeout(self, event: str) -> int:
        """Seconds that a callback may take."""
        if event == "on_success":
            return self.success_callback_timeout
        return self.failure_callback_timeout if event == "on_failure" else self.stopped_callback_timeout


class ConcludedJob(HeldJob):
    """A held job as callbacks and exception handlers see it: it has ended.

    It is a copy: a callback that runs for too long does not meddle with what is recorded. Saving keeps its changes
    but for what the worker writes: should the worker die before it has recorded the end, a status that says so
    would make the job look done.

    Args:
        job: The job.
        request: The JSON value that its call brings.
        status: How it has ended.
        ended_at: When.
        result: Its return value, if it has one.
    """

    def __init__(self, job: HeldJob, request: Any, status: JobStatus, ended_at: datetime, result: Any) -> None:
        vars(self).update(vars(job))
        self._args, self._kwargs = [], {ARGUMENT: request}
        self._status, self.ended_at, self._result = status, ended_at, result

    def to_dict(self, include_meta: bool = True, *_: Any, **__: Any) -> dict[str, Any]:
        """The fields that a callback may change."""
        fields = Job.to_dict(self, include_meta=include_meta, include_result=False)
        return {name: value for name, value in fields.items() if name not in _OF_THE_WORKER}


def restore_job(job_id: str, raw: RawJob, connection: Redis, queue_name: str) -> HeldJob:
    """Build the RQ job of a hash that was on the queue named ``queue_name``."""
    job = HeldJob(job_id, connection=connection)
    job.restore({b"data": b"", **raw})
    job.origin = job.origin or queue_name
    return job


def read_request(raw: RawJob, limit: int) -> Any:
    """The value that a job's call brings, of those that JSON has; what it means is the backend's to say.

    Args:
        raw: The fields of the job's hash.
        limit: Bytes that the decoded data may have.

    Raises:
        RequestError: One line that says what is wrong and what is accepted.
    """
    call = _decode(raw.get(b"data", b""), limit)
    if not isinstance(call, list) or len(call) != 4:
        raise invalid("data", "not an RQ call; accepted: [function, null, args, kwargs]")
    function, _, args, kwargs = call
    if function != FUNCTION:
        name = function[:80] if isinstance(function, str) else type(function).__name__
        raise invalid("function", f"{name!r}; accepted: {FUNCTION}")
    if args or not isinstance(kwargs, dict) or set(kwargs) != {ARGUMENT}:
        raise invalid("arguments", f"accepted is exactly one keyword argument, {ARGUMENT}")
    return kwargs[ARGUMENT]


def inflate(data: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes of what RQ has compressed, or all of what it has not."""
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error:
        return data


def _decode(data: bytes, limit: int) -> Any:
    """Inflate without passing the limit, then read."""
    plain = inflate(data, limit + 1)
    if len(plain) > limit:
        raise invalid("data", f"larger than {limit} bytes once decoded; accepted: up to {limit} bytes")
    try:
        return read_pickle(plain, limit, _MOST_STEPS) if is_pickled(plain) else json.loads(plain.decode("utf-8"))
    except PickleError as error:
        raise invalid("data", f"a pickle with {error}; accepted: {ACCEPTED}") from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        problem = f"not readable ({type(error).__name__}); accepted: {ACCEPTED}"
        raise invalid("data", problem) from error
