"""The worker process against a real server: batches, bad input, RQ's own tools, shutdown."""

import io
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import soundfile
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, Worker

from rwkv_tts.client import TTSClient
from rwkv_tts.keys import FUNCTION, audio_key
from rwkv_tts.refusal import RequestError
from rwkv_tts.results import JobFailedError, Speech
from waiting import until
from worker import __version__
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings

TEXT = "a sentence of ordinary length"
LONG_TEXT = "x" * 340
"""Its limit is 2048 semantic tokens: seconds of decoding, where the model does not end by itself."""

BOOK = "\n\n".join(10 * [LONG_TEXT])
"""Lasts ten times as long."""


def rq_queue(connection: Redis, name: str) -> Queue:
    return Queue(name, connection=connection, serializer=JSONSerializer)


def status(connection: Redis, job_id: str) -> JobStatus:
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer).get_status()


SHORT: dict[str, Any] = {"text": TEXT, "max_seconds": 0.5}


def speak(client: TTSClient, **fields: Any) -> Speech:
    return client.result(client.submit(**fields), timeout=60)


def test_many_jobs_share_steps_and_each_keeps_its_own_trace(client: TTSClient, connection: Redis) -> None:
    equal = {"text": TEXT, "max_seconds": 6}
    requests: list[dict[str, Any]] = [{**equal, "seed": seed, "gender": "male"} for seed in range(6)]
    requests += [{**equal, "seed": seed, "voice": "first"} for seed in range(6)]
    alone = [speak(client, **request).result for request in requests]
    together = [client.result(i, timeout=60) for i in [client.submit(**request) for request in requests]]

    assert [s.result.trace_sha256 for s in together] == [result.trace_sha256 for result in alone]
    assert len({result.trace_sha256 for result in alone}) == len(requests)
    assert all(result.mean_batch == 1.0 for result in alone)
    assert max(s.result.mean_batch for s in together) > 3.0
    for speech in together:
        wave, rate = soundfile.read(io.BytesIO(speech.audio))
        assert rate == speech.result.sample_rate == 16000
        assert len(wave) == speech.result.tokens.semantic * 320 == round(speech.result.seconds * rate)
        assert speech.result.tokens.globals == 32
    registry = FinishedJobRegistry("shared", connection=connection, serializer=JSONSerializer)
    assert {s.result.job_id for s in together} <= set(registry.get_job_ids())


def test_a_plain_rq_producer_needs_nothing_of_ours(client: TTSClient, connection: Redis) -> None:
    job = rq_queue(connection, "shared").enqueue(
        "worker.tasks.synthesize",
        request={"text": TEXT, "seed": 2**64 - 1, "metadata": {"order": 7}},
        result_ttl=60,
    )
    speech = client.result(job.id, timeout=60)
    value = speech.result
    assert (value.seed, value.metadata) == (2**64 - 1, {"order": 7})
    assert 0 < connection.ttl(audio_key(job.id)) <= 60
    (worker,) = (one for one in Worker.all(connection=connection) if "shared" in one.queue_names())
    assert (speech.worker, value.version) == (worker.name, __version__)
    assert re.fullmatch("[0-9a-f]{64}", value.model_sha256)
    assert value.model
    assert value.engine.startswith(("plain torch", "compiled"))


def test_a_missing_seed_is_chosen_and_repeats_the_speech(client: TTSClient) -> None:
    first, second = (speak(client, **SHORT).result for _ in range(2))
    assert first.seed != second.seed
    assert speak(client, **SHORT, seed=first.seed).result.trace_sha256 == first.trace_sha256


BAD_REQUESTS: dict[str, tuple[Any, str]] = {
    "empty text": ({"text": ""}, "text: .*accepted: 1 to 1000000 characters"),
    "too long": ({"text": "x" * 1_000_001}, "text: .*accepted: 1 to 1000000 characters"),
    "unknown attribute": ({"text": "a", "emotion": "bored"}, "emotion: .*bored.*accepted: .*neutral, angry"),
    "unknown voice": ({"text": "a", "voice": "nobody"}, "voice: .*nobody.*accepted: first, second"),
    "traversing voice": ({"text": "a", "voice": "../../etc/passwd"}, "voice: unknown voice"),
    "wrong type": ({"text": 5}, "text: .*string.*accepted"),
    "extra field": ({"text": "a", "colour": "red"}, "colour: .*; accepted: text, voice"),
    "NaN temperature": ({"text": "a", "temperature": float("nan")}, "temperature: .*accepted: a number from 0"),
    "unknown format": ({"text": "a", "format": "m4a"}, "format: .*accepted: one of wav, flac"),
    "not an object": (["text"], "request: list; accepted: a JSON object"),
}


def test_bad_jobs_fail_alone_with_a_reason(client: TTSClient, connection: Redis, tmp_path: Path) -> None:
    queue = rq_queue(connection, "shared")
    trace = tmp_path / "executed"
    good: dict[str, Any] = {**SHORT, "seed": 11}
    expected = speak(client, **good).result.trace_sha256

    bad = {name: (client.enqueue(request), reason) for name, (request, reason) in BAD_REQUESTS.items()}
    bad["other function"] = (
        queue.enqueue("os.mkdir", str(trace)).id,
        "function: .*os.mkdir.*accepted: worker.tasks",
    )
    bad["positional"] = (queue.enqueue(FUNCTION, good).id, "arguments: accepted is exactly one keyword")
    bad["not UTF-8"] = (
        _with_data(connection, queue, b"\xff\xfe\x00"),
        "data: not readable.*accepted: JSON, or a pickle",
    )
    bad["bomb"] = (_with_data(connection, queue, zlib.compress(bytes(1 << 26))), "data: larger than")
    fine = [client.submit(**good) for _ in range(3)]

    for name, (job_id, reason) in bad.items():
        with pytest.raises(JobFailedError, match=reason) as caught:
            client.result(job_id, timeout=60)
        assert "\n" not in str(caught.value), name
        assert status(connection, job_id) == JobStatus.FAILED
    assert {client.result(i, timeout=60).result.trace_sha256 for i in fine} == {expected}
    failed = FailedJobRegistry("shared", connection=connection, serializer=JSONSerializer)
    assert {job_id for job_id, _ in bad.values()} <= set(failed.get_job_ids())
    assert not trace.exists()


def _with_data(connection: Redis, queue: Queue, data: bytes) -> str:
    """Queue a job whose hash holds ``data`` as its call."""
    job = Job.create(FUNCTION, connection=connection, serializer=JSONSerializer, origin=queue.name)
    job.save()
    connection.hset(job.key, "data", data)
    connection.rpush(queue.key, job.id)
    return str(job.id)


def test_an_unreadable_hash_and_an_impossible_id_do_not_stop_the_worker(
    client: TTSClient, connection: Redis
) -> None:
    queue = rq_queue(connection, "shared")
    job = Job.create(FUNCTION, connection=connection, serializer=JSONSerializer, origin="shared")
    job.save()
    connection.hset(job.key, mapping={"created_at": b"\xff", "timeout": "soon", "description": b"\xff"})
    connection.set(Job.key_for("not-a-hash"), "text")
    connection.rpush(queue.key, job.id, b"\xff\x00 not an id", "deleted-meanwhile", "not-a-hash")
    assert speak(client, **SHORT).result.finish_reason
    failed = FailedJobRegistry("shared", connection=connection, serializer=JSONSerializer)
    until(lambda: job.id in failed.get_job_ids())
    assert connection.llen(queue.intermediate_queue_key) == 0


@pytest.mark.slow
def test_rq_info_shows_the_worker_and_all_of_its_jobs(slow_model: Path, redis_url: str, connection: Redis) -> None:
    with local_worker(Settings(model=slow_model, queue=("shown",), max_rows=4), redis_url) as local:
        local.wait_until_ready()
        _check_what_rq_shows(TTSClient(redis_url, "shown"), connection, redis_url)


def _check_what_rq_shows(client: TTSClient, connection: Redis, redis_url: str) -> None:
    jobs = [client.submit(BOOK, seed=seed) for seed in range(4)]
    started = StartedJobRegistry("shown", connection=connection, serializer=JSONSerializer)
    until(lambda: set(jobs) <= set(started.get_job_ids()))
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("rq")), "info", "--url", redis_url, "--raw"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (worker,) = (w for w in Worker.all(connection=connection) if "shown" in w.queue_names())
    assert worker.name in shown
    assert len(worker.get_current_executions(refresh=True)) >= len(jobs)
    assert worker.get_state() == "busy"
    for job_id in jobs:
        client.cancel(job_id)
        with pytest.raises(JobFailedError, match="stopped on request"):
            client.result(job_id, timeout=30)
        assert status(connection, job_id) == JobStatus.STOPPED
    until(lambda: not worker.get_current_executions(refresh=True))


def test_an_id_that_was_pushed_twice_runs_once(client: TTSClient, connection: Redis) -> None:
    job = Job.create(FUNCTION, kwargs={"request": SHORT}, connection=connection, serializer=JSONSerializer)
    job.origin = "shared"
    job.save()
    connection.rpush("rq:queue:shared", *[job.id] * 3)
    client.result(job.id, timeout=60)
    connection.rpush("rq:queue:shared", job.id)
    assert speak(client, **SHORT).audio
    assert len(Job.fetch(job.id, connection=connection, serializer=JSONSerializer).results()) == 1
    assert connection.llen("rq:queue:shared:intermediate") == 0


def test_result_ttl_zero_keeps_nothing(client: TTSClient, connection: Redis) -> None:
    job_id = client.submit(**SHORT, result_ttl=0)
    until(lambda: not connection.exists(Job.key_for(job_id)))
    assert not connection.exists(audio_key(job_id))


def test_suspended_workers_claim_nothing(client: TTSClient, connection: Redis) -> None:
    connection.set("rq:suspended", 1)
    try:
        job_id = client.submit(**SHORT)
        time.sleep(0.3)
        assert status(connection, job_id) == JobStatus.QUEUED
    finally:
        connection.delete("rq:suspended")
    assert client.result(job_id, timeout=60).audio


def test_a_bad_request_is_refused_before_it_is_queued(connection: Redis) -> None:
    client = TTSClient(connection, "refused")
    with pytest.raises(RequestError, match=r"gender: .*accepted: one of female, male"):
        client.submit(TEXT, gender="robot")
    assert rq_queue(connection, "refused").count == 0


def test_waiting_has_a_limit(connection: Redis) -> None:
    client = TTSClient(connection, "nobody-listens")
    with pytest.raises(TimeoutError, match="queued"):
        client.result(client.submit(TEXT), timeout=1)


def test_sigterm_finishes_what_is_running_and_leaves_the_rest(
    random_model: Path, redis_url: str, connection: Redis
) -> None:
    settings = Settings(model=random_model, queue=("drain",), max_rows=2)
    client = TTSClient(redis_url, "drain")
    jobs = [client.submit(LONG_TEXT, seed=seed) for seed in range(8)]
    with local_worker(settings, redis_url) as local:
        until(lambda: status(connection, jobs[1]) == JobStatus.STARTED)
        local.stop()
        assert local.exit_code == 0
    states = [status(connection, job_id) for job_id in jobs]
    finished = states.count(JobStatus.FINISHED)
    assert finished >= 2
    assert states == [JobStatus.FINISHED] * finished + [JobStatus.QUEUED] * (8 - finished)
    assert rq_queue(connection, "drain").job_ids == jobs[finished:]
    assert not [w for w in Worker.all(connection=connection) if "drain" in w.queue_names()]


def test_burst_empties_the_queue_and_exits(random_model: Path, redis_url: str, connection: Redis) -> None:
    client = TTSClient(redis_url, "burst")
    jobs = [client.submit(TEXT, seed=seed) for seed in range(5)]
    command = [sys.executable, "-m", "worker.cli", "worker", "--burst", f"--redis={redis_url}", "--queue=burst"]
    done = subprocess.run(
        [*command, f"--model={random_model}", "--token-chunk-size=7"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "token_chunk_size 7" in done.stderr
    assert {status(connection, job_id) for job_id in jobs} == {JobStatus.FINISHED}


def test_a_stock_rq_worker_runs_the_same_job(
    random_model: Path, redis_url: str, connection: Redis, client: TTSClient
) -> None:
    stock = TTSClient(redis_url, "stock")
    good, bad = stock.submit(**SHORT, seed=3, format="flac"), stock.enqueue({"text": ""})
    rq = str(Path(sys.executable).with_name("rq"))
    options = ["--url", redis_url, "--worker-class", "rq.SimpleWorker", "--serializer", "json"]
    subprocess.run(
        [rq, "worker", "--burst", *options, "stock"],
        env={**os.environ, "RWKV_TTS_MODEL": str(random_model)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    ours = speak(client, **SHORT, seed=3, format="flac")
    theirs = stock.result(good, timeout=5)
    assert theirs.result.trace_sha256 == ours.result.trace_sha256
    assert theirs.audio == ours.audio
    with pytest.raises(JobFailedError, match=r"text: .*accepted"):
        stock.result(bad, timeout=5)


@pytest.mark.slow
def test_two_workers_share_one_queue(random_model: Path, redis_url: str, connection: Redis) -> None:
    settings = Settings(model=random_model, queue=("scaled",), max_rows=2)
    client = TTSClient(redis_url, "scaled")
    with local_worker(settings, redis_url) as one, local_worker(settings, redis_url) as two:
        until(lambda: len(_workers(connection, "scaled")) == 2)
        jobs = [client.submit(TEXT, seed=seed) for seed in range(24)]
        results = [client.result(job_id, timeout=60).result for job_id in jobs]
        assert [result.seed for result in results] == list(range(24))
        until(lambda: sum(one.successful_job_count for one in _workers(connection, "scaled")) == 24)
        counts = [worker.successful_job_count for worker in _workers(connection, "scaled")]
        one.check()
        two.check()
    assert min(counts) > 0


def _workers(connection: Redis, queue: str) -> list[BaseWorker]:
    return [worker for worker in Worker.all(connection=connection) if queue in worker.queue_names()]


def test_the_worker_outlives_a_producer_that_vanishes(
    served: tuple[LocalWorker, TTSClient], redis_url: str
) -> None:
    local, client = served
    code = (
        "import os, sys; from rwkv_tts.client import TTSClient\n"
        "TTSClient(sys.argv[1], 'shared').submit('gone'); os.kill(os.getpid(), 9)"
    )
    gone = subprocess.run([sys.executable, "-c", code, redis_url], check=False)
    assert gone.returncode == -signal.SIGKILL
    assert speak(client, **SHORT).audio
    local.check()
