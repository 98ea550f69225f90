"""What the broker needs, done by speech: requests become utterances, finished utterances become results."""

import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from loguru import logger
from redis import Redis

from rwkv_tts.audio_store import LONGEST_JOB_ID, new_name
from rwkv_tts.refusal import Cause, Refusal, RequestError, invalid
from rwkv_tts.schema import SynthesisRequest, SynthesisResult, parse_request
from rwkv_tts.tuning import Tunable, TuningError, changed
from rwkv_tts.voice_store import VoiceStore
from worker import __version__
from worker.broker.backend import BackendBrokenError, Ended, Made, Stage
from worker.broker.meter import Meter
from worker.delivery.attachments import attachments
from worker.delivery.uploads import Upload, Uploads
from worker.ops import logs
from worker.settings import Settings
from worker.speech.apart import open_apart
from worker.speech.capacity import Capacity
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel
from worker.speech.pipeline import Pipeline, StageBrokenError
from worker.speech.preparation import make_utterance
from worker.speech.summary import kept_tokens, make_result, progress_of, stages
from worker.speech.utterance import Step, Utterance

_LATELY_SECONDS = 10.0
_RECORDINGS_AT_ONCE = 8
_PARTS_AT_ONCE = 64  # more are vocoded no faster, and all are padded to the longest
_VOICES_TOLD = 100
_LANGUAGES = {"english": ("en",), "chinese": ("zh",)}
"""Of models whose normaliser makes words of one language only."""

_WARM_UP = SynthesisRequest(text="One.", max_seconds=0.4, seed=0)
_WARM_UP_ID = "warm up"
"""Ids of jobs have no blanks."""


class WarmUpError(RuntimeError):
    """The model cannot speak."""


def load_speech(settings: Settings, connection: Redis) -> SpeechModel:
    """Load the model of the settings, which finds voices that are kept in Redis, too.

    Raises:
        ModelError: It cannot be used.
        ValueError: Several devices are set, which one process cannot have.
    """
    if settings.devices:
        raise ValueError("devices: of the command `rwkv-tts worker` alone; accepted here: device")
    kept = VoiceStore(connection)
    told = settings.model_dump(include={"device", "threads", "clone", "engine"})
    if settings.compute == "process":
        logging = {"log_level": settings.log_level, "log_json": settings.log_format == "json"}
        return open_apart(settings.model, told | logging, kept)
    return open_model(settings.model, **told, kept_voices=kept)


class SpeechBackend:
    """Speaks.

    Args:
        speech: The loaded model.
        settings: Of the pipeline.
        post: Called with what jobs have made, and with every job that has ended.
        freed: Called when there is room again.
        spoken: Called with every result.
        uploads: Take audio that does not go to Redis.

    Attributes:
        pipeline: The threads that speak; to be read only.
    """

    def __init__(
        self,
        speech: SpeechModel,
        settings: Settings,
        post: Callable[[Ended | Made], None],
        freed: Callable[[], None],
        spoken: Callable[[SynthesisResult], None] = lambda _: None,
        uploads: Uploads | None = None,
    ) -> None:
        self._post, self._spoken, self._uploads = post, spoken, uploads
        self._warmed: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
        self._start = self._values = Tunable(**settings.model_dump(include=set(Tunable.model_fields)))
        self._meter, self._capacity = Meter(counters=4, window=_LATELY_SECONDS), Capacity()
        self.pipeline = Pipeline(
            speech,
            max_rows=settings.max_rows,
            token_chunk_size=settings.token_chunk_size,
            done=self._done,
            made=self._made,
            freed=freed,
            vocoder_batch=1 if settings.device == "cpu" else _PARTS_AT_ONCE,
            clone_batch=1 if settings.device == "cpu" else _RECORDINGS_AT_ONCE,
        )
        self._speech = speech
        self._voices = sorted(voice.id for voice in speech.voices)[:_VOICES_TOLD]

    def expect(self, requests: Sequence[Any]) -> None:
        """Fetch the voices that these name, in one round trip.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        named = [request.get("voice") for request in requests if isinstance(request, dict)]
        speech = self.pipeline.speech
        voices = speech.voices.now(name for name in named if isinstance(name, str))
        self._speech = replace(speech, voices=voices)

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes]) -> None:
        """Start a job that waited ``queued`` seconds.

        Raises:
            RequestError: The request is wrong, the voice is unknown, or the model cannot say the text or clone the
                recording.
            redis.exceptions.RedisError: Redis is away, and with it the voices.
        """
        parsed = parse_request(request)
        if self._uploads is not None and len(job_id) > LONGEST_JOB_ID:
            raise invalid("job id", f"{len(job_id)} characters; accepted: up to {LONGEST_JOB_ID}")
        self.pipeline.submit(make_utterance(self._speech, job_id, parsed, queued, before))

    def cancel(self, job_id: str, refusal: Refusal) -> None:
        """End a job as soon as possible."""
        self.pipeline.cancel(job_id, refusal)
        if self._uploads is not None:
            self._uploads.cancel(job_id)

    def room(self) -> int:
        """Jobs that could start at once; none while their results could not leave."""
        if self._uploads is not None:
            self._uploads.look()
            if self._uploads.trouble is not None:
                return 0
        return self.pipeline.free_rows()

    def close(self) -> None:
        """Let what is inside finish and end the threads."""
        self.pipeline.close()
        if self._uploads is not None:
            self._uploads.close()

    def progress(self) -> int | None:
        """A number that changes whenever any job advances; None when there is nothing to do.

        Raises:
            BackendBrokenError: Jobs will not advance any more.
        """
        try:
            return self.pipeline.progress()
        except StageBrokenError as error:
            raise BackendBrokenError(str(error)) from error

    def says(self) -> Mapping[str, Any]:
        """Its values, and how busy it was lately."""
        engine = self.pipeline.engine
        stats = engine.stats
        counters = (stats.steps, stats.row_steps, stats.drawn, self.pipeline.audio_seconds)
        seconds, (steps, row_steps, tokens, audio_seconds) = self._meter.grown(counters)
        rows = sum(engine.phases().values())
        self._capacity.look(time.monotonic(), stats.drawn, full=rows >= engine.max_rows)
        return {
            **self._values.model_dump(),
            "slots": self._start.max_rows,
            "rows": rows,
            "most_rows": engine.max_rows,
            "mean_batch": round(row_steps / steps, 2) if steps else 0.0,
            "tokens_per_second": round(tokens / seconds, 1),
            "audio_seconds_per_second": round(audio_seconds / seconds, 2),
            "audio_seconds": round(self.pipeline.audio_seconds, 2),
            "voices": self._voices,
            "languages": _LANGUAGES.get(self._speech.config.text.normalizer, ("en", "zh")),
            "capacity": self._capacity.jobs_per_second(),
        }

    def tune(self, change: Mapping[str, Any], done: Callable[[str | None], None], /) -> None:
        """Change log level, chunk size and rows, all or nothing; ``done`` is told when the engine has taken it."""
        try:
            values = changed(self._values, self._start, change)
        except TuningError as error:
            logger.warning("tune: {}; nothing is changed", error)
            done(str(error))
            return
        self._values = values
        logs.set_level(values.log_level)
        self.pipeline.speech.compute.set_log_level(values.log_level)
        self.pipeline.limit(values.max_rows, values.token_chunk_size, lambda: done(None))
        logger.info("tune: from now on {}", values)

    def warm_up(self) -> None:
        """Speak a word through all stages, before there are jobs; it is not counted.

        Raises:
            WarmUpError: The word did not become audio.
        """
        try:
            utterance = make_utterance(self.pipeline.speech, _WARM_UP_ID, _WARM_UP)
            for part in utterance.parts:
                # A model that ends at once is no reason not to start: the word has its full length.
                part.row.decoding = replace(part.row.decoding, first_eos=part.row.decoding.limit)
            self.pipeline.submit(utterance)
            self._wait_for_warm_up()
        except (RequestError, StageBrokenError) as error:
            raise WarmUpError(str(error)) from error
        if utterance.refusal is not None:
            raise WarmUpError(str(utterance.refusal))
        self.pipeline.forget_stats()

    def _wait_for_warm_up(self) -> None:
        while True:
            try:
                self._warmed.get(timeout=1.0)
            except queue.Empty:
                self.pipeline.progress()  # raises when a stage has ended
            else:
                return

    def _made(self, step: Step) -> None:
        kept = step.entry.model_dump_json().encode()
        shown = progress_of(step.utterance, step.seconds).model_dump() if step.seconds else {}
        self._post(Made(step.utterance.id, step.entry.number, heard(step), kept, shown))

    def _done(self, utterance: Utterance) -> None:
        if utterance.id == _WARM_UP_ID:
            self._warmed.put(utterance)
        elif utterance.refusal is not None:
            self._post(Ended(utterance.id, refusal=utterance.refusal, stages=_stages(utterance)))
        else:
            try:
                self._finish(utterance)
            except Exception as error:  # noqa: BLE001 - or the job would never end
                logger.exception("a result cannot be summed up")
                problem = f"{type(error).__name__}: {error}"
                self._post(Ended(utterance.id, refusal=Refusal("result", Cause.INTERNAL, problem)))

    def _finish(self, utterance: Utterance) -> None:
        if utterance.account is not None:
            self._capacity.ended(utterance.account.semantic)
        if self._uploads is None or not utterance.audio:  # that of a stream is in its chunks
            ended, result = finished(utterance, self.pipeline.speech)
            self._post(ended)
        else:
            name = new_name(utterance.id, utterance.request.format)
            address = self._uploads.store.address(name)
            ended, result = finished(utterance, self.pipeline.speech, address)
            self._post(Ended(utterance.id, worked=True))
            self._uploads.put(Upload(utterance.id, name, utterance.audio, lambda: self._post(ended)))
        utterance.audio = b""  # a stage that waits may hold its last utterance
        self._spoken(result)


def heard(step: Step) -> dict[str, bytes]:
    """The entry of a stream's chunks for a step; no field where it has no audio."""
    fields = {"audio": step.audio} if step.audio else {}
    if step.audio and step.changes:
        fields["head"] = json.dumps([[offset, content.hex()] for offset, content in step.changes]).encode()
    return fields


def finished(
    utterance: Utterance, speech: SpeechModel, address: str | None = None
) -> tuple[Ended, SynthesisResult]:
    """What to record of an utterance that has its audio; ``address``: where that is, when not in Redis."""
    sample_rate = speech.compute.sample_rate
    update = {
        "address": address,
        "model": speech.config.name,
        "model_sha256": speech.sha256,
        "engine": speech.compute.description,
        "version": __version__,
    }
    result = make_result(utterance, sample_rate).model_copy(update=update)
    audio = utterance.audio if address is None else b""
    stored = attachments(utterance.id, audio, kept_tokens(utterance, sample_rate))
    return Ended(utterance.id, result.model_dump(mode="json"), stored, stages=_stages(utterance)), result


def _stages(utterance: Utterance) -> list[Stage]:
    return [Stage(*stage) for stage in stages(utterance)]
