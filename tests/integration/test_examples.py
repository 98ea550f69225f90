"""The examples in Python, run as they are, against a real server and a real worker."""

import base64
import hashlib
import hmac
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import soundfile

from composed import REPOSITORY, free_ports
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings

PRODUCERS = Path(sys.prefix) / "producers"
"""Where `make .venv/producers` puts packages that would change versions of the project's own."""

EXAMPLES = REPOSITORY / "docs" / "examples"
COMMANDS = {
    "fastapi": [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port"],
    "django": [sys.executable, "django_app.py", "runserver", "--noreload"],
}


@pytest.fixture(scope="module")
def served(redis_url: str, random_model: Path) -> Iterator[str]:
    """The URL of a server with a worker; another database, because the examples speak to the default queue."""
    url = f"{redis_url}?db=7"
    with local_worker(Settings(model=random_model, max_rows=4), url) as local:
        local.wait_until_ready()
        yield url


@pytest.fixture
def service(served: str, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """One of the examples, on a port of its own."""
    port = free_ports("example")["example"]
    process = subprocess.Popen(
        [*COMMANDS[request.param], str(port)], cwd=EXAMPLES, env={**os.environ, "REDIS_URL": served}
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_it_answers(client)
            yield client
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(client: httpx.Client) -> None:
    for _ in range(300):
        try:
            client.get("/")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the example does not answer")


REQUEST = {"text": "Hello.", "max_seconds": 0.3}


def assert_speaks(audio: bytes) -> None:
    samples, rate = soundfile.read(io.BytesIO(audio))
    assert (rate, len(samples)) == (16_000, 4_800)


@pytest.mark.parametrize("service", ["fastapi"], indirect=True)
def test_fastapi_answers_with_audio_or_the_reason(service: httpx.Client) -> None:
    answer = service.post("/speech", json=REQUEST)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert_speaks(answer.content)
    assert service.post("/speech", json={"text": "Hello.", "job_options": {}}).status_code == 422
    refused = service.post("/speech", json={"text": "Hello.", "voice": "nobody"})
    assert refused.status_code == 502
    assert refused.json()["detail"].startswith("voice: unknown voice 'nobody'")


@pytest.mark.parametrize("service", ["django"], indirect=True)
def test_django_queues_and_answers_with_audio_when_it_is_there(service: httpx.Client) -> None:
    queued = service.post("/speech", json=REQUEST)
    assert queued.status_code == 202
    where = f"/speech/{queued.json()['job_id']}"
    for _ in range(600):
        answer = service.get(where)
        if answer.status_code != 202:
            break
        time.sleep(0.1)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert_speaks(answer.content)
    assert service.post("/speech", json={"text": "Hello.", "job_options": {}}).status_code == 400
    assert service.post("/speech", content="[]").status_code == 400
    assert service.post("/speech", content="{").status_code == 400
    assert service.get("/speech/none").status_code == 404


def example(*command: str, url: str, folder: Path, **environment: str) -> tuple[list[str], dict[str, Any]]:
    """A command in Python, and how it is run: in a folder of its own."""
    path = os.pathsep.join([str(EXAMPLES), str(PRODUCERS), *sys.path])
    return [sys.executable, *command], {
        "cwd": folder,
        "env": {**os.environ, "REDIS_URL": url, "PYTHONPATH": path, **environment},
        "text": True,
    }


@pytest.mark.slow
def test_asyncio_speaks_every_line_but_the_bad_one(served: str, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Hi.\n" * 5 + "\n" + "Ho.\n")
    command, options = example(str(EXAMPLES / "asyncio_app.py"), "lines.txt", ".", url=served, folder=tmp_path)
    done = subprocess.run(command, capture_output=True, timeout=60, **options)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("line 6: text: ")
    spoken = sorted(tmp_path.glob("*.opus"))
    assert [path.stem for path in spoken] == ["0001", "0002", "0003", "0004", "0005", "0007"]
    assert all(path.read_bytes().startswith(b"OggS") for path in spoken)


SECRET = base64.b64encode(b"what only the two services know").decode()


class Told(HTTPServer):
    """Another service, which is told of jobs: it checks signatures, and fails at first.

    Attributes:
        events: What it has heard and taken, by id.
        refused: How often it has failed.
    """

    def __init__(self) -> None:
        self.events: dict[str, Any] = {}
        self.refused = 0
        super().__init__(("127.0.0.1", 0), _Hear)

    def hear(self, headers: Any, body: bytes) -> int:
        told, moment = headers["webhook-id"], headers["webhook-timestamp"]
        key = base64.b64decode(SECRET)
        expected = hmac.digest(key, f"{told}.{moment}.".encode() + body, hashlib.sha256)
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
        assert abs(time.time() - int(moment)) < 60
        if self.refused < 2:
            self.refused += 1
            return 500 if self.refused == 1 else 302
        self.events[told] = json.loads(body)
        return 204


class _Hear(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Told)
        self.send_response(self.server.hear(self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


FAILS = "import webhooks; print(webhooks.speak(webhooks.connect(), 'Hi.', voice='nobody'))"


@contextmanager
def running(command: list[str], options: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("service", ["django"], indirect=True)
def test_webhooks_tell_of_every_job_whoever_dies_in_between(
    service: httpx.Client, served: str, told: Told, tmp_path: Path
) -> None:
    """The address in what is told is that of the example of Django."""
    options: dict[str, Any] = {"url": served, "folder": tmp_path, "WEBHOOK_SECRET": SECRET}
    options |= {
        "WEBHOOK_URL": f"http://127.0.0.1:{told.server_port}/",
        "AUDIO_URL": f"{service.base_url}/speech/{{job_id}}",
    }
    hooks = str(EXAMPLES / "webhooks.py")

    def speak(text: str) -> str:
        command, how = example(hooks, "speak", text, **options)
        return str(subprocess.run(command, capture_output=True, check=True, timeout=60, **how).stdout).strip()

    jobs = [speak("Hi."), speak("Ho.")]
    with running(*example(hooks, "deliver", **options)) as first:
        until(lambda: told.refused)
        first.send_signal(signal.SIGKILL)
    with running(*example(hooks, "deliver", **options)):
        command, how = example("-c", FAILS, **options)
        jobs.append(subprocess.run(command, capture_output=True, check=True, timeout=60, **how).stdout.strip())
        until(lambda: set(told.events) == set(jobs), 60)
    assert told.events[jobs[2]]["type"] == "speech.failed"
    assert told.events[jobs[2]]["data"]["error"].startswith("voice: unknown voice 'nobody'")
    for job_id in jobs[:2]:
        event = told.events[job_id]
        assert (event["type"], event["data"]["job_id"]) == ("speech.finished", job_id)
        audio = httpx.get(event["data"]["audio_url"]).content
        assert soundfile.info(io.BytesIO(audio)).duration == pytest.approx(event["data"]["seconds"], abs=0.01)


ASK = """
import json, sys
from celery_app import speak
results = [speak({"text": text, "max_seconds": 0.3}) for text in ("Hi.", "Ho.", "")]
told = [result.get(timeout=60, propagate=False) for result in results]
json.dump([str(one) for one in told], sys.stdout)
"""


@pytest.mark.slow
def test_celery_speaks(served: str, redis_url: str, tmp_path: Path) -> None:
    if not (PRODUCERS / "celery").is_dir():
        pytest.skip("celery is not installed: make .venv/producers")
    celery = f"{redis_url.replace('unix://', 'redis+socket://')}?virtual_host=9"
    options: dict[str, Any] = {
        "url": served,
        "folder": tmp_path,
        "CELERY_BROKER_URL": celery,
        "CELERY_RESULT_BACKEND": celery,
    }
    worker, how = example("-m", "celery", "--app", "celery_app", "worker", "--pool", "solo", **options)
    with running(worker, how):
        command, how = example("-c", ASK, **options)
        done = subprocess.run(command, capture_output=True, timeout=100, **how)
    assert done.returncode == 0, done.stderr
    *spoken, refused = json.loads(done.stdout)
    assert all(Path(tmp_path, path).read_bytes().startswith(b"RIFF") for path in spoken)
    assert refused.startswith("text: ")
