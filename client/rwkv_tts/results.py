"""Reads how a job has ended: with speech, or with the reason why there is none."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from rwkv_tts.keys import audio_key, tokens_key
from rwkv_tts.schema import SynthesisResult

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)

BLOCK_SECONDS = 2.0
"""Below the socket timeout of redis-py, which is 5 seconds by default."""


_DROP = files(__package__).joinpath("lua/drop.lua").read_text()


class JobFailedError(RuntimeError):
    """The job ended without audio; the message is the worker's reason."""


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
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


def results_key(job_id: str) -> str:
    """The stream that gets an entry when the job ends; a reader can block on it."""
    return str(Result.get_key(job_id))


def look(job: Job) -> Found | None:
    """The speech of a job that has ended; None while it has not.

    Raises:
        JobFailedError: It failed, was stopped or cancelled, or its result has expired.
    """
    status = _status(job)  # before the entries: an entry that is written later must not be missed
    outcome = job.latest_result()
    if outcome is not None and outcome.type == outcome.Type.SUCCESSFUL:
        return _found(job, outcome)
    if outcome is not None and outcome.type == outcome.Type.FAILED:
        raise JobFailedError(outcome.exc_string or "failed without a reason")
    if status == JobStatus.CANCELED:
        raise JobFailedError("cancelled on request")
    if status in (JobStatus.FAILED, JobStatus.STOPPED):
        job.refresh()
        raise JobFailedError(job._exc_info or f"{status.value} without a reason")
    return None


def drop(job: Job, entry: str) -> None:
    """Delete a job whose result was fetched, with its audio and tokens; of one that repeats, not the job.

    Args:
        job: It has ended.
        entry: The one that was fetched; nothing is deleted when there is a newer one.

    Raises:
        redis.exceptions.ResponseError: Redis does not let us; nothing was deleted.
    """
    registry = FinishedJobRegistry(job.origin, connection=job.connection).key
    beside = (audio_key(job.id), tokens_key(job.id), job.dependents_key)
    arguments = (results_key(job.id), entry, registry, job.id, *beside)
    with suppress(ConnectionError, TimeoutError):  # it may be done; if not, the time to live is still there
        job.connection.eval(_DROP, 1, job.key, *arguments)


def _status(job: Job) -> JobStatus:
    try:
        return job.get_status()
    except InvalidJobOperation:
        raise _expired(job) from None


def _found(job: Job, outcome: Result) -> Found:
    audio = job.connection.get(audio_key(job.id))
    if not isinstance(audio, bytes):
        raise _expired(job)
    result = SynthesisResult.model_validate(outcome.return_value)
    return Found(Speech(result, audio, outcome.worker_name or ""), str(outcome.id))


def _expired(job: Job) -> JobFailedError:
    return JobFailedError(f"job {job.id}: its audio has expired, or was dropped when it was fetched")
