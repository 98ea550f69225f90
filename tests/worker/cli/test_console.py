"""What commands show while a job runs."""

import io
import json

import pytest
from redis import Redis
from rich.console import Console

from rwkv_tts import TTSClient
from worker.cli import console


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_how_far_a_job_has_come_and_a_pipe_nothing(
    redis_url: str, connection: Redis, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "errors", Console(file=shown, force_terminal=terminal, width=100))
    client = TTSClient(redis_url, "shown")
    progress = {"parts": 3, "of": None, "share": 0.25, "seconds": 12.34, "rtf": 0.08}
    connection.hset("rq:job:long", "meta", json.dumps({"rwkv_tts_progress": progress}))
    with console.speech_bar(client, "long") as look:
        look()
    assert ("3/? parts, 12.3 s of audio, RTF 0.080" in shown.getvalue()) is terminal
    assert bool(shown.getvalue()) is terminal
