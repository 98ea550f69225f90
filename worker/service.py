"""Puts a worker together: model, pipeline, queue."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loguru import logger

from worker import logs
from worker.broker.backend import Ended
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.callbacks import CallbackError
from worker.broker.connection import wait_for_redis, worker_connection
from worker.cloning import REFUSED
from worker.console import errors
from worker.directory import ModelError, SpeechModel, open_model
from worker.meter import Meter
from worker.pipeline import Pipeline
from worker.schema import SynthesisRequest
from worker.settings import Settings
from worker.synthesis import Utterance, kept_tokens, make_result, make_utterance
from worker.tuning import Tunable, TuningError, changed
from worker.voice_store import VoiceStore
from worker.voices import Voices

_JOBS_PER_ROW = 2
"""While the audio of one job is made, its row already decodes the next."""

_REFERENCES_AT_ONCE = 8


class SpeechBackend:
    """Speaks: requests become utterances of a pipeline, utterances become results.

    Args:
        speech: The loaded model.
        settings: Of the pipeline.
        ended: Called with every job that has ended.
        freed: Called when there is room again.
    """

    def __init__(
        self,
        speech: SpeechModel,
        settings: Settings,
        ended: Callable[[Ended], None],
        freed: Callable[[], None],
    ) -> None:
        self._ended = ended
        self._start = self._values = Tunable(**settings.model_dump(include=set(Tunable.model_fields)))
        self._meter = Meter(counters=4)
        self._pipeline = Pipeline(
            speech,
            max_rows=settings.max_rows,
            token_chunk_size=settings.token_chunk_size,
            done=self._done,
            freed=freed,
            vocoder_batch=1 if settings.device == "cpu" else settings.max_rows,
            clone_batch=1 if settings.device == "cpu" else _REFERENCES_AT_ONCE,
        )
        self.cancel = self._pipeline.cancel
        self.room = self._pipeline.free_rows
        self.progress = self._pipeline.progress
        self.profile = self._pipeline.profile
        self.close = self._pipeline.close

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

    def _done(self, utterance: Utterance) -> None:
        if utterance.error is not None:
            retry = not utterance.error.startswith(REFUSED)
            self._ended(Ended(utterance.id, error=utterance.error, retry=retry))
            return
        sample_rate = self._pipeline.sample_rate
        result: dict[str, Any] = make_result(utterance, sample_rate).model_dump(mode="json")
        tokens = kept_tokens(utterance, sample_rate).model_dump_json()
        self._ended(Ended(utterance.id, result, utterance.audio, tokens))


def run_worker(settings: Settings, url: str, *, burst: bool, profile_steps: int = 0) -> ExitCode:
    """Load the model and drain the queues; with ``profile_steps`` a trace of so many steps is written."""
    try:
        speech = open_model(settings.model, settings.device, settings.threads, clone=settings.clone)
    except ModelError as error:
        errors.print(f"[red]model:[/] {error}")
        sys.exit(ExitCode.UNUSABLE)
    connection = worker_connection(url)
    wait_for_redis(connection, settings.outage_timeout)  # it may have gone while the model was loaded
    speech = replace(speech, voices=Voices(speech.voices, VoiceStore(connection, speech.layout)))

    def make_backend(ended: Callable[[Ended], None], freed: Callable[[], None]) -> SpeechBackend:
        backend = SpeechBackend(speech, settings, ended, freed)
        if profile_steps:
            backend.profile(profile_steps, Path(f"profile-{os.getpid()}.json").absolute())
        return backend

    try:
        worker = BatchWorker(
            connection,
            make_backend,
            settings,
            max_jobs=_JOBS_PER_ROW * settings.max_rows,
        )
    except CallbackError as error:
        errors.print(f"[red]settings:[/] {error}")
        sys.exit(ExitCode.UNUSABLE)
    worker.work(burst=burst, logging_level=None)
    return worker.exit_code
