"""``rwkv-tts result``, ``status`` and ``cancel``: one job by its id."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rq.job import Job

from rwkv_tts import JobFailedError
from rwkv_tts.results import ended, fetch_job
from worker.cli.common import STANDARD_STREAM, audio_format, client_of, write_audio
from worker.cli.console import console, errors
from worker.cli.options import RedisOption

_JobId = Annotated[str, typer.Argument(help="what enqueue prints", show_default=False)]


def result(
    job_id: _JobId,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="audio file to write, JOB_ID.FORMAT by default; - is standard output",
            dir_okay=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="seconds to wait for its end; default for ever")
    ] = None,
    redis: RedisOption = None,
) -> None:
    """Wait for a job and write its audio file; Redis goes on to keep it."""
    speech = client_of(redis, None).result(job_id, timeout)
    made = speech.result
    if output == STANDARD_STREAM:
        sys.stdout.buffer.write(speech.audio)
        return
    audio_format(output, made.format)
    path = output or Path(f"{job_id}.{made.format}")
    write_audio(path, speech.audio)
    told = f"{path}: {made.seconds:.2f} s of audio, seed {made.seed}, finish {made.finish_reason}"
    console.print(told, markup=False)


def status(job_id: _JobId, redis: RedisOption = None) -> None:
    """Show what has become of a job, as one JSON line."""
    client = client_of(redis, None)
    job = fetch_job(client.connection, job_id)
    progress = client.progress(job_id)
    shown = {
        "job_id": job_id,
        "status": job.get_status().value,
        "queue": job.origin,
        "position": job.get_position(),
        "worker": job.worker_name,
        "enqueued_at": _time(job.enqueued_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "progress": None if progress is None else asdict(progress),
        "reason": _reason(job),
    }
    console.print(json.dumps(shown), markup=False)


def cancel(job_id: _JobId, redis: RedisOption = None) -> None:
    """Take a job off its queue, or have it stopped where it runs; exit code 1 when it had ended."""
    if client_of(redis, None).cancel(job_id):
        console.print(f"{job_id}: cancelled", markup=False)
        return
    errors.print(f"{job_id}: had ended already", markup=False)
    raise typer.Exit(1)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _reason(job: Job) -> str | None:
    """Why there is no audio; None while there may be."""
    try:
        ended(job)
    except JobFailedError as error:
        return str(error)
    return None
