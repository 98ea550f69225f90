"""Several worker processes on one queue."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from rwkv_tts.client import TTSClient
from waiting import until
from worker.cli.local import local_worker, workers_on
from worker.settings import Settings

pytestmark = pytest.mark.slow

WORKERS = 3
JOBS = 90
FAIR_SHARE = 0.15


def test_three_workers_do_every_job_once_and_share_the_load(
    random_model: Path, redis_url: str, connection: Redis
) -> None:
    settings = Settings(model=random_model, queue=("scaled",), max_rows=2)
    client = TTSClient(redis_url, "scaled")
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(local_worker(settings, redis_url))
        until(lambda: len(workers_on(connection, "scaled")) == WORKERS, timeout=60)
        submitted = [client.submit("short", seed=seed, max_seconds=4) for seed in range(JOBS)]
        jobs = Job.fetch_many(submitted, connection=connection, serializer=JSONSerializer)
        until(lambda: all(job is not None and job.get_status() == JobStatus.FINISHED for job in jobs), timeout=90)
        shares = Counter(_only_worker(connection, job_id) for job_id in submitted)
        workers = workers_on(connection, "scaled")
    assert shares == {worker.name: worker.successful_job_count for worker in workers}
    assert sum(shares.values()) == JOBS
    assert len(shares) == WORKERS
    assert min(shares.values()) >= FAIR_SHARE * JOBS
    assert not any(worker.failed_job_count for worker in workers)
    assert not connection.exists("rq:queue:scaled", "rq:queue:scaled:intermediate", "rq:wip:scaled")


def _only_worker(connection: Redis, job_id: str) -> str:
    """The worker of the only result of a job."""
    [result] = Job.fetch(job_id, connection=connection, serializer=JSONSerializer).results()
    assert result.type == result.Type.SUCCESSFUL
    return str(result.worker_name)
