"""Puts a worker together: model, pipeline, queue."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from worker.broker.backend import Ended
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.callbacks import CallbackError
from worker.broker.connection import wait_for_redis, worker_connection
from worker.cloning import REFUSED
from worker.console import errors
from worker.directory import ModelError, SpeechModel, open_model
from worker.pipeline import Pipeline
from worker.schema import SynthesisRequest
from worker.settings import Settings
from worker.synthesis import Utterance, kept_tokens, make_result, make_utterance
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
        self.close = self._pipeline.close

    def submit(self, job_id: str, request: SynthesisRequest, queued: float) -> None:
        """Start a job that waited ``queued`` seconds.

        Raises:
            RequestError: The voice is unknown, or the model cannot say the text or clone the reference.
            redis.exceptions.RedisError: Redis is away, and with it the voices.
        """
        self._pipeline.submit(make_utterance(self._pipeline.speech, job_id, request, queued))

    def _done(self, utterance: Utterance) -> None:
        if utterance.error is not None:
            retry = not utterance.error.startswith(REFUSED)
            self._ended(Ended(utterance.id, error=utterance.error, retry=retry))
            return
        sample_rate = self._pipeline.sample_rate
        result: dict[str, Any] = make_result(utterance, sample_rate).model_dump(mode="json")
        tokens = kept_tokens(utterance, sample_rate).model_dump_json()
        self._ended(Ended(utterance.id, result, utterance.audio, tokens))


def run_worker(settings: Settings, url: str, *, burst: bool) -> ExitCode:
    """Load the model and drain the queues."""
    try:
        speech = open_model(
            settings.model, settings.device, settings.threads, clone=settings.clone, engine=settings.engine
        )
    except ModelError as error:
        errors.print(f"[red]model:[/] {error}")
        sys.exit(ExitCode.UNUSABLE)
    connection = worker_connection(url)
    wait_for_redis(connection, settings.outage_timeout)  # it may have gone while the model was loaded
    speech = replace(speech, voices=Voices(speech.voices, VoiceStore(connection, speech.layout)))
    try:
        worker = BatchWorker(
            connection,
            lambda ended, freed: SpeechBackend(speech, settings, ended, freed),
            settings,
            max_jobs=_JOBS_PER_ROW * settings.max_rows,
        )
    except CallbackError as error:
        errors.print(f"[red]settings:[/] {error}")
        sys.exit(ExitCode.UNUSABLE)
    worker.work(burst=burst, logging_level=settings.log_level)
    return worker.exit_code
