"""For producers: submit a request, wait for its result, cancel it. Needs neither a GPU nor a model."""

import time
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from worker.keys import ARGUMENT, FUNCTION, audio_key
from worker.schema import SynthesisResult, parse_request

_BLOCK_SECONDS = 5
_ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)


class JobFailedError(RuntimeError):
    """The job ended without audio; the message is the worker's reason."""


@dataclass(frozen=True)
class Speech:
    """A finished job: what the worker says of it, and the bytes of the audio file."""

    result: SynthesisResult
    audio: bytes


class TTSClient:
    """Talks to the workers of one queue.

    Args:
        redis: A Redis URL, or a connection whose replies are not decoded.
        queue: Queue name.
    """

    def __init__(self, redis: str | Redis, queue: str = "tts") -> None:
        self.connection = Redis.from_url(redis) if isinstance(redis, str) else redis
        self._queue = Queue(queue, connection=self.connection, serializer=JSONSerializer)

    def submit(self, text: str, *, result_ttl: int | None = None, **fields: Any) -> str:
        """Queue a request and return its job id.

        Args:
            text: What to say.
            result_ttl: Seconds that result and audio are kept; the worker's setting when None.
            fields: The other fields of ``SynthesisRequest``.

        Raises:
            RequestError: The request is not accepted; nothing was queued.
        """
        request = parse_request({"text": text, **fields})
        return self.enqueue(request.model_dump(mode="json", exclude_unset=True), result_ttl=result_ttl)

    def enqueue(self, request: Any, *, result_ttl: int | None = None) -> str:
        """Queue a request as it is, for the worker to judge, and return its job id."""
        job = self._queue.enqueue_call(
            FUNCTION, kwargs={ARGUMENT: request}, result_ttl=result_ttl, description="speech"
        )
        return str(job.id)

    def result(self, job_id: str, timeout: float | None = None) -> Speech:
        """Wait for a job to end.

        Args:
            job_id: What ``submit`` returned.
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            JobFailedError: The job failed, was stopped or cancelled, or its result has expired.
            TimeoutError: It has not ended in time.
            rq.exceptions.NoSuchJobError: There is no such job.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        job = self._fetch(job_id)
        while True:
            status = job.get_status()
            left = _BLOCK_SECONDS if deadline is None else deadline - time.monotonic()
            if status == JobStatus.CANCELED:
                raise JobFailedError("cancelled on request")
            outcome = job.latest_result(timeout=max(1, min(_BLOCK_SECONDS, round(left))))
            if outcome is not None and outcome.type == outcome.Type.SUCCESSFUL:
                return self._speech(job_id, outcome.return_value)
            if outcome is not None and outcome.type == outcome.Type.FAILED:
                raise JobFailedError(outcome.exc_string or "failed without a reason")
            if left <= 0:
                raise TimeoutError(f"job {job_id} has not ended within {timeout} s (it is {status.value})")

    def cancel(self, job_id: str) -> None:
        """Take a queued job off its queue, or stop it where it runs; a job that has ended is left as it is."""
        job = self._fetch(job_id)
        if job.get_status() == JobStatus.STARTED:
            try:
                send_stop_job_command(self.connection, job_id, serializer=JSONSerializer)
            except InvalidJobOperation:
                return
        elif job.get_status() not in (
            JobStatus.FINISHED,
            JobStatus.FAILED,
            JobStatus.STOPPED,
            JobStatus.CANCELED,
        ):
            job.cancel()

    def _fetch(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)

    def _speech(self, job_id: str, value: Any) -> Speech:
        audio = self.connection.get(audio_key(job_id))
        if not isinstance(audio, bytes):
            raise JobFailedError(f"job {job_id}: its audio has expired")
        return Speech(SynthesisResult.model_validate(value), audio)
