"""Puts a worker together: model, pipeline, queue."""

import sys

from redis import Redis

from worker.batch_worker import BatchWorker
from worker.console import errors
from worker.directory import ModelError, open_model
from worker.pipeline import Pipeline
from worker.settings import Settings

_JOBS_PER_ROW = 2
"""While the audio of one job is made, its row already decodes the next."""


def run_worker(settings: Settings, url: str, *, burst: bool) -> None:
    """Load the model and drain the queue; ends the process with code 2 when the model cannot be used."""
    try:
        speech = open_model(settings.model, settings.device, settings.threads)
    except ModelError as error:
        errors.print(f"[red]model:[/] {error}")
        sys.exit(2)
    worker = BatchWorker(
        [settings.queue],
        Redis.from_url(url),
        lambda done, freed: Pipeline(
            speech,
            max_rows=settings.max_rows,
            token_chunk_size=settings.token_chunk_size,
            done=done,
            freed=freed,
            vocoder_batch=1 if settings.device == "cpu" else settings.max_rows,
        ),
        max_jobs=_JOBS_PER_ROW * settings.max_rows,
        payload_limit=settings.max_payload_bytes,
        result_ttl=settings.result_ttl,
    )
    worker.work(burst=burst, logging_level=settings.log_level)
