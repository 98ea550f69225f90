"""The ``rwkv-tts`` command."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from loguru import logger
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from codec.audio import FORMATS
from worker.client import TTSClient
from worker.console import Line, console, errors, jobs_table, progress_bar, save, summary
from worker.local import LocalWorker, WorkerDiedError, local_worker, redis_server, wait, workers_on
from worker.schema import RequestError
from worker.settings import PREFIX, Settings, unknown_variables

app = typer.Typer(help="Text to speech behind a Redis queue.", no_args_is_help=True, add_completion=False)
model_app = typer.Typer(help="Look at model directories.", no_args_is_help=True)
app.add_typer(model_app, name="model")


def _setting(name: str) -> Any:
    """An option for a setting; the variable that sets it too is named in the help."""
    field = Settings.model_fields[name]
    text = f"{field.description or name} [env: {PREFIX}{name.upper()}; default: {field.default}]"
    return typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=False)


Model = Annotated[Path | None, _setting("model")]
RedisUrl = Annotated[str | None, _setting("redis")]
QueueName = Annotated[str | None, _setting("queue")]
Device = Annotated[str | None, _setting("device")]
ChunkSize = Annotated[int | None, _setting("token_chunk_size")]
MaxRows = Annotated[int | None, _setting("max_rows")]
Threads = Annotated[int | None, _setting("threads")]
LogLevel = Annotated[str | None, _setting("log_level")]


def _settings(**given: Any) -> Settings:
    """Settings from the given options, the environment and the defaults; configures logging."""
    for line in unknown_variables():
        errors.print(f"[yellow]warning:[/] {line}")
    level = given.get("log_level")
    given["log_level"] = level.upper() if level else None
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"{problem['loc'][0]}: {problem['msg']}") from None
    logger.remove()
    logger.add(sys.stderr, level=settings.log_level, backtrace=False, diagnose=False)
    return settings


@app.command()
def worker(
    model: Model = None,
    redis: RedisUrl = None,
    queue: QueueName = None,
    device: Device = None,
    token_chunk_size: ChunkSize = None,
    max_rows: MaxRows = None,
    threads: Threads = None,
    log_level: LogLevel = None,
    burst: Annotated[bool, typer.Option("--burst", help="exit when the queue is empty")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print no line at the start")] = False,
) -> None:
    """Drain a queue until told to stop: SIGTERM finishes what is running first."""
    settings = _settings(
        model=model,
        redis=redis,
        queue=queue,
        device=device,
        token_chunk_size=token_chunk_size,
        max_rows=max_rows,
        threads=threads,
        log_level=log_level,
    )
    from worker.service import run_worker  # imports torch

    with redis_server(settings, data=Path("redis-data")) as url:
        if not quiet:
            errors.print(
                f"model {settings.model}, device {settings.device}, queue {settings.queue} on {_public(url)}, "
                f"token_chunk_size {settings.token_chunk_size}, max_rows {settings.max_rows}"
            )
        run_worker(settings, url, burst=burst)


@app.command()
def say(
    text: str,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="audio file to write")] = None,
    gender: str | None = None,
    age: str | None = None,
    emotion: str | None = None,
    pitch: str | None = None,
    speed: str | None = None,
    voice: Annotated[str | None, typer.Option(help="id of a stored voice")] = None,
    seed: int | None = None,
    audio_format: Annotated[str | None, typer.Option("--format", help=f"one of {', '.join(FORMATS)}")] = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    max_seconds: float | None = None,
    model: Model = None,
    redis: RedisUrl = None,
    queue: QueueName = None,
    device: Device = None,
    threads: Threads = None,
    log_level: LogLevel = None,
) -> None:
    """Speak one text through the queue and write the audio file."""
    settings = _settings(
        model=model, redis=redis, queue=queue, device=device, threads=threads, log_level=log_level
    )
    fields = {
        "gender": gender,
        "age": age,
        "emotion": emotion,
        "pitch": pitch,
        "speed": speed,
        "voice": voice,
        "seed": seed,
        "format": audio_format or _format_of(output),
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "max_seconds": max_seconds,
    }
    request: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}

    def speak(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        with errors.status("speaking"):
            outcome = wait(client, client.submit(text, **request), local)
        if isinstance(outcome, str):
            raise RequestError(outcome)
        path = output or Path(f"speech.{outcome.result.format}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(outcome.audio)
        for warning in outcome.result.warnings:
            errors.print(f"[yellow]warning:[/] {warning}")
        line = summary([Line("", outcome, path)], time.monotonic() - start)
        console.print(f"{path}: {line}, seed {outcome.result.seed}, finish {outcome.result.finish_reason}")
        return 0

    _with_worker(settings, speak)


@app.command()
def enqueue(
    file: Annotated[Path, typer.Argument(help="one JSON request a line", exists=True, dir_okay=False)],
    out: Annotated[Path | None, typer.Option("--out", help="wait, and write audio files here")] = None,
    model: Model = None,
    redis: RedisUrl = None,
    queue: QueueName = None,
    device: Device = None,
    token_chunk_size: ChunkSize = None,
    max_rows: MaxRows = None,
    threads: Threads = None,
    log_level: LogLevel = None,
) -> None:
    """Queue many requests; prints their job ids, or waits and writes audio files (always so without a Redis)."""
    settings = _settings(
        model=model,
        redis=redis,
        queue=queue,
        device=device,
        token_chunk_size=token_chunk_size,
        max_rows=max_rows,
        threads=threads,
        log_level=log_level,
    )
    target = out if settings.redis_url() is not None else out or Path("out")

    def submit(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        jobs, refused = _submit_lines(client, file)
        if target is None:
            for label, job_id in jobs:
                console.print(json.dumps({"line": int(label), "job_id": job_id}))
            return int(refused > 0)
        lines = _collect(client, jobs, target, local)
        console.print(jobs_table(lines))
        console.print(summary(lines, time.monotonic() - start))
        return int(refused > 0 or any(isinstance(line.outcome, str) for line in lines))

    _with_worker(settings, submit)


def _submit_lines(client: TTSClient, file: Path) -> tuple[list[tuple[str, str]], int]:
    """Queue each line; returns (line number, job id) pairs and how many lines were refused."""
    jobs, refused = [], 0
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise RequestError("request: accepted is a JSON object")
            jobs.append((str(number), client.submit(fields.pop("text", ""), **fields)))
        except (RequestError, json.JSONDecodeError, TypeError) as error:
            refused += 1
            errors.print(f"[red]line {number}:[/] {error}")
    return jobs, refused


def _collect(client: TTSClient, jobs: list[tuple[str, str]], out: Path, local: LocalWorker | None) -> list[Line]:
    """Wait for jobs in order and write their audio files."""
    lines = []
    with progress_bar() as bar:
        for label, job_id in bar.track(jobs, description="speaking"):
            outcome = wait(client, job_id, local)
            path = None if isinstance(outcome, str) else save(outcome, out, label)
            lines.append(Line(label, outcome, path))
    return lines


@model_app.command()
def info(directory: Path) -> None:
    """Show what a model directory holds."""
    from worker.directory import ModelError, describe  # imports torch

    try:
        for name, value in describe(directory).items():
            console.print(f"{name:12} {value}")
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None


def _with_worker(settings: Settings, act: Callable[[TTSClient, LocalWorker | None], int]) -> None:
    """Run ``act`` against the configured Redis and its workers, or against a server and a worker of our own."""
    with redis_server(settings) as url:
        client = TTSClient(url, settings.queue)
        if settings.redis_url() is not None:
            _warn_without_workers(client.connection, settings.queue)
            raise typer.Exit(act(client, None))
        with local_worker(settings, url) as local:
            with errors.status("starting a worker"):
                local.wait_until_ready()
            code = act(client, local)
        raise typer.Exit(code)


def _warn_without_workers(connection: Redis, queue: str) -> None:
    if not workers_on(connection, queue):
        errors.print(f"[yellow]warning:[/] no worker listens on queue {queue}; the job waits for one")


def _format_of(output: Path | None) -> str | None:
    """The audio format that a file name asks for."""
    suffix = output.suffix.lstrip(".").lower() if output else ""
    return suffix if suffix in FORMATS else None


def _public(url: str) -> str:
    """The URL without a password."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    try:
        app()
    except (RequestError, WorkerDiedError, RedisError, OSError) as error:
        errors.print(f"[red]error:[/] {error}", markup=True)
        sys.exit(1)
