"""Rolling upgrades: what a newer client asks for waits for a newer worker, for a while."""

import time
from typing import Any

import pytest
from redis import Redis
from rq.job import Job, JobStatus, Retry
from rq.queue import Queue

import rwkv_tts.submission
from hands import fetch, leftovers, status
from rwkv_tts import TTSClient
from rwkv_tts.keys import SCHEMA
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.jobs import POSTPONED
from worker.broker.rules import Rules

NEWER = {"text": "hello", "mood": "a field of the next version"}


def make_worker(url: str, queue: Queue, script: Script) -> BatchWorker:
    rules = Rules(queue=(queue.name,), lease_timeout=2)
    return BatchWorker(worker_connection(url), lambda *told: ScriptedBackend(script, *told), rules, max_jobs=8)


def submit(queue: Queue, monkeypatch: pytest.MonkeyPatch, schema: int, **options: Any) -> str:
    monkeypatch.setattr(rwkv_tts.submission, "SCHEMA", schema)
    return TTSClient(queue.connection, queue.name).enqueue(NEWER, job_options=options)


def test_an_older_worker_leaves_it_to_a_newer_one(
    redis_url: str, queue: Queue, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue, monkeypatch, SCHEMA + 1, retry=Retry(max=2))
    with in_thread(make_worker(redis_url, queue, Script())):
        until(lambda: status(queue, job) == JobStatus.SCHEDULED)
        due: Any = connection.zscore(queue.scheduled_job_registry.key, job)
        assert due is not None
        assert 0.5 < due - time.time() < 6  # it does not spin
    assert fetch(queue, job).retries_left == 2
    assert leftovers(queue) == []
    connection.hset(Job.key_for(job), "data", fetch_data(queue, {"text": "hello"}))  # as the newer one reads it
    with in_thread(make_worker(redis_url, queue, Script())):
        until(lambda: status(queue, job) == JobStatus.FINISHED)
    assert not connection.hexists(Job.key_for(job), POSTPONED)


def fetch_data(queue: Queue, request: dict[str, Any]) -> bytes:
    """The call of a job with another request, as RQ writes it."""
    other = TTSClient(queue.connection, f"{queue.name}-other").enqueue(request)
    data = queue.connection.hget(Job.key_for(other), "data")
    assert isinstance(data, bytes)
    return data


def test_in_the_end_it_fails_with_the_line_of_an_older_worker(
    redis_url: str, queue: Queue, connection: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue, monkeypatch, SCHEMA + 1)
    connection.hset(Job.key_for(job), POSTPONED, time.time() - 601)
    make_worker(redis_url, queue, Script()).work(burst=True)
    assert status(queue, job) == JobStatus.FAILED
    assert (fetch(queue, job).latest_result().exc_string or "").startswith("mood: unknown field; accepted: ")  # type: ignore[union-attr]
    assert not connection.hexists(Job.key_for(job), POSTPONED)


def test_what_is_wrong_for_all_fails_at_once(
    redis_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(queue, monkeypatch, SCHEMA)
    make_worker(redis_url, queue, Script()).work(burst=True)
    assert status(queue, job) == JobStatus.FAILED


@pytest.mark.parametrize("meta", ["[]", '{"rwkv_tts_schema": "9"}', '{"rwkv_tts_schema": null}', "9"])
def test_a_schema_that_is_no_number_is_none(
    redis_url: str, queue: Queue, connection: Redis, monkeypatch: pytest.MonkeyPatch, meta: str
) -> None:
    job = submit(queue, monkeypatch, SCHEMA)
    connection.hset(Job.key_for(job), mapping={"meta": meta, POSTPONED: "soon"})
    make_worker(redis_url, queue, Script()).work(burst=True)
    assert status(queue, job) == JobStatus.FAILED
