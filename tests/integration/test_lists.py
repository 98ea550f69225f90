"""``enqueue --out`` goes on where it was interrupted; ``result``, ``status`` and ``cancel`` by a job's id."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from redis import Redis

from commands import rwkv_tts, start
from rwkv_tts import TTSClient
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings

QUEUE = "lists"


@pytest.fixture(scope="module", autouse=True)
def worker(redis_url: str, random_model: Path) -> Iterator[None]:
    """Its model never ends before it has begun, as a random one may."""
    with local_worker(Settings(model=random_model, queue=(QUEUE,), max_rows=4), redis_url) as local:
        local.wait_until_ready()
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("deadly", [signal.SIGINT, signal.SIGKILL])
def test_a_list_that_is_interrupted_is_finished_and_nothing_is_spoken_twice(
    random_model: Path, tmp_path: Path, redis_url: str, connection: Redis, deadly: signal.Signals
) -> None:
    lines = [f"{deadly.name}, line {number} of the book" for number in range(1, 61)]
    (tmp_path / "book.txt").write_text("\n".join(lines))
    arguments = (
        "enqueue",
        "book.txt",
        "--out",
        "audio",
        "--redis",
        redis_url,
        "--queue",
        QUEUE,
        "--max-seconds",
        "2",
    )
    out = tmp_path / "audio"
    first = start(*arguments, model=random_model, cwd=tmp_path)
    until(lambda: out.is_dir() and len(names(out)) >= 3)
    first.send_signal(deadly)
    assert first.wait(30) != 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith(".")}
    assert 0 < len(before) < 60
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{60 - len(before)} jobs" in done.stdout
    assert f"{len(before)} spoken before" in done.stdout
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())
    assert [name[:5] for name in names(out)] == [f"{number:04d}-" for number in range(1, 61)]
    assert all(soundfile.info(path).duration > 0 for path in out.iterdir())
    assert connection.llen(f"rq:queue:{QUEUE}") == 0
    told = connection.zcard(f"rq:finished:{QUEUE}")
    assert told == 0  # each job was fetched, and none was queued a second time


def test_a_list_from_standard_input_tells_where_each_line_went(
    random_model: Path, tmp_path: Path, redis_url: str
) -> None:
    lines = '{"id": "good", "text": "one"}\n{"id": "bad", "text": "two", "voice": "nobody"}\n{"text": ""}\n'
    arguments = (
        "enqueue",
        "-",
        "--out",
        "audio",
        "--redis",
        redis_url,
        "--queue",
        QUEUE,
        "--max-seconds",
        "0.5",
        "--format",
        "flac",
    )
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path, stdin=lines)
    assert done.returncode == 1
    assert names(tmp_path / "audio") == ["good.flac"]
    assert "audio/good.flac" in done.stdout
    assert "unknown voice 'nobody'" in done.stdout
    assert "line 3: text: " in done.stderr
    assert done.stdout.splitlines()[-1].endswith(", 1 failed, 1 refused")


def test_more_lines_than_may_wait_are_spoken_as_there_is_room(
    random_model: Path, tmp_path: Path, redis_url: str
) -> None:
    """A worker's limit of jobs that wait ended the command, with half of the list queued."""
    queue = "narrow"
    settings = Settings(model=random_model, queue=(queue,), max_rows=1, max_queue=2)
    with local_worker(settings, redis_url) as local:
        local.wait_until_ready()
        arguments = (
            "enqueue",
            "-",
            "--out",
            "audio",
            "--redis",
            redis_url,
            "--queue",
            queue,
            "--max-seconds",
            "0.5",
        )
        done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path, stdin="\n".join("abcdefghijklmnop"))
    assert done.returncode == 0, done.stderr
    assert len(names(tmp_path / "audio")) == 16


def test_a_text_from_standard_input(random_model: Path, tmp_path: Path, redis_url: str) -> None:
    arguments = ("say", "-", "-o", "said.flac", "--redis", redis_url, "--queue", QUEUE, "--max-seconds", "0.5")
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path, stdin="Read to me.\n")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "said.flac").format == "FLAC"


def command(cwd: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return rwkv_tts(*arguments, "--redis", url, model=cwd, cwd=cwd)


def test_a_job_is_shown_fetched_and_cancelled_by_its_id(tmp_path: Path, redis_url: str) -> None:
    job_id = TTSClient(redis_url, QUEUE).submit("hello", format="flac", max_seconds=0.5)
    fetched = command(tmp_path, redis_url, "result", job_id)
    assert fetched.returncode == 0, fetched.stderr
    assert soundfile.info(tmp_path / f"{job_id}.flac").format == "FLAC"
    shown = json.loads(command(tmp_path, redis_url, "status", job_id).stdout)
    assert (shown["status"], shown["queue"], shown["reason"]) == ("finished", QUEUE, None)
    assert shown["enqueued_at"] <= shown["started_at"] <= shown["ended_at"]
    renamed = command(tmp_path, redis_url, "result", job_id, "-o", "x.wav")
    assert renamed.returncode == 1
    assert "the audio is flac" in renamed.stderr
    assert not (tmp_path / "x.wav").exists()
    late = command(tmp_path, redis_url, "cancel", job_id)
    assert (late.returncode, late.stderr) == (1, f"{job_id}: had ended already\n")


def test_a_job_that_waits_is_cancelled_and_one_that_is_not_there_is_named(tmp_path: Path, redis_url: str) -> None:
    job_id = TTSClient(redis_url, "nobody-fetches").submit("hello")
    waiting = command(tmp_path, redis_url, "result", job_id, "--timeout", "0")
    assert waiting.returncode == 1
    assert "it is queued" in waiting.stderr
    assert json.loads(command(tmp_path, redis_url, "status", job_id).stdout)["position"] == 0
    assert command(tmp_path, redis_url, "cancel", job_id).returncode == 0
    shown = json.loads(command(tmp_path, redis_url, "status", job_id).stdout)
    assert (shown["status"], shown["reason"]) == ("canceled", "cancelled on request")
    for name in ("result", "status", "cancel"):
        missing = command(tmp_path, redis_url, name, "no-such-job")
        assert missing.returncode == 1
        assert "no-such-job" in missing.stderr
        assert "Traceback" not in missing.stderr
