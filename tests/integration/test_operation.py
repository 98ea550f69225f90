"""Running workers: their log lines, changing their values, watching them, a profile."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from redis import Redis
from rq.command import send_command

from rwkv_tts.client import TTSClient
from rwkv_tts.keys import lease_key, tune_channel
from rwkv_tts.load import WorkerLoad
from rwkv_tts.results import JobFailedError
from rwkv_tts.tuner import NoWorkerError
from waiting import until
from worker.cli.local import local_worker
from worker.ops.journal import Journal
from worker.settings import Settings

pytestmark = pytest.mark.slow

TEXT = "a sentence of ordinary length"
LONG_TEXT = "x" * 340
START = (16, 4, "WARNING")


@contextmanager
def worker_process(directory: Path, url: str, *options: str, model: Path) -> Iterator[Path]:
    """A worker whose standard error goes to the file that is yielded, and nothing to standard output."""
    output, spoken = directory / "worker.log", directory / "worker.out"
    clean = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    with output.open("wb") as errors, spoken.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "worker", "--quiet", f"--model={model}", *options],
            env={**clean, "RWKV_TTS_REDIS": url},
            cwd=directory,
            stdout=out,
            stderr=errors,
        )
    try:
        yield output
    finally:
        process.terminate()
        code = process.wait(timeout=60)
    assert code == 0, output.read_text()
    assert spoken.read_bytes() == b""


def rwkv_tts(*arguments: str, url: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "worker.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, "RWKV_TTS_REDIS": url}, capture_output=True, text=True, timeout=60
    )


def values(worker: WorkerLoad) -> tuple[Any, ...]:
    return worker.token_chunk_size, worker.max_rows, worker.log_level


@pytest.fixture(scope="module")
def tuned(redis_url: str, slow_model: Path) -> Iterator[TTSClient]:
    """One worker of 4 rows whose values the tests of this module change."""
    settings = Settings(model=slow_model, queue=("operated",), max_rows=4, token_chunk_size=16)
    with local_worker(settings, redis_url):
        client = TTSClient(redis_url, "operated")
        until(lambda: client.busyness().workers)
        yield client


@pytest.fixture
def client(tuned: TTSClient) -> Iterator[TTSClient]:
    yield tuned
    (outcome,) = tuned.tune(reset=True)
    assert (outcome.error, values(outcome.after)) == (None, START)


# Tuning.


def test_values_change_and_go_back_to_the_start(client: TTSClient) -> None:
    (first,) = client.tune(log_level="info", max_rows=2)
    assert (first.error, values(first.before), values(first.after)) == (None, START, (16, 2, "INFO"))
    (second,) = client.tune(first.before.name, token_chunk_size=99)
    assert (values(second.before), values(second.after)) == ((16, 2, "INFO"), (99, 2, "INFO"))
    assert values(client.busyness().workers[0]) == (99, 2, "INFO")
    (third,) = client.tune(reset=True, max_rows=3)
    assert values(third.after) == (16, 3, "WARNING")


def test_fewer_rows_let_the_running_ones_finish_and_more_are_taken_at_once(client: TTSClient) -> None:
    jobs = [client.submit(LONG_TEXT, seed=seed, max_seconds=40) for seed in range(4)]
    until(lambda: client.busyness().workers[0].rows == 4)
    (lowered,) = client.tune(max_rows=1)
    assert (lowered.after.most_rows, lowered.after.slots) == (1, 4)
    later = [client.submit(LONG_TEXT, seed=seed, max_seconds=2) for seed in range(4)]
    for job_id in jobs:
        client.cancel(job_id)
    alone = client.result(later[0], timeout=60).result
    assert alone.mean_batch == 1.0
    client.tune(max_rows=4)
    together = [client.submit(LONG_TEXT, seed=seed, max_seconds=8) for seed in range(4)]
    assert max(client.result(job_id, timeout=60).result.mean_batch for job_id in together) > 2
    for job_id in jobs:
        with pytest.raises(JobFailedError, match="stopped"):
            client.result(job_id, timeout=60)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_rows": 5}, "max_rows: '5'; accepted: 1 to 4, the state slots of the worker"),
        ({"token_chunk_size": 0, "log_level": "DEBUG"}, "token_chunk_size: '0'; accepted: a whole number from 1"),
        ({"log_level": "loud", "max_rows": 1}, "log_level: 'loud'; accepted: TRACE, DEBUG"),
    ],
)
def test_a_bad_value_changes_nothing_and_says_why(client: TTSClient, change: dict[str, Any], reason: str) -> None:
    (outcome,) = client.tune(**change)
    assert outcome.error is not None
    assert reason in outcome.error
    assert values(outcome.after) == START


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"id": "1"}',
        b'{"id": "1", "change": 7}',
        b'{"id": "1", "change": [1]}',
    ],
)
def test_what_is_no_change_is_not_heard(client: TTSClient, connection: Redis, message: bytes) -> None:
    (worker,) = client.busyness().workers
    assert connection.publish(tune_channel(worker.name), message) == 1
    send_command(connection, worker.name, "tune", id="1", change={"max_rows": 1})
    assert client.tune(token_chunk_size=16)[0].error is None
    assert values(client.busyness().workers[0]) == START


def test_many_tune_at_once_and_each_gets_its_answer(client: TTSClient, redis_url: str) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "tune", "--queue=operated", f"--token-chunk-size={size}"],
            env={**os.environ, "RWKV_TTS_REDIS": redis_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        for size in (0, 30, 40)
    ]
    for command, size in zip(commands, (None, 30, 40), strict=True):
        spoken, _ = command.communicate(timeout=60)
        assert command.returncode == int(size is None)
        assert size is None or "token_chunk_size" in spoken


def test_unknown_and_missing_workers_are_named(client: TTSClient) -> None:
    (worker,) = client.busyness().workers
    with pytest.raises(
        NoWorkerError, match=f"worker: 'x' does not listen on queue operated; accepted: {worker.name}"
    ):
        client.tune("x", max_rows=1)
    with pytest.raises(NoWorkerError, match="worker: none listens on queue deserted"):
        TTSClient(client.connection, "deserted").tune(max_rows=1)


def test_a_worker_that_does_not_answer_is_told_apart(client: TTSClient, connection: Redis) -> None:
    """One has a lease and no ears, another hears and stays silent; the third does as it is told."""
    lease = json.dumps({"max_queue": None, "running": 0, "jobs_per_second": 0.0})
    names = ("deaf", "silent")
    ears = connection.pubsub()  # type: ignore[no-untyped-call]
    ears.subscribe(tune_channel("silent"))
    for name in names:
        connection.set(lease_key(name), lease, ex=60)
        connection.sadd("rq:workers:operated", f"rq:worker:{name}")
    try:
        outcomes = {outcome.before.name: outcome for outcome in client.tune(max_rows=2, timeout=4)}
    finally:
        for name in names:
            connection.delete(lease_key(name))
            connection.srem("rq:workers:operated", f"rq:worker:{name}")
        ears.close()
    assert outcomes.pop("deaf").error == "it does not listen; nothing has changed"
    assert outcomes.pop("silent").error == "no confirmation within 4 s; it may still come"
    (good,) = outcomes.values()
    assert (good.error, good.after.max_rows) == (None, 2)


def test_tune_prints_before_and_after_and_without_values_what_there_is(client: TTSClient, redis_url: str) -> None:
    done = rwkv_tts("tune", "--queue=operated", "--max-rows=2", "--log-level=error", url=redis_url)
    assert done.returncode == 0, done.stderr
    changes = "token_chunk_size 16 -> 16, max_rows 4 -> 2, log_level WARNING -> ERROR"
    assert re.fullmatch(rf"worker \w{{32}}: {changes}\n", done.stdout)
    shown = rwkv_tts("tune", "--queue=operated", url=redis_url)
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["worker", "token_chunk_size", "max_rows", "log_level", "slots"],
        [client.busyness().workers[0].name, "16", "2", "ERROR", "4"],
    ]
    refused = rwkv_tts("tune", "--queue=operated", "--max-rows=9", url=redis_url)
    assert refused.returncode == 1
    assert refused.stderr.endswith(": max_rows: '9'; accepted: 1 to 4, the state slots of the worker\n")
    nobody = rwkv_tts("tune", "--queue=operated", "--worker=x", "--reset", url=redis_url)
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("error: worker: 'x' does not listen on queue operated")


# Watching.


def test_top_shows_each_worker_and_the_queue(client: TTSClient, redis_url: str) -> None:
    def load() -> WorkerLoad:
        return client.busyness().workers[0]

    client.result(client.submit("short", max_seconds=0.5), timeout=60)
    jobs = [client.submit(LONG_TEXT, seed=seed, max_seconds=40) for seed in range(3)]
    until(lambda: (load().mean_batch or 0) > 2 and load().running == 3 and load().jobs_per_second)
    done = rwkv_tts("top", "--once", "--queue=operated", url=redis_url)
    for job_id in jobs:
        client.cancel(job_id)
    assert done.returncode == 0, done.stderr
    queue, heading, row = done.stdout.splitlines()
    assert re.fullmatch(r"queue operated: \d+ jobs wait, estimated wait [\d.]+ s, 1 workers", queue.strip())
    cells = dict(zip(re.split(r"\s{2,}", heading.strip()), row.split(), strict=True))
    assert cells["rows"] == "3/4"
    assert (cells["slots"], cells["chunk"], cells["log"]) == ("4", "16", "WARNING")
    assert int(cells["jobs"]) == 3
    assert float(cells["mean batch"]) > 2
    assert float(cells["tokens/s"]) > float(cells["jobs/s"]) > 0
    assert float(cells["audio-s/s"]) > 0


def test_top_draws_anew_until_it_is_interrupted(client: TTSClient, redis_url: str) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "RWKV_TTS_REDIS": redis_url, "TERM": "xterm"}
    command = [sys.executable, "-m", "worker.cli", "top", "--queue=operated"]
    process = subprocess.Popen(command, env=environment, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    seen = b""
    while seen.count(b"queue operated") < 3:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, errors) == (0, "")


def test_top_without_workers_is_an_empty_table(redis_url: str) -> None:
    done = rwkv_tts("top", "--once", "--queue=deserted", url=redis_url)
    assert done.returncode == 0, done.stderr
    assert "queue deserted: 0 jobs wait, estimated wait unknown, 0 workers" in done.stdout


# Logs.

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of W3C Trace Context."""


def test_a_job_is_one_line_of_text(random_model: Path, redis_url: str, tmp_path: Path) -> None:
    client = TTSClient(redis_url, "text-lines")
    options = ("--queue=text-lines", "--log-level=INFO")
    with worker_process(tmp_path, redis_url, *options, model=random_model) as log:
        good = client.result(client.submit(TEXT, seed=1), timeout=60).result
        bad = client.submit(TEXT, voice="nobody")
        with pytest.raises(JobFailedError):
            client.result(bad, timeout=60)
    text = log.read_text()
    (line,) = (line for line in text.splitlines() if good.job_id in line)
    assert "| INFO     | worker.ops.journal:" in line
    timings = ", ".join(
        f"{name} {getattr(good.timings, name):.3f}"
        for name in ("queued", "clone", "prefill", "decode", "vocode", "encode", "total")
    )
    assert line.endswith(
        f"job {good.job_id}: finished; {good.seconds:.2f} s of audio, RTF {good.rtf:.3f}; {timings} s"
    )
    (line,) = (line for line in text.splitlines() if bad in line)
    assert f"job {bad}: failed: voice: unknown voice 'nobody'; accepted: first, second" in line
    assert "| INFO     | rq.worker:" in text, "RQ's lines have the same format"


def test_every_line_is_an_object_and_the_level_changes_at_run_time(
    random_model: Path, redis_url: str, tmp_path: Path
) -> None:
    client = TTSClient(redis_url, "json-lines")
    options = ("--queue=json-lines", "--log-format=json", "--log-level=ERROR")
    with worker_process(tmp_path, redis_url, *options, model=random_model) as log:
        until(lambda: client.busyness().workers)
        client.result(client.submit(TEXT, seed=1), timeout=60)
        until(lambda: client.busyness().workers[0].jobs_per_second)  # results are there, then told of
        client.tune(log_level="INFO")
        good = client.result(client.submit(TEXT, seed=1, metadata={"traceparent": TRACE}), timeout=60).result
        bad = client.submit(TEXT, voice="nobody", metadata={"traceparent": TRACE.upper(), "tracestate": "a=b"})
        with pytest.raises(JobFailedError):
            client.result(bad, timeout=60)
        until(lambda: f"job {bad}: failed" in log.read_text())
        client.tune(log_level="WARNING", max_rows=1000)  # refused: the level stays
        client.tune(log_level="WARNING")
        client.result(client.submit(TEXT, seed=1), timeout=60)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {tuple(line)[:5] for line in lines} == {("event", "level", "time", "message", "module")}
    jobs = [line for line in lines if line["event"] == "job"]
    assert [(line["job"], line["fate"], line["traceparent"]) for line in jobs] == [
        (good.job_id, "finished", TRACE),
        (bad, "failed", None),
    ]
    assert tuple(jobs[0]) == tuple(jobs[1])
    assert (jobs[1]["queue"], jobs[1]["total"]) == ("json-lines", None)
    assert jobs[1]["reason"].startswith("voice: unknown voice 'nobody'")
    (finished,) = (line for line in lines if "finished" in line["message"])
    assert (finished["job"], finished["seconds"], finished["total"]) == (
        good.job_id,
        good.seconds,
        good.timings.total,
    )
    (refused,) = (line for line in lines if line["level"] == "WARNING")
    assert refused["message"].startswith("tune: max_rows: '1000'; accepted: 1 to 16")


def test_a_line_a_minute_says_how_busy_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = [time.monotonic()], list[str]()
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    minute = Journal()
    says = {"rows": 3, "most_rows": 16, "running": 5, "jobs_per_second": 0.25, "audio_seconds": 90.0}
    minute.beat(says, lambda: 7)
    clock[0] += 60
    minute.beat(says, lambda: 7)
    minute.beat(says, lambda: 7)
    clock[0] += 120
    minute.beat({**says, "audio_seconds": 330.0}, lambda: 0)
    logger.remove(sink)
    assert lines == [
        "3 of 16 rows, 5 jobs run, 7 wait; 0.25 jobs/s, 1.50 audio-s/s",
        "3 of 16 rows, 5 jobs run, 0 wait; 0.25 jobs/s, 2.00 audio-s/s",
    ]


# Profiling.


def test_a_profile_is_written_beside_the_work(random_model: Path, redis_url: str, tmp_path: Path) -> None:
    client = TTSClient(redis_url, "profiled")
    with worker_process(tmp_path, redis_url, "--queue=profiled", "--profile=6", model=random_model) as log:
        for _ in range(3):
            assert client.result(client.submit(TEXT, seed=1), timeout=60).audio
        until(lambda: "profile: 6 steps are in " in log.read_text())
        (path,) = tmp_path.glob("profile-*.json")
        assert f"profile: 6 steps are in {path}" in log.read_text()
    events = json.loads(path.read_text())["traceEvents"]
    assert sum(event.get("name") == "engine step" for event in events) == 6
