"""Nothing of a command outlives it, whatever ends it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commands import start
from waiting import until


def family(folder: Path) -> list[tuple[psutil.Process, str]]:
    """All processes of a command that was started in a folder, itself included, with their command lines."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            # A server writes its title over its environment; its socket is named there.
            if str(folder) in line or process.environ().get("TMPDIR", "").startswith(str(folder)):
                found.append((process, line))
        except psutil.Error:  # a zombie, or another user's
            continue
    return found


def end(folder: Path) -> None:
    for process, _ in family(folder):
        process.kill()


def roles(folder: Path) -> set[str]:
    """Which processes there are besides the command itself."""
    lines = [line for _, line in family(folder)]
    return {role for role in ("valkey-server", "worker --quiet") if any(role in line for line in lines)}


@pytest.fixture(autouse=True)
def hangups_end_processes() -> Iterator[None]:
    """Also where these tests run under nohup, whose children ignore SIGHUP, as they should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("arguments", "beside", "deadly"),
    [
        (["say", "hi"], 2, signal.SIGTERM),
        (["say", "hi"], 2, signal.SIGHUP),
        (["say", "hi"], 2, signal.SIGKILL),
        (["enqueue", "jobs.jsonl"], 2, signal.SIGKILL),
        (["worker"], 1, signal.SIGHUP),
        (["worker"], 1, signal.SIGKILL),
        (["worker", "--devices", "cpu,cpu"], 2, signal.SIGHUP),
        (["worker", "--devices", "cpu,cpu", "--compute", "process"], 2, signal.SIGKILL),
    ],
)
def test_no_server_and_no_worker_is_left_behind(
    slow_model: Path, tmp_path: Path, arguments: list[str], beside: int, deadly: signal.Signals
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "jobs.jsonl").write_text('{"text": "one"}\n')
    command = start(*arguments, model=slow_model, cwd=tmp_path, TMPDIR=str(tmp_path / "t"))
    try:
        until(lambda: command.poll() is not None or len(roles(tmp_path)) == beside)
        assert command.poll() is None
        command.send_signal(deadly)
        assert command.wait(30) == -deadly
        until(lambda: not family(tmp_path))
        assert list((tmp_path / "t").iterdir()) == []
    finally:
        end(tmp_path)


def test_the_ctrl_c_of_a_terminal_does_not_reach_the_server(random_model: Path, tmp_path: Path) -> None:
    """A worker has to write down what it finishes."""
    (tmp_path / "t").mkdir()
    command = start("worker", "--quiet", model=random_model, cwd=tmp_path, TMPDIR=str(tmp_path / "t"))
    try:
        until(lambda: roles(tmp_path) == {"valkey-server", "worker --quiet"})
        ours = os.getpgid(command.pid)
        (server,) = [process for process, line in family(tmp_path) if "valkey-server" in line]
        assert os.getpgid(server.pid) != ours
    finally:
        command.kill()
        command.wait()
        until(lambda: not family(tmp_path))
