"""A worker with several devices: one command, a process for each, and all of them begin and end together."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from commands import rwkv_tts, start
from rwkv_tts.client import TTSClient
from scraping import Samples, ask, scrape
from waiting import until
from worker.broker.batch_worker import ExitCode
from worker.cli.local import LocalWorker, local_worker, workers_on
from worker.settings import Settings

pytestmark = pytest.mark.slow

TEXT = "a sentence of ordinary length"
LONG_TEXT = "x" * 340
CUDA = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
"""


@contextmanager
def several(url: str, queue: Queue, **settings: Any) -> Iterator[LocalWorker]:
    """A parent with two workers on the CPU, which is stopped at the end."""
    with local_worker(Settings(queue=(queue.name,), devices=("cpu", "cpu"), threads=1, **settings), url) as parent:
        yield parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def workers_of(parent: LocalWorker) -> list[psutil.Process]:
    return psutil.Process(parent.pid).children()


def until_both_work(connection: Redis, queue: Queue) -> None:
    until(lambda: len(workers_on(connection, queue.name)) == 2, timeout=60)


def until_all_are_gone(processes: list[psutil.Process]) -> None:
    until(lambda: not any(process.is_running() for process in processes), timeout=5)


def jobs_of(queue: Queue, ids: list[str]) -> list[Job]:
    return Job.fetch_many(ids, connection=queue.connection, serializer=JSONSerializer)  # type: ignore[return-value]


def statuses(queue: Queue, ids: list[str]) -> list[JobStatus]:
    return [job.get_status() for job in jobs_of(queue, ids)]


def at_work(queue: Queue, ids: list[str]) -> dict[str, list[str]]:
    """Those that run, by the name of their worker."""
    found: dict[str, list[str]] = {}
    for job in jobs_of(queue, ids):
        if job.get_status() == JobStatus.STARTED and job.worker_name:
            found.setdefault(job.worker_name, []).append(job.id)
    return found


def shares(found: Samples, name: str) -> list[float]:
    return [found[f'rwkv_tts_{name}{{device="cpu/{number}"}}'] for number in range(2)]


def until_ready(parent: LocalWorker, port: int) -> list[tuple[int, str]]:
    """What ``/readyz`` answers until it is 200."""
    answers: list[tuple[int, str]] = []

    def ready() -> bool:
        parent.check()
        try:
            answers.append(ask(port, "/readyz"))
        except OSError:
            return False
        return answers[-1][0] == 200

    until(ready, timeout=60)
    return answers


def test_two_workers_share_a_queue_a_page_and_an_end(
    random_model: Path, redis_url: str, connection: Redis, queue: Queue
) -> None:
    client, port = TTSClient(redis_url, queue.name), free_port()
    requests: list[dict[str, Any]] = [
        {"text": f"{TEXT}, {seed}", "seed": seed, "max_seconds": 2} for seed in range(16)
    ]
    with several(redis_url, queue, model=random_model, max_rows=2, metrics_port=port, name="pair") as parent:
        answers = until_ready(parent, port)
        assert answers[-1] == (200, "ok\n")
        assert {status for status, _ in answers[:-1]} == {503}
        assert all("cpu/" in reason for _, reason in answers[:-1])
        assert shares(scrape(port), "ready") == [1, 1]
        assert {worker.name for worker in workers_on(connection, queue.name)} == {"pair-0", "pair-1"}
        assert {outcome.before.name for outcome in client.tune(max_rows=1)} == {"pair-0", "pair-1"}
        spoken = [client.result(job, timeout=60) for job in [client.submit(**request) for request in requests]]
        assert {speech.worker for speech in spoken} == {"pair-0", "pair-1"}
        until(lambda: sum(shares(scrape(port), "jobs_finished_total")) == len(requests))
        assert min(shares(scrape(port), "jobs_finished_total")) > 0
        workers = workers_of(parent)
        assert not any("libtorch" in file.path for file in psutil.Process(parent.pid).memory_maps())
        parent.send(signal.SIGTERM)
        assert parent.wait() == ExitCode.DRAINED
        until_all_are_gone(workers)
    with local_worker(Settings(model=random_model, queue=(queue.name,), max_rows=2), redis_url):
        alone = [client.result(job, timeout=60) for job in [client.submit(**request) for request in requests]]
    assert [one.result.trace_sha256 for one in spoken] == [one.result.trace_sha256 for one in alone]


def test_each_signal_reaches_each_worker_once(
    slow_model: Path, redis_url: str, connection: Redis, queue: Queue
) -> None:
    """The first lets running jobs finish; the second puts them back."""
    client, port = TTSClient(redis_url, queue.name), free_port()
    with several(redis_url, queue, model=slow_model, max_rows=1, drain_timeout=600, metrics_port=port) as parent:
        until_both_work(connection, queue)
        jobs = [client.submit(LONG_TEXT) for _ in range(6)]
        until(lambda: len(at_work(queue, jobs)) == 2)
        workers = workers_of(parent)
        sessions = [os.getsid(process.pid) for process in workers]
        assert len({os.getsid(parent.pid), *sessions}) == 3  # a terminal's Ctrl-C reaches the parent alone
        parent.send(signal.SIGINT)
        until(lambda: ask(port, "/readyz") == (503, "cpu/0: draining; cpu/1: draining\n"))
        assert len(at_work(queue, jobs)) == 2
        time.sleep(1.2)  # within a second it is the same wish
        parent.send(signal.SIGTERM)
        assert parent.wait() == ExitCode.PUT_BACK
        until_all_are_gone(workers)
    assert set(statuses(queue, jobs)) <= {JobStatus.QUEUED, JobStatus.FINISHED}


def test_when_a_worker_dies_the_other_finishes_and_all_is_over(
    random_model: Path,
    redis_url: str,
    connection: Redis,
    queue: Queue,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = TTSClient(redis_url, queue.name)
    with several(redis_url, queue, model=random_model, max_rows=2, lease_timeout=1, drain_timeout=100) as parent:
        until_both_work(connection, queue)
        jobs = [client.submit(LONG_TEXT, seed=seed, max_seconds=20) for seed in range(8)]
        until(lambda: len(at_work(queue, jobs)) == 2)
        victim, other = workers_of(parent)
        names = {worker.pid: worker.name for worker in workers_on(connection, queue.name)}
        theirs = at_work(queue, jobs)[names[other.pid]]
        victim.kill()
        assert parent.wait() == 128 + signal.SIGKILL
        until_all_are_gone([other])
        assert set(statuses(queue, theirs)) == {JobStatus.FINISHED}
    lines = [line for line in capfd.readouterr().err.splitlines() if "ERROR" in line]
    assert [line.rpartition(" - ")[2] for line in lines] == [
        "device cpu/0: its worker ended with SIGKILL; the others finish what they run"
    ]
    with several(redis_url, queue, model=random_model, max_rows=4, lease_timeout=1):
        until(lambda: set(statuses(queue, jobs)) == {JobStatus.FINISHED}, timeout=60)
    assert [len(job.results()) for job in jobs_of(queue, jobs)] == [1] * len(jobs)


def test_it_ends_when_the_queue_is_empty_if_it_is_told_so(
    random_model: Path, redis_url: str, queue: Queue, tmp_path: Path
) -> None:
    client = TTSClient(redis_url, queue.name)
    jobs = [client.submit(TEXT, max_seconds=1) for _ in range(8)]
    arguments = ["worker", "--devices", "cpu,cpu", "--burst", "--profile", "3", "--redis", redis_url]
    done = rwkv_tts(*arguments, "--queue", queue.name, model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(statuses(queue, jobs)) == {JobStatus.FINISHED}
    assert "device cpu, cpu, " in done.stderr
    assert list(tmp_path.glob("profile-*.json"))


def test_a_model_that_is_none_ends_all_with_the_exit_code_of_one(tmp_path: Path, redis_url: str) -> None:
    done = rwkv_tts("worker", "--devices", "cpu,cpu", "--redis", redis_url, model=tmp_path, cwd=tmp_path)
    assert done.returncode == ExitCode.UNUSABLE
    assert "not a model directory" in done.stderr
    assert "its worker ended with exit code 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--devices", "nonsense"], "devices: 'nonsense'; accepted: "),
        (["--devices", "all"], "devices: no GPU for all ("),
        (["--devices", "0,1", "--device", "cuda:0"], "devices: given beside device cuda:0; accepted: "),
    ],
)
def test_devices_that_cannot_be_are_refused_in_one_line(
    random_model: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = rwkv_tts("worker", *arguments, model=random_model, cwd=tmp_path, COLUMNS="300", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # no server was started


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_all_is_a_worker_for_each_gpu_that_the_driver_has(
    random_model: Path, tmp_path: Path, redis_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A driver that only counts: the workers find no GPU behind it, and say so."""
    source = tmp_path / "cuda.c"
    source.write_text(CUDA)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    shown = {"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    arguments = ["worker", "--devices", "all", "--redis", redis_url]
    parent = start(*arguments, model=random_model, cwd=tmp_path, **shown)
    try:
        until(lambda: visible_to(parent.pid) == ["GPU-a", "GPU-b"])
        assert parent.wait(60) == ExitCode.UNUSABLE
    finally:
        parent.kill()
    [first, *_] = capfd.readouterr().err.splitlines()
    assert "device cuda:0, cuda:1, " in first


def visible_to(parent: int) -> list[str]:
    """The GPUs that the workers of a parent see."""
    found = []
    for process in psutil.Process(parent).children():
        with suppress(psutil.Error):  # what has counted them ends
            if "worker.cli.child" in process.cmdline():
                found.append(process.environ()["CUDA_VISIBLE_DEVICES"])
    return found
