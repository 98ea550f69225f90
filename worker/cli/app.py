"""The ``rwkv-tts`` command."""

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

import typer
from loguru import logger
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rich.markup import escape

from rwkv_tts.client import TTSClient
from rwkv_tts.schema import RequestError, SynthesisRequest
from rwkv_tts.tuner import NoWorkerError
from rwkv_tts.voices import VoiceError
from worker.cli.common import audio_format, read_recording_file, settings_from, warn_without_workers, write_audio
from worker.cli.console import Line, console, errors, jobs_table, progress_bar, save, summary
from worker.cli.local import LocalWorker, WorkerDiedError, local_worker, redis_server, wait
from worker.cli.operate import top, tune
from worker.cli.voices import voices_app
from worker.settings import PREFIX, Settings, read_secret

app = typer.Typer(help="Text to speech behind a Redis queue.", no_args_is_help=True, add_completion=False)
model_app = typer.Typer(help="Look at model directories.", no_args_is_help=True)
app.add_typer(model_app, name="model")
app.add_typer(voices_app, name="voices")
app.command()(top)
app.command()(tune)


def _options(model: type[BaseModel], *, prefix: str = "", skip: Collection[str] = ()) -> list[Parameter]:
    """A command-line option for each field of a model; without a value it is None."""
    return [_option(name, field, prefix) for name, field in model.model_fields.items() if name not in skip]


def _option(name: str, field: FieldInfo, prefix: str) -> Parameter:
    accepted = (field.annotation, *get_args(field.annotation))
    kind: Any = next((kind for kind in (int, float, Path) if kind in accepted), str)
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    variable = f" (env {prefix}{name.upper()}, default {default})" if prefix else ""
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=(field.description or "") + variable, show_default=False)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting; it gets ``settings`` in their place."""
    options = _options(Settings, prefix=PREFIX)

    @wraps(command)
    def run(**given: Any) -> None:
        command(settings=settings_from({option.name: given.pop(option.name) for option in options}), **given)

    return _with_parameters(run, command, "settings", options)


def _with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every field of a request; it gets ``fields``, those that were set."""
    options = _options(SynthesisRequest, skip=("text", "metadata", "reference", "use_transcript"))

    @wraps(command)
    def run(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in options}
        command(fields={name: value for name, value in values.items() if value is not None}, **given)

    return _with_parameters(run, command, "fields", options)


def _with_parameters(
    run: Callable[..., None], command: Callable[..., None], replaced: str, options: list[Parameter]
) -> Callable[..., None]:
    """Show ``run`` to typer with the command's parameters, one of them replaced by options."""
    own = [parameter for name, parameter in signature(command).parameters.items() if name != replaced]
    run.__signature__ = Signature(own + options)  # type: ignore[attr-defined]
    return run


@app.command()
@_with_settings
def worker(
    *,
    burst: Annotated[bool, typer.Option("--burst", help="exit when the queue is empty")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print no line at the start")] = False,
    profile: Annotated[
        int,
        typer.Option("--profile", min=0, help="torch profiler trace of so many steps, to ./profile-PID.json"),
    ] = 0,
    settings: Settings,
) -> None:
    """Drain a queue until told to stop: SIGTERM finishes what is running first."""
    from worker.service import run_worker  # imports torch

    with redis_server(settings, data=Path("redis-data")) as url:
        if not quiet:
            errors.print(
                f"model {settings.model}, device {settings.device}, queue {','.join(settings.queue)} "
                f"on {_public(url)}, token_chunk_size {settings.token_chunk_size}, max_rows {settings.max_rows}"
            )
        code = run_worker(settings, url, burst=burst, profile_steps=profile)
    _end_process(code)


@app.command()
@_with_settings
@_with_request
def say(
    *,
    text: Annotated[str, typer.Argument(show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="audio file to write")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="a recording of the voice to speak in", dir_okay=False)
    ] = None,
    use_transcript: Annotated[
        bool, typer.Option("--use-transcript", help="go on from the stored voice's recording and its words")
    ] = False,
    fields: dict[str, Any],
    settings: Settings,
) -> None:
    """Speak one text through the queue and write the audio file."""
    request = {"format": audio_format(output)} | fields
    if reference is not None:
        request["reference"] = base64.b64encode(read_recording_file(reference)).decode()
    if use_transcript:
        request["use_transcript"] = True

    def speak(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        with errors.status("speaking"):
            outcome = wait(client, client.submit(text, **request), local)
        if isinstance(outcome, str):
            raise RequestError(outcome)
        path = output or Path(f"speech.{outcome.result.format}")
        write_audio(path, outcome.audio)
        for warning in outcome.result.warnings:
            errors.print(f"[yellow]warning:[/] {warning}")
        line = summary([Line("", outcome, path)], time.monotonic() - start)
        console.print(f"{path}: {line}, seed {outcome.result.seed}, finish {outcome.result.finish_reason}")
        return 0

    _with_worker(settings, speak)


@app.command()
@_with_settings
def load(*, settings: Settings) -> None:
    """Show how busy the queues are: one JSON line each, with the estimated wait."""
    url = settings.redis_url()
    if url is None:
        raise RequestError("redis: not given; accepted: --redis URL, or the environment variable REDIS_URL")
    for name in settings.queue:
        load = TTSClient(url, name).load()
        console.print_json(
            json.dumps({"queue": name, **asdict(load), "estimated_wait_seconds": load.estimated_wait}), indent=None
        )


@app.command()
@_with_settings
def enqueue(
    *,
    file: Annotated[Path, typer.Argument(help="one JSON request a line", exists=True, dir_okay=False)],
    out: Annotated[Path | None, typer.Option("--out", help="wait, and write audio files here")] = None,
    settings: Settings,
) -> None:
    """Queue many requests; prints their job ids, or waits and writes audio files (always so without a Redis)."""
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
    from worker.speech.directory import ModelError, describe  # imports torch

    try:
        for name, value in describe(directory).items():
            console.print(f"{name:12} {value}")
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def dashboard(
    *,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port to listen on")] = 9181,
    redis: Annotated[
        str | None, typer.Option("--redis", help="Redis URL (env RWKV_TTS_REDIS or REDIS_URL)", show_default=False)
    ] = None,
    username: Annotated[
        str | None, typer.Option("--username", envvar="RQ_DASHBOARD_USERNAME", help="login name, default admin")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option("--password", envvar="RQ_DASHBOARD_PASSWORD", help="login password; safer as a variable"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", envvar="RQ_DASHBOARD_PASSWORD_FILE", help="file with the login password"),
    ] = None,
) -> None:
    """Show queues, jobs and workers in a browser (rq-dashboard)."""
    try:
        from worker.ops.dashboard import check_access, create_app, listen
    except ModuleNotFoundError as error:
        hint = "pip install 'rwkv-tts-worker[dashboard]'"
        raise RequestError(f"dashboard: {error.name} is not installed; {hint}") from None

    if password_file is not None:
        try:
            password = read_secret("--password-file", password_file)
        except ValueError as error:
            raise RequestError(str(error)) from None
    check_access(host, username, password)
    url = settings_from({"redis": redis}).redis_url()
    if url is None:
        raise RequestError("--redis: no Redis to show; accepted: a URL here, in RWKV_TTS_REDIS or in REDIS_URL")
    connection = Redis.from_url(url)
    connection.ping()
    name = _public(url)
    login = (username or "admin", password) if password else None
    server = listen(create_app(connection, name, login), host, port)
    shown = f"[{host}]" if ":" in host else host
    errors.print(f"dashboard of {name} on http://{shown}:{server.port}/", markup=False)
    server.serve_forever()


def _with_worker(settings: Settings, act: Callable[[TTSClient, LocalWorker | None], int]) -> None:
    """Run ``act`` against the configured Redis and its workers, or against a server and a worker of our own."""
    with redis_server(settings) as url:
        client = TTSClient(url, settings.queue[0])
        if settings.redis_url() is not None:
            warn_without_workers(client.connection, settings.queue[0])
            raise typer.Exit(act(client, None))
        with local_worker(settings, url) as local:
            with errors.status("starting a worker"):
                local.wait_until_ready()
            code = act(client, local)
        raise typer.Exit(code)


def _end_process(code: int) -> None:
    """Exit at once: after jobs were put back, threads may still be inside torch, which aborts at a normal exit."""
    logger.complete()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _public(url: str) -> str:
    """The URL without user, password and options, which may hold a password too."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    try:
        app()
    except (RequestError, VoiceError, NoWorkerError, WorkerDiedError, RedisError, OSError) as error:
        # A server without TLS keeps silent when a client starts with it.
        hint = "; does the server speak TLS exactly when the URL says rediss://?"
        reason = f"{error}{hint if isinstance(error, RedisTimeoutError) else ''}"
        errors.print(f"[red]error:[/] {escape(reason)}")
        sys.exit(1)
