"""Speech that is heard while it is made, and its subtitles."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rwkv_tts import Speech, SynthesisResult, TTSClient
from rwkv_tts.subtitles import WRITERS
from worker.cli.common import CommandError
from worker.cli.console import speech_bar
from worker.cli.local import LocalWorker

_PLAYERS = (
    ("ffplay", "-autoexit", "-nodisp", "-loglevel", "error", "-"),
    ("mpv", "--really-quiet", "-"),
    ("aplay", "-q", "-"),
)
"""Read a file from standard input; the first one that is there plays. The last one knows WAV only."""


def hear(
    client: TTSClient, text: str, request: Mapping[str, Any], local: LocalWorker | None, *, play: bool
) -> Speech:
    """Speak a text, and hand its audio on while it is made: to a player, or else to standard output.

    Raises:
        CommandError: There is no player.
        JobFailedError: There is no speech; the message is the reason.
        WorkerDiedError: The worker that this command started is gone.
    """
    player = _player(request["format"]) if play else None
    take: Callable[[bytes], object] = sys.stdout.buffer.write if player is None else player.stdin.write  # type: ignore[union-attr]
    flush = sys.stdout.buffer.flush if player is None else player.stdin.flush  # type: ignore[union-attr]
    job_id = client.submit(text, stream=True, job_options=client.presence.bind({}), **request)

    def idle() -> None:
        look()
        if local is not None:
            local.check()

    with speech_bar(client, job_id) as look, client.listen(job_id, idle) as pieces:
        for piece in pieces:
            take(piece)
            flush()
            look()
    if player is not None:
        player.communicate()
    return client.result(job_id, timeout=10, keep=False)


def _player(audio_format: str) -> "subprocess.Popen[bytes]":
    players = _PLAYERS if audio_format == "wav" else _PLAYERS[:-1]
    for command in players:
        if shutil.which(command[0]):
            return subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - one of ours
    names = ", ".join(command[0] for command in players)
    raise CommandError(f"play: no player of {audio_format} is installed; accepted: one of {names}")


def check_subtitles(path: Path) -> None:
    """Refuse a file of another kind.

    Raises:
        CommandError: It is neither ``.srt`` nor ``.vtt``.
    """
    if path.suffix.lstrip(".").lower() not in WRITERS:
        raise CommandError(f"subtitles: {path}; accepted: a file name that ends in .srt or .vtt")


def write_subtitles(path: Path, text: str, result: SynthesisResult) -> None:
    """Write the subtitles of a result whose request asked for timestamps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WRITERS[path.suffix.lstrip(".").lower()](text, result.parts or []), encoding="utf-8")
