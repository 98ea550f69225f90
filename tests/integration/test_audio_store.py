"""Results outside Redis, with a worker process: in a folder, and in an S3 server that comes and goes."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
from redis import Redis

from chaos.objects import BUCKET, ObjectStore, why_no_store
from composed import free_ports
from network import Network
from rwkv_tts.aio import AsyncTTSClient
from rwkv_tts.audio_store import AudioStore
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import audio_key, tokens_key
from rwkv_tts.results import JobFailedError, Speech
from scraping import ask, scrape
from waiting import until
from worker.broker.batch_worker import ExitCode
from worker.cli.local import local_worker
from worker.settings import Settings

TEXT = "a sentence of ordinary length"
SHORT: dict[str, Any] = {"text": TEXT, "max_seconds": 0.2, "seed": 1}
"""With a random seed, one text in some hundred ends before its first token."""


def settings(model: Path, results: str, **values: Any) -> Settings:
    return Settings(model=model, queue=(f"store-{uuid4().hex}",), max_rows=8, results=results, **values)


def objects(store: AudioStore) -> set[str]:
    return {store.address(one.name) for page in store.pages() for one in page}


def test_audio_in_a_folder_is_fetched_like_any_other(
    random_model: Path, redis_url: str, connection: Redis, tmp_path: Path
) -> None:
    chosen = settings(random_model, f"file://{tmp_path}")
    client = TTSClient(redis_url, chosen.queue[0], results=chosen.results)
    with local_worker(chosen, redis_url):
        jobs = [client.submit(**{**SHORT, "format": name}) for name in ("wav", "mp3")]
        wav, mp3 = [client.result(job, timeout=60) for job in jobs]

        async def fetch() -> Speech:
            async with AsyncTTSClient(redis_url, chosen.queue[0], results=chosen.results) as other:
                return await other.result(jobs[0], timeout=10)

        assert asyncio.run(fetch()).audio == wav.audio
        assert client.voices.keep(jobs[0], f"v-{uuid4().hex[:8]}")
    assert wav.audio.startswith(b"RIFF")
    assert not mp3.audio.startswith(b"RIFF")
    assert client.store is not None
    assert objects(client.store) == {wav.result.address, mp3.result.address}
    assert not connection.exists(*map(audio_key, jobs))
    assert connection.exists(*map(tokens_key, jobs)) == 2

    Path(str(wav.result.address).removeprefix("file://")).unlink()
    with pytest.raises(JobFailedError, match="its audio has expired"):
        client.result(jobs[0], timeout=1)


@pytest.mark.slow
def test_enqueue_fetches_from_the_store_or_says_why_not(
    random_model: Path, redis_url: str, tmp_path: Path
) -> None:
    for name in ("audio", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "jobs.jsonl").write_text("".join(f"{json.dumps({**SHORT, 'seed': seed})}\n" for seed in (1, 2)))
    chosen = settings(random_model, f"file://{tmp_path}/audio")
    with local_worker(chosen, redis_url) as local:
        local.wait_until_ready()
        where = ["--redis", redis_url, "--queue", chosen.queue[0]]
        right, wrong = (
            command("enqueue", str(tmp_path / "jobs.jsonl"), "--out", str(tmp_path / out), *where, results=results)
            for out, results in (("right", chosen.results), ("wrong", f"file://{tmp_path}/elsewhere"))
        )
    assert right.returncode == 0, right.stderr
    assert len(list((tmp_path / "right").iterdir())) == 2
    assert wrong.returncode == 1
    assert wrong.stdout.count("is not in this store; accepted: ") == 2
    assert "Traceback" not in wrong.stderr
    assert len(list((tmp_path / "audio").iterdir())) == 2


def command(*arguments: str, results: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments],
        env={**os.environ, "RWKV_TTS_RESULTS": results, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_a_stock_rq_worker_puts_audio_there_as_well(random_model: Path, redis_url: str, tmp_path: Path) -> None:
    client = TTSClient(redis_url, f"store-{uuid4().hex}", results=f"file://{tmp_path}")
    job = client.submit(**SHORT)
    options = ["--url", redis_url, "--worker-class", "rq.SimpleWorker", "--serializer", "json"]
    variables = {"RWKV_TTS_MODEL": str(random_model), "RWKV_TTS_RESULTS": f"file://{tmp_path}"}
    subprocess.run(
        [str(Path(sys.executable).with_name("rq")), "worker", "--burst", *options, client.queue],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        check=True,
        timeout=110,
    )
    assert client.result(job, timeout=5).audio.startswith(b"RIFF")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_a_store_that_is_away_fails_no_job(random_model: Path, redis_url: str, tmp_path: Path) -> None:
    """Jobs whose timeout passes meanwhile included: their work was done."""
    folder, away = tmp_path / "audio", tmp_path / "away"
    folder.mkdir()
    ports = free_ports("worker:9100")
    port = next(iter(ports.values()))
    chosen = settings(random_model, f"file://{folder}", metrics_port=port)
    client = TTSClient(redis_url, chosen.queue[0], results=chosen.results)
    with local_worker(chosen, redis_url) as local:
        local.wait_until_ready()
        folder.rename(away)
        folder.touch()
        jobs = [client.submit(**SHORT, job_options={"timeout": 2}) for _ in range(4)]
        until(lambda: ask(port, "/readyz")[0] == 503)
        assert f"results: file://{folder}: put: " in ask(port, "/readyz")[1]
        late = [client.submit(**SHORT) for _ in range(40)]
        stopped = client.submit(**SHORT)
        time.sleep(3.0)
        until(lambda: scrape(port)["rwkv_tts_store_failures_total"] > 4)
        shown = scrape(port)
        assert shown["rwkv_tts_store_up"] == 0
        assert 4 <= shown["rwkv_tts_store_waiting"] <= 16
        client.cancel(jobs[0])
        with pytest.raises(JobFailedError, match="stopped on request"):
            client.result(jobs[0], timeout=10)
        client.cancel(stopped)

        folder.unlink()
        away.rename(folder)
        addresses = {client.result(job, timeout=60).result.address for job in [*jobs[1:], *late]}
        until(lambda: ask(port, "/readyz") == (200, "ok\n"))
    assert client.store is not None
    assert objects(client.store) >= addresses
    assert len(addresses) == 43


@pytest.mark.slow
@pytest.mark.s3
def test_a_worker_ends_while_its_store_keeps_silent(random_model: Path, redis_url: str, network: Network) -> None:
    """What waits goes back to its queue, and is done by whoever comes next."""
    chosen = settings(random_model, f"s3://{BUCKET}/silent", drain_timeout=1)
    client = TTSClient(redis_url, chosen.queue[0], results=chosen.results)
    with local_worker(chosen, redis_url) as local:
        local.wait_until_ready()
        network.set("deaf")
        jobs = [client.submit(**SHORT) for _ in range(4)]
        until(lambda: client.load().running == 4)
        time.sleep(1.0)
        start = time.monotonic()
        local.stop()
        assert time.monotonic() - start < 25
        assert local.exit_code == ExitCode.PUT_BACK
    assert client.load().depth == 4
    network.set("open")
    with local_worker(chosen, redis_url):
        assert all(client.result(job, timeout=60).audio.startswith(b"RIFF") for job in jobs)


@pytest.mark.slow
def test_a_store_that_cannot_be_is_one_line_at_the_start(
    random_model: Path, redis_url: str, tmp_path: Path
) -> None:
    for results, reason in {
        f"file://{tmp_path}/missing": "no such folder; accepted: one that is there",
        "ftp://host/a": "accepted: redis, s3://bucket/prefix",
    }.items():
        done = start_worker(random_model, redis_url, results)
        assert done.returncode == 2
        assert reason in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def start_worker(model: Path, url: str, results: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", "worker", "--quiet", "--burst", "--model", model],
        env={**os.environ, "RWKV_TTS_REDIS": url, "RWKV_TTS_RESULTS": results, "COLUMNS": "500", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Network]:
    """The way to an S3 server with a bucket, and the variables that lead there."""
    if reason := why_no_store():
        pytest.skip(reason)
    server = ObjectStore(tmp_path)
    network = Network(server.port)
    for name, value in {**server.variables, "AWS_ENDPOINT": f"http://127.0.0.1:{network.port}"}.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield network
    network.close()
    server.kill()


@pytest.mark.slow
@pytest.mark.s3
def test_s3_may_come_and_go(random_model: Path, redis_url: str, connection: Redis, network: Network) -> None:
    chosen = settings(random_model, f"s3://{BUCKET}/some/prefix")
    client = TTSClient(redis_url, chosen.queue[0], results=chosen.results)
    assert client.store is not None
    jobs: list[str] = []
    with local_worker(chosen, redis_url) as local:
        local.wait_until_ready()
        for mode in ("cut", "busy", "deaf"):
            jobs += [client.submit(**SHORT) for _ in range(10)]
            network.set(mode)
            time.sleep(1.5)
            jobs += [client.submit(**SHORT) for _ in range(10)]
            network.set("open")
        speeches = [client.result(job, timeout=60) for job in jobs]

    assert len(speeches) == 60
    assert all(speech.audio.startswith(b"RIFF") for speech in speeches)
    assert not connection.exists(*map(audio_key, jobs))
    assert objects(client.store) >= {speech.result.address for speech in speeches}

    url = client.audio_url(jobs[0], expires=60)
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.read() == speeches[0].audio
        assert answer.headers["Content-Type"] == "audio/wav"


@pytest.mark.slow
@pytest.mark.s3
def test_s3_that_refuses_is_one_line_at_the_start(random_model: Path, redis_url: str, network: Network) -> None:
    done = start_worker(random_model, redis_url, "s3://no-such-bucket/a")
    assert done.returncode == 2
    assert "store: results: s3://no-such-bucket/a: put: " in done.stderr
    assert done.stderr.count("\n") == 1

    network.set("cut")
    away = start_worker(random_model, redis_url, f"s3://{BUCKET}/a", RWKV_TTS_OUTAGE_TIMEOUT="1")
    assert away.returncode == 2
    assert f"store: results: s3://{BUCKET}/a: put: " in away.stderr
