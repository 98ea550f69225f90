"""``rwkv-tts say``: from a text to an audio file."""

import base64
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rwkv_tts import TTSClient
from worker.cli.common import (
    STANDARD_STREAM,
    audio_format,
    read_recording_file,
    with_worker,
    write_audio,
)
from worker.cli.console import Line, console, errors, speech_bar, summary
from worker.cli.hearing import check_subtitles, hear, write_subtitles
from worker.cli.lists import read_text
from worker.cli.local import LocalWorker, wait
from worker.cli.options import with_request, with_settings
from worker.settings import Settings


@with_settings
@with_request
def say(
    *,
    text: Annotated[str, typer.Argument(help="what to say; - is standard input", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="audio file to write; - is standard output", dir_okay=False),
    ] = None,
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
    request: dict[str, Any] = fields | {"format": audio_format(output, fields.get("format"))}
    if text == str(STANDARD_STREAM):
        text = read_text(STANDARD_STREAM)
    if subtitles is not None:
        check_subtitles(subtitles)
        request["timestamps"] = True
    if reference is not None:
        request["reference"] = base64.b64encode(read_recording_file(reference)).decode()
    if use_transcript:
        request["use_transcript"] = True

    def speak(client: TTSClient, local: LocalWorker | None) -> int:
        start = time.monotonic()
        if play or output == STANDARD_STREAM:
            speech = hear(client, text, request, local, play=play)
        else:
            job_id = client.submit(text, **request)
            with speech_bar(client, job_id) as look:
                speech = wait(client, job_id, local, keep=False, idle=look)
        path = None if output == STANDARD_STREAM else output or Path(f"speech.{speech.result.format}")
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

    with_worker(settings, speak)
