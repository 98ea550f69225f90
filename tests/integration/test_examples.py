"""The examples of web services, run as they are, against a real server and a real worker."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import soundfile

from composed import REPOSITORY, free_ports
from worker.cli.local import local_worker
from worker.settings import Settings

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


REQUEST = {"text": "Hello.", "max_seconds": 0.3, "temperature": 5, "top_p": 1, "top_k": 0}


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
