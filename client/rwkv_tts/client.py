"""For producers: submit requests, wait for results, cancel, keep voices. Needs neither a GPU nor a model."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from redis import Redis
from rq.queue import Queue
from rq.serializers import JSONSerializer

from rwkv_tts.audio_store import REDIS, AudioStore
from rwkv_tts.cancellation import cancel
from rwkv_tts.connection import connect
from rwkv_tts.listening import SpeechStream
from rwkv_tts.load import Busyness, QueueLoad, busyness
from rwkv_tts.presence import Presence
from rwkv_tts.progress import SpeechProgress, fetch_progress
from rwkv_tts.results import Speech, drop, fetch_job, signed_url, wait_for
from rwkv_tts.schema import SynthesisRequest, parse_request
from rwkv_tts.submission import Submission
from rwkv_tts.tuner import Tuned, tune
from rwkv_tts.tuning import RESET
from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import Voice, check_voice_id

PREVIEW = "This is how the new voice sounds."
"""What a voice that is made from a recording says first."""

_PREVIEW_SECONDS = 10.0


class TTSClient:
    """Talks to the workers of one queue; safe to use from several threads.

    Args:
        redis: A URL of Redis or its Sentinels (``rwkv_tts.connection``), or a connection that decodes no replies.
        queue: Queue name.
        max_queue: Jobs that may wait; the limit that the workers announce when None.
        commit_replicas: Replicas of Redis that must have a job before ``submit`` returns.
        results: The workers' setting; audio is read from there and from Redis only, whatever a result says.

    Attributes:
        connection: Redis.
        queue: Queue name.
        store: Where audio is that lies outside Redis; None without one.
        voices: The voices kept in this Redis: add, get, list, rename and remove them, keep a job's.
        presence: Lets jobs end with this client.
    """

    def __init__(
        self,
        redis: str | Redis,
        queue: str = "tts",
        max_queue: int | None = None,
        *,
        commit_replicas: int = 0,
        results: str = REDIS,
    ) -> None:
        self.store = None if results == REDIS else AudioStore(results)
        self.connection = connect(redis) if isinstance(redis, str) else redis
        self._queue = Queue(queue, connection=self.connection, serializer=JSONSerializer)
        self.queue = queue
        self.voices = VoiceStore(self.connection)
        self.presence = Presence(self.connection)
        self._submission = Submission(self._queue, max_queue, commit_replicas)

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
            UnconfirmedError: ``commit_replicas`` have not confirmed the job; it may or may not be queued.
        """
        request = parse_request({"text": text, **fields})
        return self.enqueue(request, result_ttl=result_ttl, job_options=job_options)

    def enqueue(
        self, request: Any, *, result_ttl: int | None = None, job_options: Mapping[str, Any] | None = None
    ) -> str:
        """Queue a request, a ``SynthesisRequest`` or JSON for the worker to judge, and return its job id.

        Raises:
            QueueFullError, UnconfirmedError: As from ``submit``.
        """
        if isinstance(request, SynthesisRequest):
            request = request.model_dump(mode="json", exclude_unset=True)
        return self._submission.enqueue(request, result_ttl, job_options or {})

    def stream(self, text: str, **options: Any) -> SpeechStream:
        """As ``submit``, and hear it while it is made; closing it early or ending the process cancels the job."""
        options["job_options"] = self.presence.bind(options.get("job_options"))
        return self.listen(self.submit(text, stream=True, **options))

    def listen(self, job_id: str, idle: Callable[[], object] = lambda: None) -> SpeechStream:
        """Hear a job whose request has ``stream``, from its beginning.

        Args:
            job_id: What ``submit`` returned.
            idle: Called when nothing has come for a while; what it raises ends the listening, and the job with it.

        Raises:
            rq.exceptions.NoSuchJobError: There is no such job.
        """
        return SpeechStream(fetch_job(self.connection, job_id), self.presence, self.cancel, idle)

    def submit_voice(
        self, name: str, recording: bytes, transcript: str | None = None, *, preview: str = PREVIEW, **fields: Any
    ) -> str:
        """Queue a short text in a recording's voice and return the job id, for ``voices.keep`` when it is done.

        Args:
            name: The id that the voice is to have; it is checked now, and again when the voice is kept.
            recording: An audio file of any usual format.
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
        return self.submit(preview, **_preview_fields(recording, transcript, fields))

    def add_voice(
        self, name: str, recording: bytes, transcript: str | None = None, *, timeout: float | None = None
    ) -> Voice:
        """Have a worker make a voice from a recording, and keep it; takes what ``submit_voice`` takes.

        Args:
            timeout: Seconds to wait for a worker at most; None waits for ever.

        Raises:
            VoiceError, RequestError, QueueFullError: As from ``submit_voice``.
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
        self, worker: str | None = None, *, reset: bool = False, timeout: float = 10.0, **values: Any
    ) -> list[Tuned]:
        """Change values of running workers, and wait until they work with them; each takes all or nothing.

        Redis must let us publish: the role ``tuner`` of ``deploy/redis/users.acl`` may.

        Args:
            worker: RQ's name of one worker; all of the queue when None.
            reset: Go back to the values that the worker was started with, then take those given here.
            timeout: Seconds to wait for confirmations.
            values: The fields of ``Tunable`` to change; the worker judges them.

        Raises:
            NoWorkerError: There is no such worker; nothing has changed.
        """
        return tune(self._queue, {**values, RESET: reset}, worker, timeout)

    def result(self, job_id: str, timeout: float | None = None, *, keep: bool = True) -> Speech:
        """Wait for a job to end.

        Args:
            job_id: What ``submit`` returned.
            timeout: Seconds to wait at most; None waits for ever.
            keep: Whether result and audio are kept any longer. If not, they and the job are deleted once they
                are here; without the right to do so, the error of Redis says it, and nothing is deleted.

        Raises:
            JobFailedError: The job failed, was stopped or cancelled, or its result has expired.
            StoreError: The audio lies in a store that is away, or is not this client's; the job is done.
            TimeoutError: It has not ended in time.
            rq.exceptions.NoSuchJobError: There is no such job.
        """
        job = fetch_job(self.connection, job_id)
        found = wait_for(job, self.store, timeout)
        if not keep:
            drop(job, found, self.store)
        return found.speech

    def audio_url(self, job_id: str, expires: float = 3600.0) -> str:
        """A URL under which anybody can fetch the audio of a finished job for ``expires`` seconds.

        Raises as ``result``; StoreError also when there is no URL: for audio in Redis or in a folder.
        """
        return signed_url(fetch_job(self.connection, job_id), self.store, expires)

    def progress(self, job_id: str) -> SpeechProgress | None:
        """How far a stream or a long text has come, as of a second ago; None before, and of all other jobs."""
        return fetch_progress(self.connection, job_id)

    def cancel(self, job_id: str) -> bool:
        """Take a queued job off its queue, or have it stopped where it runs; one that has ended is left as it is.

        Returns:
            True: it is cancelled, or its worker stops it: at once, or at its next sign of life if the message is
            lost, and so does who takes it over from a dead worker. Only what ends by itself before ends otherwise.
            False: it had ended.

        Raises:
            rq.exceptions.NoSuchJobError: There is no such job.
            redis.exceptions.RedisError: Redis is away or refuses to write: the job goes on.
        """
        return cancel(fetch_job(self.connection, job_id))


def _preview_fields(recording: bytes, transcript: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of the request that makes a voice from a recording."""
    request = {"max_seconds": _PREVIEW_SECONDS, **fields, "reference": base64.b64encode(recording).decode()}
    return request if transcript is None else {**request, "reference_text": transcript}
