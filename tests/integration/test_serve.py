"""``rwkv-tts serve``: one command, and OpenAI's client speaks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from openai import OpenAI

pytestmark = pytest.mark.slow

TEXT = "One two three."


def test_one_command_speaks_and_ends_with_all_that_it_has_started(random_model: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "worker.cli", "serve", "--port", "0", "--model", str(random_model)]
    variables = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "RWKV_TTS_REDIS")}
    with subprocess.Popen(line, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        client = OpenAI(base_url=address, api_key="none", timeout=30)
        assert client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT).content
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0
    assert not any(child.is_running() for child in children)
