"""Producers that pickle, as RQ does by default: RQ itself, its cron, and what others have built on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry

from rwkv_tts import SynthesisRequest, TTSClient
from rwkv_tts.keys import FUNCTION
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

REQUEST = {"text": "Hello.", "max_seconds": 0.3}
PRODUCERS = Path(sys.prefix) / "producers"


@pytest.fixture(scope="module")
def url(redis_url: str, random_model: Path) -> Iterator[str]:
    """A server with a worker; a database that no others use."""
    url = f"{redis_url}?db=8"
    with local_worker(Settings(model=random_model, max_rows=4), url) as local:
        local.wait_until_ready()
        yield url


@pytest.fixture
def queue(url: str) -> Queue:
    return Queue("tts", connection=Redis.from_url(url))


def spoken(job: Job) -> None:
    """The job has ended with a result that its producer reads, and with audio."""
    result = job.latest_result(timeout=60)
    assert result is not None
    assert result.type == result.Type.SUCCESSFUL, result.exc_string
    value = result.return_value or {}
    assert value["seconds"] == pytest.approx(0.3)
    assert job.connection.get(value["audio_key"])


def test_a_plain_queue_reads_its_result(queue: Queue) -> None:
    job = queue.enqueue(FUNCTION, request=REQUEST, meta={"order": 7})
    spoken(job)
    found = Job.fetch(job.id, connection=queue.connection)
    assert found.get_status() == JobStatus.FINISHED
    assert (found.meta, found.kwargs) == ({"order": 7}, {"request": REQUEST})
    assert (found.return_value() or {})["job_id"] == job.id
    assert job.id in FinishedJobRegistry(queue=queue).get_job_ids()
    assert len(TTSClient(queue.connection).result(job.id, timeout=0).audio) > 1000


def test_what_is_no_plain_value_fails_with_one_line(queue: Queue) -> None:
    job = queue.enqueue(FUNCTION, request=SynthesisRequest(text="Hello."))
    result = job.latest_result(timeout=60)
    assert result is not None
    assert str(result.exc_string) == (
        "data: a pickle with the object 'rwkv_tts.schema.SynthesisRequest'; accepted: JSON, or a pickle "
        "(protocol 2 to 5) of plain values: None, bool, int, float, str, list, tuple, dict"
    )
    assert job.id in FailedJobRegistry(queue=queue).get_job_ids()
    spoken(queue.enqueue(FUNCTION, request=REQUEST))


def test_dependents_and_times_work(queue: Queue) -> None:
    first = queue.enqueue_in(timedelta(seconds=0.1), FUNCTION, request=REQUEST)
    second = queue.enqueue(FUNCTION, request=REQUEST, depends_on=first, meta={"after": [1]})
    spoken(second)
    assert Job.fetch(second.id, connection=queue.connection).meta == {"after": [1]}


CRON = """
from rq import cron

def synthesize(request): ...

synthesize.__module__ = "worker.tasks"
cron.register(synthesize, "tts", kwargs={"request": REQUEST}, interval=3600)
"""

RUN_CRON = """
from pathlib import Path
from redis import Redis
from rq.cron import CronScheduler

Path("crontab.py").write_text(f"REQUEST = {REQUEST!r}\\n" + CRON)
scheduler = CronScheduler(connection=Redis.from_url(URL))
scheduler.load_config_from_file("crontab.py")
assert len(scheduler.enqueue_jobs()) == 1
"""

SCHEDULER = """
from datetime import timedelta
from redis import Redis
from rq_scheduler import Scheduler

scheduler = Scheduler("tts", connection=Redis.from_url(URL))
scheduler.enqueue_in(timedelta(seconds=0), "worker.tasks.synthesize", request=REQUEST)
scheduler.run(burst=True)
"""

FLASK = """
from flask import Flask
from flask_rq import RQ

app = Flask("shop")
app.config.update(RQ_CONNECTION=URL, RQ_QUEUES=["tts"])
queues = RQ(app)
with app.app_context():
    queues.get_queue("tts").enqueue("worker.tasks.synthesize", request=REQUEST)
"""

DJANGO = """
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["django_rq"], RQ_QUEUES={"tts": {"URL": URL}})
django.setup()
import django_rq

django_rq.get_queue("tts").enqueue("worker.tasks.synthesize", request=REQUEST)
"""


def run(code: str, url: str, folder: Path) -> None:
    """Run a program of its own."""
    path = folder / "producer.py"
    path.write_text(f"URL, REQUEST = {url!r}, {REQUEST!r}\n{code}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PRODUCERS), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        (f"CRON = {CRON!r}\n{RUN_CRON}", "rq"),
        (SCHEDULER, "rq_scheduler"),
        (FLASK, "flask_rq"),
        (DJANGO, "django_rq"),
    ],
    ids=["rq cron", "rq-scheduler", "Flask-RQ", "django-rq"],
)
def test_a_tool_that_pickles_gets_speech(code: str, needs: str, queue: Queue, url: str, tmp_path: Path) -> None:
    if needs in ("rq_scheduler", "flask_rq") and not (PRODUCERS / needs).is_dir():
        pytest.skip(f"{needs} is not installed: make .venv/producers")
    finished, failed = FinishedJobRegistry(queue=queue), FailedJobRegistry(queue=queue)
    before = {*finished.get_job_ids(), *failed.get_job_ids()}
    run(code, url, tmp_path)
    until(lambda: {*finished.get_job_ids(), *failed.get_job_ids()} - before, 60)
    [job_id] = {*finished.get_job_ids(), *failed.get_job_ids()} - before
    spoken(Job.fetch(job_id, connection=queue.connection))
