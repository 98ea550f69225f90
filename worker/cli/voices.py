"""``rwkv-tts voices``: the voices kept in Redis."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import Voice, VoiceError, read_raf
from worker.cli.common import audio_format, client_of, read_recording_file, warn_without_workers, write_audio
from worker.cli.console import console, errors
from worker.cli.local import wait
from worker.cli.options import QueueOption, RedisOption

voices_app = typer.Typer(help="Keep voices in Redis, where all workers find them.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="id of the voice", show_default=False)]
_SHOWN = 40


@voices_app.command()
def add(
    name: _Name,
    file: Annotated[
        Path, typer.Argument(help="a recording: wav, flac, ogg, mp3, aiff, m4a, webm …", dir_okay=False)
    ],
    text: Annotated[str | None, typer.Option("--text", help="the words spoken in it, word by word")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="audio file to write the new voice's first words to")
    ] = None,
    queue: QueueOption = None,
    redis: RedisOption = None,
) -> None:
    """Have a worker make a voice from a recording, and keep it."""
    client = client_of(redis, queue)
    warn_without_workers(client.connection, client.queue)
    job_id = client.submit_voice(name, read_recording_file(file), text, format=audio_format(output))
    with errors.status("making the voice"):
        speech = wait(client, job_id, None, keep=True)
    _print_kept(client.voices.keep(job_id, name))
    if output is not None:
        write_audio(output, speech.audio)


@voices_app.command()
def keep(
    job_id: Annotated[str, typer.Argument(help="a finished job, as enqueue prints it", show_default=False)],
    name: _Name,
    redis: RedisOption = None,
) -> None:
    """Keep the voice of a finished job."""
    _print_kept(_store(redis).keep(job_id, name))


@voices_app.command("list")
def list_(redis: RedisOption = None) -> None:
    """List the voices."""
    store = _store(redis)
    usable = {voice.id: voice for voice in store.list()}
    console.print(_table(list(usable.values())))
    for voice_id in store.ids():
        if voice_id not in usable:
            errors.print(f"[yellow]warning:[/] {escape(_line(voice_id))}: not a voice that can be used; remove it")


@voices_app.command()
def show(name: _Name, redis: RedisOption = None) -> None:
    """Show one voice."""
    for field, value in _store(redis).get(name):
        shown = f"{len(value)} tokens" if isinstance(value, list) else _line(str(value))
        console.print(f"{field:15} {shown}", markup=False)


@voices_app.command()
def rename(old: _Name, new: _Name, redis: RedisOption = None) -> None:
    """Give a voice another id."""
    voice = _store(redis).rename(old, new)
    console.print(f"{old} is now {voice.id}", markup=False)


@voices_app.command()
def remove(name: _Name, redis: RedisOption = None) -> None:
    """Remove a voice."""
    _store(redis).remove(name)
    console.print(f"{name}: removed", markup=False)


@voices_app.command()
def export(
    name: _Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="file to write, NAME.raf.json by default", dir_okay=False)
    ] = None,
    redis: RedisOption = None,
) -> None:
    """Write a voice to a RAF file, byte for byte as it was imported."""
    data = _store(redis).text(name).encode()
    path = output or Path(f"{name}.raf.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    console.print(str(path), markup=False)


@voices_app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="RAF files of rwkv-tts-rs or of export", show_default=False)],
    redis: RedisOption = None,
) -> None:
    """Add the voices of RAF files; those that cannot be added are named, the others are added."""
    store, refused = _store(redis), 0
    for path in files:
        try:
            _print_kept(store.add(read_raf(path)))
        except (VoiceError, OSError) as error:
            refused += 1
            reason = error.strerror if isinstance(error, OSError) else str(error)
            errors.print(f"[red]{escape(_line(str(path)))}:[/] {escape(_line(reason or 'cannot be read'))}")
    raise typer.Exit(int(refused > 0))


def _store(redis: str | None) -> VoiceStore:
    return client_of(redis, None).voices


def _print_kept(voice: Voice) -> None:
    transcript = "with a transcript" if voice.prompt_text and voice.semantic_tokens else "without a transcript"
    console.print(f"{voice.id}: kept, {voice.audio_duration:.2f} s of speech {transcript}", markup=False)


def _table(voices: list[Voice]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "name", "created", "seconds", "tokens", "transcript"):
        table.add_column(heading, justify="right" if heading in ("seconds", "tokens") else "left", no_wrap=True)
    for voice in voices:
        cells = (
            voice.id,
            voice.name,
            voice.created_at[:19],
            f"{voice.audio_duration:.2f}",
            str(len(voice.semantic_tokens)),
            voice.prompt_text,
        )
        table.add_row(*(Text(_short(_line(cell))) for cell in cells))
    return table


def _line(text: str) -> str:
    """A text that came from elsewhere as one line that a terminal shows and does not obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
