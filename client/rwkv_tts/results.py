"""Reads how a job has ended: with speech, or with the reason why there is none."""

from dataclasses import dataclass

from redis import Redis
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from rwkv_tts.keys import audio_key
from rwkv_tts.schema import SynthesisResult

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)

BLOCK_SECONDS = 2.0
"""Below the socket timeout of redis-py, which is 5 seconds by default."""


class JobFailedError(RuntimeError):
    """The job ended without audio; the message is the worker's reason."""


@dataclass(frozen=True)
class Speech:
    """A finished job: what the worker says of it, and the bytes of the audio file."""

    result: SynthesisResult
    audio: bytes


def fetch_job(connection: Redis, job_id: str) -> Job:
    """The RQ job of an id.

    Raises:
        rq.exceptions.NoSuchJobError: There is none.
    """
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


def results_key(job_id: str) -> str:
    """The stream that gets an entry when the job ends; a reader can block on it."""
    return str(Result.get_key(job_id))


def look(job: Job) -> Speech | None:
    """The speech of a job that has ended; None while it has not.

    Raises:
        JobFailedError: It failed, was stopped or cancelled, or its result has expired.
    """
    status = job.get_status()  # before the entries: an entry that is written later must not be missed
    outcome = job.latest_result()
    if outcome is not None and outcome.type == outcome.Type.SUCCESSFUL:
        return _speech(job, outcome)
    if outcome is not None and outcome.type == outcome.Type.FAILED:
        raise JobFailedError(outcome.exc_string or "failed without a reason")
    if status == JobStatus.CANCELED:
        raise JobFailedError("cancelled on request")
    if status in (JobStatus.FAILED, JobStatus.STOPPED):
        job.refresh()
        raise JobFailedError(job._exc_info or f"{status.value} without a reason")
    return None


def _speech(job: Job, outcome: Result) -> Speech:
    audio = job.connection.get(audio_key(job.id))
    if not isinstance(audio, bytes):
        raise JobFailedError(f"job {job.id}: its audio has expired")
    result = SynthesisResult.model_validate(outcome.return_value)
    return Speech(result.model_copy(update={"worker": outcome.worker_name or ""}), audio)
