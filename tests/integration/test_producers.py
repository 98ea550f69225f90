"""Producers without RQ: the examples and the commands of docs/producers.md, as the role ``producer``."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from composed import REPOSITORY, Composed, free_ports
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import ARGUMENT, FUNCTION, audio_key
from rwkv_tts.results import JobFailedError
from worker.cli.local import local_worker
from worker.settings import Settings

DOCS = REPOSITORY / "docs"
REQUEST = {"text": 'They said "wait"; it\'s 5 > 3: Grüße.', "seed": 7, "format": "flac", "max_seconds": 2}
Submit = Callable[[str, Path], "subprocess.CompletedProcess[str]"]
Producer = Callable[[str], Submit]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The Redis of the compose file."""
    composed = Composed(tmp_path_factory.mktemp("producers"), free_ports("redis:6379"))
    with composed.run_redis():
        yield composed


@pytest.fixture(scope="module")
def served(composed: Composed, random_model: Path) -> Iterator[TTSClient]:
    """A worker on the queue of the examples."""
    with local_worker(Settings(model=random_model, max_rows=4), composed.redis_url("worker")) as local:
        local.wait_until_ready()
        yield TTSClient(composed.connect("producer"))


def redis_cli(url: str) -> tuple[list[str], dict[str, str]]:
    """Options of redis-cli, and its environment."""
    parts = urlsplit(url)
    options = ["-h", str(parts.hostname), "-p", str(parts.port), "--user", str(parts.username)]
    return options, {**os.environ, "REDISCLI_AUTH": unquote(str(parts.password))}


def by_shell(url: str) -> Submit:
    options, environment = redis_cli(url)
    script = str(DOCS / "examples" / "submit.sh")
    return lambda request, output: subprocess.run(
        ["sh", script, request, str(output), *options], env=environment, capture_output=True, text=True, timeout=60
    )


def by_node(url: str) -> Submit:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: apt-get install nodejs")
    script = str(DOCS / "examples" / "submit.mjs")
    environment = {**os.environ, "REDIS_URL": url}
    return lambda request, output: subprocess.run(
        [node, script, request, str(output)], env=environment, capture_output=True, text=True, timeout=60
    )


PRODUCERS = [pytest.param(by_shell, marks=pytest.mark.redis_cli, id="shell"), pytest.param(by_node, id="node")]


@pytest.mark.parametrize("producer", PRODUCERS)
def test_an_example_gets_the_audio_that_our_client_gets(
    producer: Producer, composed: Composed, served: TTSClient, tmp_path: Path
) -> None:
    done = producer(composed.redis_url("producer"))(json.dumps(REQUEST, ensure_ascii=False), tmp_path / "out.flac")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    expected = served.result(served.submit(**REQUEST), timeout=60)  # type: ignore[arg-type]
    assert (tmp_path / "out.flac").read_bytes() == expected.audio
    assert said["trace_sha256"] == expected.result.trace_sha256


@pytest.mark.parametrize("producer", PRODUCERS)
def test_an_example_tells_why_a_job_failed(
    producer: Producer, composed: Composed, served: TTSClient, tmp_path: Path
) -> None:
    done = producer(composed.redis_url("producer"))('{"text": "hi", "gender": "robot"}', tmp_path / "out.wav")
    assert done.returncode == 1
    assert done.stderr.startswith("gender: ")
    assert "accepted" in done.stderr
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("producer", PRODUCERS)
def test_an_example_fails_without_a_login(producer: Producer, composed: Composed, tmp_path: Path) -> None:
    wrong = composed.redis_url("producer").replace("redis_producer", "wrong")
    done = producer(wrong)(json.dumps(REQUEST), tmp_path / "out.wav")
    assert done.returncode != 0
    assert "WRONGPASS" in done.stderr + done.stdout


def documented(heading: str) -> str:
    """The commands of a section of the page."""
    section = (DOCS / "producers.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return "".join(re.findall(r"```redis\n(.*?)```", section, re.DOTALL))


def send(composed: Composed, commands: str) -> bytes:
    """What redis-cli answers to lines of commands."""
    options, environment = redis_cli(composed.redis_url("producer"))
    done = subprocess.run(
        ["redis-cli", "-e", "--raw", *options],
        input=commands.encode(),
        env=environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.redis_cli
def test_the_documented_commands_submit_a_job_and_get_its_audio(composed: Composed, served: TTSClient) -> None:
    submit, wait = documented("Submit"), documented("Wait")
    send(composed, submit)
    [request] = re.findall(r'"request": (\{.*?\})', submit)
    job = Job.fetch("hello-1", connection=served.connection, serializer=JSONSerializer)
    assert (job.func_name, job.kwargs, job.origin) == (FUNCTION, {ARGUMENT: json.loads(request)}, "tts")
    expected = served.result(served.submit(**json.loads(request)), timeout=60)
    served.result("hello-1", timeout=60)
    fetch, multi, drop = wait.partition("MULTI")
    answer = send(composed, fetch)
    assert b"return_value" in answer
    assert answer.endswith(expected.audio + b"\n")
    assert send(composed, multi + drop).endswith(b"4\n1\n")
    assert served.connection.exists("rq:job:hello-1", audio_key("hello-1")) == 0


@pytest.mark.redis_cli
def test_the_documented_commands_cancel_a_job(composed: Composed) -> None:
    """On a queue without a worker."""
    commands = documented("Submit") + documented("Cancel")
    send(composed, commands.replace("hello-1", "hello-2").replace("queue:tts", "queue:idle"))
    connection: Redis = composed.connect("producer")
    with pytest.raises(JobFailedError, match="cancelled"):
        TTSClient(connection, "idle").result("hello-2", timeout=5)
    assert connection.llen("rq:queue:idle") == 0
