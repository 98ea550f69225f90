"""What a worker accepts of an RQ job: data of bounded size, JSON, one function, nothing that names code."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from worker.keys import ARGUMENT, FUNCTION
from worker.schema import RequestError, SynthesisRequest, parse_request

RawJob = Mapping[bytes, bytes]


class SpeechJob(Job):
    """An RQ job whose callbacks and webhooks are never looked up: a job must not name code or addresses."""

    success_callback = failure_callback = stopped_callback = None

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        """Webhooks are off."""


def read_request(raw: RawJob, limit: int) -> SynthesisRequest:
    """Decode and validate the request of a job hash.

    Args:
        raw: The fields of the job's hash.
        limit: Bytes that the decoded data may have.

    Raises:
        RequestError: One line that says what is wrong and what is accepted.
    """
    call = _decode(raw.get(b"data", b""), limit)
    if not isinstance(call, list) or len(call) != 4:
        raise RequestError("data: not an RQ call; accepted: [function, null, args, kwargs] as JSON")
    function, _, args, kwargs = call
    if function != FUNCTION:
        name = function[:80] if isinstance(function, str) else type(function).__name__
        raise RequestError(f"function: {name!r}; accepted: {FUNCTION}")
    if args or not isinstance(kwargs, dict) or set(kwargs) != {ARGUMENT}:
        raise RequestError(f"arguments: accepted is exactly one keyword argument, {ARGUMENT}")
    return parse_request(kwargs[ARGUMENT])


def _decode(data: bytes, limit: int) -> Any:
    """Inflate without passing the limit, then parse JSON. Data that is not compressed is taken as it is."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, limit + 1)
    except zlib.error:
        plain = data
    if len(plain) > limit:
        raise RequestError(f"data: larger than {limit} bytes once decoded; accepted: up to {limit} bytes")
    try:
        return json.loads(plain.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"data: not readable ({type(error).__name__}); accepted: JSON in UTF-8 (RQ's JSONSerializer)"
        ) from error


def restore_job(job_id: str, raw: RawJob, connection: Redis) -> SpeechJob:
    """Build the RQ job of a hash, without the error of an earlier try: RQ inflates that without a limit.

    Raises:
        RequestError: A field of the hash cannot be read.
    """
    job = SpeechJob(job_id, connection=connection, serializer=JSONSerializer)
    try:
        job.restore({name: value for name, value in raw.items() if name != b"exc_info"})
    except Exception as error:
        raise RequestError(
            f"job: its hash is not readable ({type(error).__name__}: {str(error)[:200]}); accepted: what RQ writes"
        ) from error
    return job


def unreadable_job(job_id: str, queue_name: str, connection: Redis) -> SpeechJob:
    """A stand-in for a job whose hash cannot be read: enough to fail it."""
    fields = {b"data": b"", b"origin": queue_name.encode(), b"status": b"queued"}
    return restore_job(job_id, fields, connection)
