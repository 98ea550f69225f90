"""RQ's own commands start our worker: ``rq worker``, ``rq worker-pool`` and django-rq's ``rqworker``."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.queue import Queue

from rwkv_tts.client import TTSClient
from rwkv_tts.results import JobFailedError
from worker.rq_worker import RQWorker

CLASS = "worker.rq_worker.RQWorker"
ENVIRONMENT = {"RWKV_TTS_MAX_ROWS": "4", "RWKV_TTS_LOG_LEVEL": "INFO", "OMP_WAIT_POLICY": "passive"}
DJANGO = """
import os, sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_rq"], RQ_QUEUES={sys.argv[1]: {"URL": sys.argv[2]}})
django.setup()
from django.core.management import call_command
call_command("rqworker", sys.argv[1], "--burst", "--worker-class", sys.argv[3])
"""
HANDLER = """
def note(job, kind, error, trace):
    job.meta["noted"] = f"{kind.__name__}: {error}"
    job.save_meta()
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def client(connection: Redis, queue: Queue) -> TTSClient:
    return TTSClient(connection, queue.name)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python in a folder of its own, as an operator would."""
    path = os.pathsep.join(sys.path)

    def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
        )

    return start


def spoken(client: TTSClient, jobs: list[str]) -> list[Any]:
    """Of jobs that have ended with audio, the workers that spoke."""
    assert all(len(client.result(job, timeout=0).audio) > 1000 for job in jobs)
    results = [client._queue.fetch_job(job).latest_result() for job in jobs]  # type: ignore[union-attr]
    return [result and result.worker_name for result in results]


@pytest.mark.slow
def test_rq_worker_starts_ours(run: Run, client: TTSClient, redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLER)
    jobs = [client.submit(f"Hello number {number}.", seed=1) for number in range(3)]
    bad = client.enqueue({"text": ""})
    later = client.submit("Goodbye.")
    options = ["--name", "studio-1", "--max-jobs", "4", "--exception-handler", "handlers.note"]
    run("-m", "rq.cli", "worker", "--burst", "-u", redis_url, "-w", CLASS, *options, client.queue)
    assert spoken(client, jobs) == ["studio-1"] * 3
    with pytest.raises(JobFailedError, match="text"):
        client.result(bad, timeout=0)
    assert client._queue.fetch_job(bad).meta["noted"].startswith("JobError: text: ")  # type: ignore[union-attr]
    assert client._queue.job_ids == [later]


@pytest.mark.slow
def test_rq_worker_pool_starts_ours(run: Run, client: TTSClient, redis_url: str) -> None:
    jobs = [client.submit(f"Hello number {number}.", seed=1) for number in range(12)]
    run("-m", "rq.cli", "worker-pool", "--burst", "-n", "2", "-u", redis_url, "-w", CLASS, client.queue)
    spoken(client, jobs)


@pytest.mark.slow
def test_djangos_rqworker_starts_ours(run: Run, client: TTSClient, redis_url: str) -> None:
    jobs = [client.submit("Hello.", seed=1)]
    run("-c", DJANGO, client.queue, redis_url, CLASS)
    spoken(client, jobs)


def test_rq_info_shows_workers_without_a_model(run: Run, redis_url: str) -> None:
    url = f"{redis_url}?db=4"  # nobody else's: others leave keys there that RQ cannot read
    shown = run("-X", "importtime", "-m", "rq.cli", "info", "-u", url, "-w", CLASS)
    assert "workers, " in shown.stdout
    assert " torch" not in shown.stderr


def test_arguments_that_would_change_nothing_are_refused(connection: Redis) -> None:
    make: Any = RQWorker
    with pytest.raises(TypeError, match="worker_tll: RQ's workers have no such option"):
        make(["a"], connection=connection, worker_tll=1)
    with pytest.raises(ValueError, match="disable_default_exception_handler"):
        make(["a"], connection=connection, disable_default_exception_handler=True)


def test_several_devices_are_the_affair_of_our_own_command(
    connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKV_TTS_DEVICES", "cpu,cpu")
    with pytest.raises(ValueError, match="devices: of the command `rwkv-tts worker` alone; accepted here: device"):
        RQWorker(["a"], connection=connection)


def test_it_takes_its_settings_from_the_environment(
    redis_url: str, client: TTSClient, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And may work again."""
    monkeypatch.setenv("RWKV_TTS_MODEL", str(random_model))
    monkeypatch.setenv("RWKV_TTS_NAME", "of-the-environment")
    monkeypatch.setenv("RWKV_TTS_METRICS_PORT", "0")
    worker = RQWorker([client.queue], connection=Redis.from_url(redis_url))
    assert worker.name == "of-the-environment"
    for _ in range(2):
        job = client.submit("hello", seed=1, max_seconds=0.5)
        assert worker.work(burst=True)
        client.result(job, timeout=0)
