"""For producers: submit requests, wait for results, cancel, keep voices. Needs neither a GPU nor a model."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from rwkv_tts.keys import ARGUMENT, FUNCTION, audio_key
from rwkv_tts.load import Busyness, QueueFullError, QueueLoad, WorkerLoad, busyness, enqueue_within
from rwkv_tts.schema import SynthesisResult, parse_request
from rwkv_tts.tuner import NoWorkerError, Tuned, tune
from rwkv_tts.tuning import RESET
from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import Voice, VoiceError, check_voice_id

_BLOCK_SECONDS = 2
"""Below the socket timeout of redis-py, which is 5 seconds by default."""

_LIMIT_SECONDS = 5.0
_ENQUEUED_ELSEWHERE = {"depends_on", "rate_limit", "unique"}
"""Options with which RQ writes more than a queue's list, so that the limit is checked before and not within."""

PREVIEW = "This is how the new voice sounds."
"""What a voice that is made from a recording says first."""

_PREVIEW_SECONDS = 10.0

__all__ = [
    "Busyness",
    "JobFailedError",
    "NoWorkerError",
    "QueueFullError",
    "QueueLoad",
    "Speech",
    "TTSClient",
    "Tuned",
    "Voice",
    "VoiceError",
    "VoiceStore",
    "WorkerLoad",
]

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
        max_queue: Jobs that may wait; the limit that the workers announce when None.

    Attributes:
        connection: Redis.
        queue: Queue name.
        voices: The voices kept in this Redis: add, get, list, rename and remove them, keep a job's.
    """

    def __init__(self, redis: str | Redis, queue: str = "tts", max_queue: int | None = None) -> None:
        self.connection = Redis.from_url(redis) if isinstance(redis, str) else redis
        self._queue = Queue(queue, connection=self.connection, serializer=JSONSerializer)
        self.queue = queue
        self.voices = VoiceStore(self.connection)
        self._max_queue = max_queue
        self._limit, self._limit_until = max_queue, 0.0

    def submit(
        self,
        text: str,
        *,
        result_ttl: int | None = None,
        job_options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """Queue a request and return its job id.

        Args:
            text: What to say.
            result_ttl: Seconds that result and audio are kept; the worker's setting when None.
            job_options: What RQ's ``Queue.enqueue_call`` takes besides: ``job_id``, ``timeout``, ``retry``,
                ``depends_on``, ``at_front``, ``on_success`` and so on.
            fields: The other fields of ``SynthesisRequest``.

        Raises:
            RequestError: The request is not accepted; nothing was queued.
            QueueFullError: Too many jobs wait already; nothing was queued.
        """
        request = parse_request({"text": text, **fields})
        return self.enqueue(
            request.model_dump(mode="json", exclude_unset=True), result_ttl=result_ttl, job_options=job_options
        )

    def enqueue(
        self, request: Any, *, result_ttl: int | None = None, job_options: Mapping[str, Any] | None = None
    ) -> str:
        """Queue a request as it is, for the worker to judge, and return its job id.

        Raises:
            QueueFullError: Too many jobs wait already; nothing was queued.
        """
        options = {"description": "speech", "result_ttl": result_ttl, **(job_options or {})}
        limit = self._current_limit()
        if limit is not None and not _ENQUEUED_ELSEWHERE & options.keys():
            with self.connection.pipeline() as pipeline:
                job = self._queue.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, pipeline=pipeline, **options)
                enqueue_within(self._queue, limit, [args for args, _ in pipeline.command_stack])
                pipeline.command_stack.clear()
            return str(job.id)
        if limit is not None:
            enqueue_within(self._queue, limit, [])
        return str(self._queue.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}, **options).id)

    def submit_voice(
        self, name: str, recording: bytes, transcript: str | None = None, *, preview: str = PREVIEW, **fields: Any
    ) -> str:
        """Queue a short text in a recording's voice and return the job id, for ``voices.keep`` when it is done.

        Args:
            name: The id that the voice is to have; it is checked now, and again when the voice is kept.
            recording: A wav, flac, ogg, opus or mp3 file.
            transcript: The words spoken in it; the voice can then be used with ``use_transcript``.
            preview: The text.
            fields: The other fields of ``SynthesisRequest``.

        Raises:
            VoiceError: ``name`` cannot be an id or is taken; nothing was queued.
            RequestError: The request is not accepted; nothing was queued.
            QueueFullError: Too many jobs wait already; nothing was queued.
        """
        check_voice_id(name)
        self.voices.check_free(name)
        request = {"max_seconds": _PREVIEW_SECONDS, **fields, "reference": base64.b64encode(recording).decode()}
        if transcript is not None:
            request["reference_text"] = transcript
        return self.submit(preview, **request)

    def add_voice(
        self, name: str, recording: bytes, transcript: str | None = None, *, timeout: float | None = None
    ) -> Voice:
        """Have a worker make a voice from a recording, and keep it.

        Args:
            name: The id that the voice gets.
            recording: A wav, flac, ogg, opus or mp3 file.
            transcript: The words spoken in it; the voice can then be used with ``use_transcript``.
            timeout: Seconds to wait for a worker at most; None waits for ever.

        Raises:
            VoiceError: ``name`` cannot be an id or is taken.
            RequestError: The recording or the transcript is not accepted.
            QueueFullError: Too many jobs wait already.
            JobFailedError: The worker could not use the recording; the message is its reason.
            TimeoutError: No worker has made it in time.
        """
        job_id = self.submit_voice(name, recording, transcript)
        self.result(job_id, timeout)
        return self.voices.keep(job_id, name)

    def load(self) -> QueueLoad:
        """How busy the queue is."""
        return self.busyness().queue

    def busyness(self) -> Busyness:
        """How busy the queue and each of its live workers are, and the values that these work with."""
        return busyness(self._queue)

    def tune(
        self,
        worker: str | None = None,
        *,
        log_level: str | None = None,
        token_chunk_size: int | None = None,
        max_rows: int | None = None,
        reset: bool = False,
        timeout: float = 10.0,
    ) -> list[Tuned]:
        """Change values of running workers, and wait until they work with them; each takes all or nothing.

        Redis must let us publish: the role ``tuner`` of ``deploy/redis/users.acl`` may.

        Args:
            worker: RQ's name of one worker; all of the queue when None.
            log_level: TRACE, DEBUG, INFO, WARNING or ERROR.
            token_chunk_size: Prompt tokens that one step may prefill.
            max_rows: Utterances that decode at once, up to the worker's ``slots``; what runs beyond it finishes.
            reset: Go back to the values that the worker was started with, then take those given here.
            timeout: Seconds to wait for confirmations.

        Raises:
            NoWorkerError: There is no such worker; nothing has changed.
        """
        values = {"log_level": log_level, "token_chunk_size": token_chunk_size, "max_rows": max_rows}
        change = {name: value for name, value in values.items() if value is not None}
        return tune(self._queue, {**change, RESET: reset}, worker, timeout)

    def _current_limit(self) -> int | None:
        """Our own limit, else the one that the workers announce, asked for every few seconds."""
        if self._max_queue is None and time.monotonic() >= self._limit_until:
            self._limit, self._limit_until = self.load().limit, time.monotonic() + _LIMIT_SECONDS
        return self._limit

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
