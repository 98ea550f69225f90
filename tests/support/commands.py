"""The command as people type it, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("rwkv-tts"))


def rwkv_tts(
    *arguments: str, model: Path, cwd: Path, stdin: str | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=_environment(model, environment),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def start(*arguments: str, model: Path, cwd: Path, **environment: str) -> "subprocess.Popen[bytes]":
    """Start a command, in a session as of a terminal of its own."""
    return subprocess.Popen(
        [PROGRAM, *arguments],
        env=_environment(model, environment),
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _environment(model: Path, more: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return {**clean, "RWKV_TTS_MODEL": str(model), **more}
