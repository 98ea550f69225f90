"""``rwkv-tts say`` and ``rwkv-tts enqueue``: from texts to audio files."""

import base64
import json
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_tts import RequestError, TTSClient
from worker.cli.address import next_door
from worker.cli.common import (
    CommandError,
    audio_format,
    client_for,
    read_recording_file,
    warn_without_workers,
    write_audio,
)
from worker.cli.console import Line, console, errors, jobs_table, progress_bar, save, speech_bar, summary
from worker.cli.hearing import STANDARD_OUTPUT, check_subtitles, hear, write_subtitles
from worker.cli.local import LocalWorker, local_worker, outcome, redis_server, wait, workers_on
from worker.cli.options import with_request, with_settings
from worker.settings import Settings

_LINE_END = re.compile("\r\n|\n|\r")


@with_settings
@with_request
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
    play: Annotated[bool, typer.Option("--play", help="play the audio while it is made")] = False,
    subtitles: Annotated[
        Path | None, typer.Option("--subtitles", help="file to write, .srt or .vtt", dir_okay=False)
    ] = None,
    fields: dict[str, Any],
    settings: Settings,
) -> None:
    """Speak one text through the queue and write the audio file; with ``-o -`` to standard output, at once."""
    request: dict[str, Any] = {"format": audio_format(output)} | fields
    if subtitles is not None:
        check_subtitles(subtitles)
        request["timestamps"] = True
    if reference is not None:
        request["reference"] = base64.b64encode(read_recording_file(reference)).decode()
    if use_transcript:
        request["use_transcript"] = True

    def speak(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        if play or output == STANDARD_OUTPUT:
            speech = hear(client, text, request, local, play=play)
        else:
            job_id = client.submit(text, **request)
            with speech_bar(client, job_id) as look:
                speech = wait(client, job_id, local, keep=False, idle=look)
        path = None if output == STANDARD_OUTPUT else output or Path(f"speech.{speech.result.format}")
        if path is not None:
            write_audio(path, speech.audio)
        if subtitles is not None:
            write_subtitles(subtitles, text, speech.result)
        for warning in speech.result.warnings:
            errors.print(f"[yellow]warning:[/] {warning}")
        line = summary([Line("", speech, path)], time.monotonic() - start)
        told = errors if path is None else console
        told.print(f"{path or 'audio'}: {line}, seed {speech.result.seed}, finish {speech.result.finish_reason}")
        return 0

    _with_worker(settings, speak)


@with_settings
def enqueue(
    *,
    file: Annotated[Path, typer.Argument(help="one JSON request a line", exists=True, dir_okay=False)],
    out: Annotated[Path | None, typer.Option("--out", help="wait, and write audio files here")] = None,
    settings: Settings,
) -> None:
    """Queue many requests; prints their job ids, or waits and writes audio files (always so without a Redis)."""

    def submit(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        target = out if local is None else out or Path("out")
        jobs, refused = _submit_lines(client, file)
        if target is None:
            for label, job_id in jobs:
                console.print(json.dumps({"line": int(label), "job_id": job_id}))
            return int(refused > 0)
        lines = _collect(client, jobs, target, local)
        console.print(jobs_table(lines))
        console.print(summary(lines, time.monotonic() - start))
        return int(refused > 0 or any(line.path is None for line in lines))

    _with_worker(settings, submit)


def _submit_lines(client: TTSClient, file: Path) -> tuple[list[tuple[str, str]], int]:
    """Queue each line; returns (line number, job id) pairs and how many lines were refused."""
    jobs, refused = [], 0
    for number, line in enumerate(_lines(file), start=1):
        if not line:
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise CommandError("request: accepted is a JSON object")
            jobs.append((str(number), client.submit(fields.pop("text", ""), **fields)))
        except (RequestError, CommandError, json.JSONDecodeError, TypeError, RecursionError) as error:
            refused += 1
            errors.print(f"[red]line {number}:[/] {error}")
    return jobs, refused


def _lines(file: Path) -> list[str]:
    """The lines of a file in UTF-8, UTF-16 or UTF-32, each without blanks and a byte order mark around it.

    Only what ends a line in JSON does so here: U+2028 and U+0085 may stand in a text.

    Raises:
        CommandError: It is in another encoding.
    """
    content = file.read_bytes()
    encoding = json.detect_encoding(content)
    try:
        lines = _LINE_END.split(content.decode(encoding))
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise CommandError(
            f"{file}: byte {error.start} is not {name} ({error.reason}); accepted: UTF-8, UTF-16 or UTF-32"
        ) from None
    return [line.strip().strip("\ufeff").strip() for line in lines]


def _collect(client: TTSClient, jobs: list[tuple[str, str]], out: Path, local: LocalWorker | None) -> list[Line]:
    """Wait for jobs in order and write their audio files."""
    lines = []
    with progress_bar() as bar:
        for label, job_id in bar.track(jobs, description="speaking"):
            line = Line(label, outcome(client, job_id, local))
            lines.append(line if line.speech is None else replace(line, path=save(line.speech, out, label)))
    return lines


def _with_worker(settings: Settings, act: Callable[[TTSClient, LocalWorker | None], int]) -> None:
    """Run ``act`` against a Redis and its workers: what is configured, what runs in this folder, else our own."""
    near = None if settings.redis_url() else next_door()
    with redis_server(settings) if near is None else nullcontext(near) as url:
        client = client_for(settings, url)
        if settings.redis_url() is not None:
            warn_without_workers(client.connection, settings.queue[0])
            raise typer.Exit(act(client, None))
        if near is not None and workers_on(client.connection, settings.queue[0]):
            raise typer.Exit(act(client, None))
        with local_worker(settings, url) as local:
            with errors.status("starting a worker"):
                local.wait_until_ready()
            code = act(client, local)
        raise typer.Exit(code)
