"""Reads how a job has ended: with speech, or with the reason why there is none."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from rwkv_tts.audio_store import AudioStore, NotStoredError, StoreError
from rwkv_tts.keys import REFUSAL_FIELD, audio_key, chunks_key, tokens_key
from rwkv_tts.pickles import EitherSerializer
from rwkv_tts.refusal import Cause, Refusal
from rwkv_tts.schema import SynthesisResult

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)

BLOCK_SECONDS = 2.0
"""Below the socket timeout of redis-py, which is 5 seconds by default."""


_DROP = files(__package__).joinpath("lua/drop.lua").read_text()


class JobFailedError(RuntimeError):
    """The job ended without audio; the message is the worker's reason.

    Attributes:
        refusal: The same as a value; None where it has expired, or was written by a stock RQ worker.
    """

    def __init__(self, reason: str, refusal: Refusal | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


@dataclass(frozen=True)
class Speech:
    """A finished job: what the worker says of it, the bytes of the audio file, and RQ's name of the worker."""

    result: SynthesisResult
    audio: bytes
    worker: str = ""


class Found(NamedTuple):
    """A speech, and the id of the entry that told of it."""

    speech: Speech
    entry: str


def fetch_job(connection: Redis, job_id: str) -> Job:
    """The RQ job of an id.

    Raises:
        rq.exceptions.NoSuchJobError: There is none.
    """
    return Job.fetch(job_id, connection=connection, serializer=EitherSerializer)


def fresh_job(connection: Redis, job_id: str, queue: str) -> Job:
    """The same of one that was just queued, without asking for it."""
    job = Job(job_id, connection=connection, serializer=JSONSerializer)
    job.origin = queue
    return job


def results_key(job_id: str) -> str:
    """The stream that gets an entry when the job ends; a reader can block on it."""
    return str(Result.get_key(job_id))


def ended(job: Job) -> Result | None:
    """RQ's record of a job that has finished; None while it has not ended.

    Raises:
        JobFailedError: It failed, was stopped or cancelled, or its result has expired.
    """
    status = _status(job)  # before the entries: an entry that is written later must not be missed
    outcome = job.latest_result()
    if outcome is not None and outcome.type == outcome.Type.SUCCESSFUL:
        return outcome
    if outcome is not None and outcome.type == outcome.Type.FAILED:
        raise _failed(job, outcome.exc_string or "failed without a reason")
    if status == JobStatus.CANCELED:
        raise JobFailedError("cancelled on request", Refusal("", Cause.CANCELLED, "cancelled on request"))
    if status in (JobStatus.FAILED, JobStatus.STOPPED):
        job.refresh()
        raise _failed(job, job._exc_info or f"{status.value} without a reason")
    return None


def look(job: Job, store: AudioStore | None) -> Found | None:
    """The speech of a job that has ended; None while it has not.

    Args:
        job: The job.
        store: Where audio is that lies outside Redis.

    Raises:
        JobFailedError: It failed, was stopped or cancelled, or its result has expired.
        StoreError: Its audio lies in a store that is away, or is another one.
    """
    outcome = ended(job)
    if outcome is None:
        return None
    result = SynthesisResult.model_validate(outcome.return_value)
    audio = _audio(job, result, store)
    if not isinstance(audio, bytes):
        raise expired(job)
    return Found(Speech(result, audio, outcome.worker_name or ""), str(outcome.id))


def wait_for(job: Job, store: AudioStore | None, timeout: float | None) -> Found:
    """As ``look``, when the job has ended.

    Raises:
        TimeoutError: It has not, within ``timeout`` seconds.
    """
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    while (found := look(job, store)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            status = job.get_status().value
            raise TimeoutError(f"job {job.id} has not ended within {timeout} s (it is {status})")
        block = max(1, round(1000 * min(BLOCK_SECONDS, left)))
        job.connection.xread({results_key(job.id): "0-0"}, count=1, block=block)
    return found


def signed_url(job: Job, store: AudioStore | None, seconds: float) -> str:
    """A URL under which anybody can fetch the audio of a finished job for so long.

    Raises:
        JobFailedError: It failed, was stopped or cancelled, or its result has expired.
        StoreError: It has not ended, its audio is in Redis, or its store cannot sign.
    """
    outcome = ended(job)
    address = None if outcome is None else SynthesisResult.model_validate(outcome.return_value).address
    if address is None:
        problem = "has not ended" if outcome is None else "has its audio in Redis, which has no URLs"
        raise StoreError(f"job {job.id} {problem}; accepted: a finished job with audio in a store")
    return _opened(store, job, address).sign(address, seconds)


def _audio(job: Job, result: SynthesisResult, store: AudioStore | None) -> Any:
    if result.audio_key == chunks_key(job.id):
        return _streamed(job)
    if result.address is None:
        return job.connection.get(audio_key(job.id))
    with suppress(NotStoredError):
        return _opened(store, job, result.address).get(result.address)
    return None


def _streamed(job: Job) -> bytes | None:
    """The whole file of a job that was heard while it was made: its head tells its length now."""
    entries: Any = job.connection.xrange(chunks_key(job.id))
    if not entries:
        return None
    content = bytearray(b"".join(fields.get(b"audio", b"") for _, fields in entries))
    for _, fields in entries:
        for offset, change in json.loads(fields.get(b"head", b"[]")):
            new = bytes.fromhex(change)
            content[offset : offset + len(new)] = new
    return bytes(content)


def drop(job: Job, found: Found, store: AudioStore | None) -> None:
    """Delete a job whose result was fetched, with its audio and tokens; of one that repeats, not the job.

    Audio that a store does not let us delete is swept by the workers.

    Args:
        job: It has ended.
        found: What was fetched; nothing is deleted when there is a newer result.
        store: Where its audio is, if not in Redis.

    Raises:
        redis.exceptions.ResponseError: Redis does not let us; nothing was deleted.
    """
    if forget(job, found.entry) and (address := found.speech.result.address) is not None:
        with suppress(StoreError):
            _opened(store, job, address).delete([address])


def forget(job: Job, entry: str) -> bool:
    """Delete what Redis has of a job that has ended, and whether that was done.

    Args:
        job: One whose origin is known.
        entry: Its newest result; nothing is deleted when there is a newer one.

    Raises:
        redis.exceptions.ResponseError: Redis does not let us; nothing was deleted.
    """
    registry = FinishedJobRegistry(job.origin, connection=job.connection).key
    beside = (audio_key(job.id), chunks_key(job.id), tokens_key(job.id), job.dependents_key)
    arguments = (results_key(job.id), entry, registry, job.id, *beside)
    # It may be done although the answer is lost; if not, the time to live is still there.
    with suppress(RedisConnectionError, RedisTimeoutError):
        return bool(job.connection.eval(_DROP, 1, job.key, *arguments))
    return False


def _opened(store: AudioStore | None, job: Job, address: str) -> AudioStore:
    """The store of the client, to ask it for the audio of a job.

    Raises:
        StoreError: The client has none, or the address is that of another job.
    """
    shown = repr(address[:300])
    if store is None:
        reason = f"results: the audio lies at {shown}; accepted: a client that was given results=URL"
        raise StoreError(reason, permanent=True)
    if address.rpartition("/")[2].rpartition("-")[0] != job.id:
        raise StoreError(f"results: {shown} is not audio of job {job.id}", permanent=True)
    return store


def _status(job: Job) -> JobStatus:
    try:
        return job.get_status()
    except InvalidJobOperation:
        raise expired(job) from None


def _failed(job: Job, reason: str) -> JobFailedError:
    newest: Any = job.connection.xrevrange(results_key(job.id), count=1)
    told = newest[0][1].get(REFUSAL_FIELD.encode()) if newest else None
    return JobFailedError(reason, Refusal.load(told) if told else None)


def expired(job: Job) -> JobFailedError:
    """The error for a job of which something is gone."""
    return JobFailedError(f"job {job.id}: its audio has expired, or was dropped when it was fetched")
