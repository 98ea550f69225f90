"""A worker whose networks are in a process of their own: whichever dies, the jobs come back."""

import signal
from pathlib import Path

import psutil
import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from rwkv_tts.client import TTSClient
from waiting import until
from worker.broker.batch_worker import ExitCode
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

TEXT = "a sentence of ordinary length"


def computing(worker: LocalWorker) -> psutil.Process:
    (found,) = [
        child
        for child in psutil.Process(worker.pid).children(recursive=True)
        if "worker.computing" in child.cmdline()
    ]
    return found


def statuses(connection: Redis, jobs: list[str]) -> list[JobStatus]:
    return [Job.fetch(one, connection=connection, serializer=JSONSerializer).get_status() for one in jobs]


@pytest.mark.parametrize("dies", ["computing", "worker"])
def test_jobs_come_back_whichever_process_dies(
    slow_model: Path, random_model: Path, redis_url: str, connection: Redis, dies: str
) -> None:
    queue = f"apart-{dies}"
    client = TTSClient(redis_url, queue)
    settings = Settings(model=slow_model, queue=(queue,), max_rows=2, compute="process", lease_timeout=2)
    with local_worker(settings, redis_url) as first:
        first.wait_until_ready()
        other = computing(first)
        jobs = [client.submit(TEXT, seed=seed) for seed in range(4)]
        until(lambda: statuses(connection, jobs).count(JobStatus.STARTED) == 2)
        if dies == "computing":
            other.kill()
        else:
            first.send(signal.SIGKILL)
        until(lambda: first.exit_code is not None)
        assert first.exit_code == (ExitCode.BROKEN if dies == "computing" else -signal.SIGKILL)
        until(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE)
    with local_worker(settings.model_copy(update={"model": random_model}), redis_url) as second:
        until(lambda: statuses(connection, jobs) == [JobStatus.FINISHED] * 4, timeout=60)
        speech = client.result(client.submit(TEXT, seed=1), timeout=30)
        second.send(signal.SIGTERM)
        assert second.wait() == 0
    with local_worker(settings.model_copy(update={"model": random_model, "compute": "thread"}), redis_url):
        again = client.result(client.submit(TEXT, seed=1), timeout=30)
    assert (again.result.trace_sha256, again.audio) == (speech.result.trace_sha256, speech.audio)
    for job_id in jobs:
        assert len(Job.fetch(job_id, connection=connection, serializer=JSONSerializer).results()) == 1


def test_an_idle_worker_ends_when_it_can_compute_no_longer(random_model: Path, redis_url: str) -> None:
    """Its other threads wait for work that will not come."""
    settings = Settings(model=random_model, queue=("apart-idle",), max_rows=2, compute="process")
    with local_worker(settings, redis_url) as worker:
        worker.wait_until_ready()
        computing(worker).kill()
        try:
            until(lambda: worker.exit_code is not None)
            assert worker.exit_code == ExitCode.BROKEN
        finally:
            worker.send(signal.SIGKILL)
