"""Signs of life while work enters slowly: texts that take long to prepare, a Redis that is far away."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.connection import UnixDomainSocketConnection
from rq.command import send_stop_job_command
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import enqueue, fetch, leftovers, status
from raf import raf
from rwkv_tts.keys import ARGUMENT, FUNCTION, lease_key
from rwkv_tts.voice_store import VoiceStore
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.backend import SpeechBackend, load_speech
from worker.broker.backend import Backend, Ended
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules
from worker.settings import Settings

ROWS = 64


class SlowToStart(ScriptedBackend):
    """Takes a while to prepare each job."""

    seconds = 0.05

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes], /) -> None:
        time.sleep(self.seconds)
        super().submit(job_id, request, queued, before)


class FarAway(UnixDomainSocketConnection):
    """Every round trip takes a tenth of a second more."""

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        time.sleep(0.1)
        super().send_packed_command(*arguments, **options)  # type: ignore[no-untyped-call]


@contextmanager
def never_missing(connection: Redis, key: str) -> Iterator[None]:
    """The key must be there all the time, once it is there and for the length of the block."""
    over, missed = threading.Event(), []

    def look() -> None:
        while not over.wait(0.01):
            if not connection.exists(key):
                missed.append(time.monotonic())

    until(lambda: connection.exists(key))
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert missed == []


def make_worker(url: str, queue: Queue, make: Callable[..., Backend], lease_timeout: float) -> BatchWorker:
    rules = Rules(queue=(queue.name,), lease_timeout=lease_timeout)
    return BatchWorker(worker_connection(url), make, rules, max_jobs=2 * ROWS)


def slow_to_start(ended: Callable[[Ended], None], freed: Callable[[], None]) -> SlowToStart:
    return SlowToStart(Script(), ended, freed, rows=ROWS)


def test_a_worker_lives_while_it_prepares_many_texts(redis_url: str, queue: Queue, connection: Redis) -> None:
    jobs = [enqueue(queue) for _ in range(ROWS)]
    worker = make_worker(redis_url, queue, slow_to_start, lease_timeout=2)
    with in_thread(worker), never_missing(connection, lease_key(worker.name)):
        until(lambda: {status(queue, job) for job in jobs} == {JobStatus.FINISHED})
    assert leftovers(queue) == []


def test_a_job_can_be_stopped_before_it_is_prepared(redis_url: str, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(ROWS)]
    worker = make_worker(redis_url, queue, slow_to_start, lease_timeout=2)
    with in_thread(worker):
        until(lambda: status(queue, jobs[-1]) == JobStatus.STARTED)
        send_stop_job_command(queue.connection, jobs[-1], serializer=JSONSerializer)
        until(lambda: status(queue, jobs[-1]) == JobStatus.STOPPED)
        until(lambda: {status(queue, job) for job in jobs[:-1]} == {JobStatus.FINISHED})


def test_what_was_not_begun_goes_back_when_the_worker_is_told_to_stop(redis_url: str, queue: Queue) -> None:
    jobs = [enqueue(queue) for _ in range(ROWS)]
    with in_thread(make_worker(redis_url, queue, slow_to_start, lease_timeout=2)):
        until(lambda: status(queue, jobs[0]) == JobStatus.FINISHED)
    assert 0 < queue.count < ROWS
    assert queue.job_ids == jobs[-queue.count :]
    assert leftovers(queue) == []


@pytest.mark.slow
def test_voices_by_name_take_one_round_trip_for_all(
    redis_url: str, queue: Queue, connection: Redis, random_model: Path
) -> None:
    voices = [f"far-{number}" for number in range(ROWS)]
    for voice in voices:
        VoiceStore(connection).add(raf(voice))
    settings = Settings(model=random_model, max_rows=ROWS)
    far = worker_connection(redis_url)
    far.connection_pool.connection_class = FarAway
    speech = load_speech(settings, far)
    rules = Rules(queue=(queue.name,), lease_timeout=3)
    worker = BatchWorker(far, lambda *told: SpeechBackend(speech, settings, *told), rules, max_jobs=2 * ROWS)
    plain = Queue(queue.name, connection=connection, serializer=JSONSerializer)
    requests = [{"text": "One.", "voice": voice, "max_seconds": 0.1} for voice in [*voices[1:], "nobody"]]
    jobs = [str(plain.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}).id) for request in requests]
    try:
        with in_thread(worker), never_missing(connection, lease_key(worker.name)):
            until(lambda: {status(queue, job) for job in jobs} <= {JobStatus.FINISHED, JobStatus.FAILED})
    finally:
        connection.hdel("rwkv-tts:voices", *voices)
    results = [fetch(queue, job).latest_result() for job in jobs]
    unknown = [result is not None and "unknown voice" in (result.exc_string or "") for result in results]
    assert unknown == [False] * (ROWS - 1) + [True]
