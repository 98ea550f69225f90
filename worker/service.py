"""Puts a worker together: model, pipeline, queue."""

import os
import queue
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from loguru import logger
from rich.markup import escape

from rwkv_tts.schema import RequestError, SynthesisRequest, SynthesisResult
from rwkv_tts.tuning import Tunable, TuningError, changed
from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import Voices
from worker.broker.backend import BackendBrokenError, Cause, Ended
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.callbacks import CallbackError
from worker.broker.connection import wait_for_redis, worker_connection
from worker.cli.console import errors
from worker.ops import logs
from worker.ops.health import Health, HealthServer
from worker.ops.meter import Meter
from worker.ops.metrics import Metrics
from worker.ops.readings import DeviceReadings, EngineReadings, QueueReadings, StageReadings
from worker.settings import Settings
from worker.speech.cloning import REFUSED
from worker.speech.directory import ModelError, SpeechModel, open_model
from worker.speech.pipeline import Pipeline
from worker.speech.synthesis import MODEL_FAULT, Utterance, kept_tokens, make_result, make_utterance

_JOBS_PER_ROW = 2
"""While the audio of one job is made, its row already decodes the next."""

_REFERENCES_AT_ONCE = 8
_UTTERANCES_AT_ONCE = 64  # more are vocoded no faster, and all are padded to the longest
_SCRAPE_SECONDS = 1.0
_WARM_UP = SynthesisRequest(text="One.", max_seconds=0.4, seed=0)
_WARM_UP_ID = "warm up"
"""Ids of jobs have no blanks."""

_CAUSES = {REFUSED: Cause.INVALID, MODEL_FAULT: Cause.MODEL}
"""By how an error begins."""


class WarmUpError(RuntimeError):
    """The model cannot speak."""


class SpeechBackend:
    """Speaks: requests become utterances of a pipeline, utterances become results.

    Args:
        speech: The loaded model.
        settings: Of the pipeline.
        ended: Called with every job that has ended.
        freed: Called when there is room again.
        spoken: Called with every result.

    Attributes:
        stats: What the engine has done; to be read only.
        scheduler: The engine's rows; to be read only.
        busy_seconds: What the stages beside the engine have worked; to be read only.
    """

    def __init__(
        self,
        speech: SpeechModel,
        settings: Settings,
        ended: Callable[[Ended], None],
        freed: Callable[[], None],
        spoken: Callable[[SynthesisResult], None] = lambda _: None,
    ) -> None:
        self._ended, self._spoken = ended, spoken
        self._warmed: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
        self._start = self._values = Tunable(**settings.model_dump(include=set(Tunable.model_fields)))
        self._meter = Meter(counters=4)
        self._pipeline = Pipeline(
            speech,
            max_rows=settings.max_rows,
            token_chunk_size=settings.token_chunk_size,
            done=self._done,
            freed=freed,
            vocoder_batch=1 if settings.device == "cpu" else _UTTERANCES_AT_ONCE,
            clone_batch=1 if settings.device == "cpu" else _REFERENCES_AT_ONCE,
        )
        self.cancel = self._pipeline.cancel
        self.room = self._pipeline.free_rows
        self.progress = self._pipeline.progress
        self.profile = self._pipeline.profile
        self.close = self._pipeline.close
        self.stats, self.scheduler = self._pipeline.stats, self._pipeline.scheduler
        self.busy_seconds = self._pipeline.busy_seconds

    def submit(self, job_id: str, request: SynthesisRequest, queued: float) -> None:
        """Start a job that waited ``queued`` seconds.

        Raises:
            RequestError: The voice is unknown, or the model cannot say the text or clone the reference.
            redis.exceptions.RedisError: Redis is away, and with it the voices.
        """
        self._pipeline.submit(make_utterance(self._pipeline.speech, job_id, request, queued))

    def says(self) -> Mapping[str, Any]:
        """Its values, and how busy it was lately."""
        now = self._pipeline.figures()
        counters = (now.steps, now.row_steps, now.tokens, now.audio_seconds)
        seconds, (steps, row_steps, tokens, audio_seconds) = self._meter.grown(counters)
        return {
            **self._values.model_dump(),
            "slots": self._start.max_rows,
            "rows": now.rows,
            "most_rows": now.most_rows,
            "mean_batch": round(row_steps / steps, 2) if steps else 0.0,
            "tokens_per_second": round(tokens / seconds, 1),
            "audio_seconds_per_second": round(audio_seconds / seconds, 2),
            "audio_seconds": round(now.audio_seconds, 2),
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
        self._pipeline.limit(values.max_rows, values.token_chunk_size, lambda: done(None))
        logger.info("tune: from now on {}", values)

    def warm_up(self) -> None:
        """Speak a word through all stages, before there are jobs; it is not counted.

        Raises:
            WarmUpError: The word did not become audio.
        """
        try:
            utterance = make_utterance(self._pipeline.speech, _WARM_UP_ID, _WARM_UP)
            # A model that ends at once is no reason not to start: the word has its full length.
            utterance.row.decoding = replace(utterance.row.decoding, first_eos=utterance.row.decoding.limit)
            self._pipeline.submit(utterance)
            self._wait_for_warm_up()
        except (RequestError, BackendBrokenError) as error:
            raise WarmUpError(str(error)) from error
        if utterance.error is not None:
            raise WarmUpError(utterance.error)
        self._pipeline.forget_stats()

    def _wait_for_warm_up(self) -> None:
        while True:
            try:
                self._warmed.get(timeout=1.0)
            except queue.Empty:
                self._pipeline.progress()  # raises when a stage has ended
            else:
                return

    def _done(self, utterance: Utterance) -> None:
        if utterance.id == _WARM_UP_ID:
            self._warmed.put(utterance)
        elif utterance.error is not None:
            cause = next((c for start, c in _CAUSES.items() if utterance.error.startswith(start)), Cause.INTERNAL)
            retry = cause is not Cause.INVALID
            self._ended(Ended(utterance.id, error=utterance.error, cause=cause, retry=retry))
        else:
            sample_rate = self._pipeline.sample_rate
            result = make_result(utterance, sample_rate)
            tokens = kept_tokens(utterance, sample_rate).model_dump_json()
            value: dict[str, Any] = result.model_dump(mode="json")
            self._ended(Ended(utterance.id, value, utterance.audio, tokens))
            self._spoken(result)


def run_worker(settings: Settings, url: str, *, burst: bool, profile_steps: int = 0) -> ExitCode:
    """Load the model, speak a word, and drain the queues; meanwhile tell how it goes, where a port is set.

    With ``profile_steps`` a trace of so many steps is written.
    """
    metrics, health = Metrics(), Health()
    with _health_server(settings, metrics, health):
        try:
            worker = _make_worker(settings, url, metrics, health, profile_steps)
        except ModelError as error:
            _give_up("model", error)
        except WarmUpError as error:
            _give_up("warm-up", error)
        except CallbackError as error:
            _give_up("settings", error)
        health.worker = worker
        worker.work(burst=burst, logging_level=None)
    return worker.exit_code


def _make_worker(
    settings: Settings, url: str, metrics: Metrics, health: Health, profile_steps: int
) -> BatchWorker:
    speech = open_model(
        settings.model, settings.device, settings.threads, clone=settings.clone, engine=settings.engine
    )
    connection = worker_connection(url)
    wait_for_redis(connection, settings.outage_timeout)  # it may have gone while the model was loaded
    speech = replace(speech, voices=Voices(speech.voices, VoiceStore(connection, speech.layout)))

    def make_backend(ended: Callable[[Ended], None], freed: Callable[[], None]) -> SpeechBackend:
        health.starting = "the model is warming up"
        backend = SpeechBackend(speech, settings, ended, freed, metrics.spoken)
        backend.warm_up()
        if profile_steps:
            backend.profile(profile_steps, Path(f"profile-{os.getpid()}.json").absolute())
        metrics.registry.register(EngineReadings(backend.stats, backend.scheduler))
        metrics.registry.register(StageReadings(backend.busy_seconds))
        return backend

    metrics.registry.register(QueueReadings(worker_connection(url, _SCRAPE_SECONDS), settings.queue))
    metrics.registry.register(DeviceReadings(settings.device))
    return BatchWorker(
        connection, make_backend, settings, max_jobs=_JOBS_PER_ROW * settings.max_rows, observer=metrics
    )


def _health_server(settings: Settings, metrics: Metrics, health: Health) -> AbstractContextManager[object]:
    """Shows metrics and health for the length of a block, if there is a port for them."""
    if settings.metrics_port is None:
        return nullcontext()
    try:
        return HealthServer(settings.metrics_host, settings.metrics_port, metrics.registry, health)
    except OSError as error:
        where = f"metrics_host {settings.metrics_host}, metrics_port {settings.metrics_port}"
        _give_up("settings", f"{where}: {error.strerror}; accepted: an address of this machine and a free port")


def _give_up(what: str, reason: object) -> NoReturn:
    errors.print(f"[red]{what}:[/] {escape(str(reason))}")
    sys.exit(ExitCode.UNUSABLE)
