"""What the sweep removes from a store of results, and what it must never remove."""

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result

from rwkv_tts.audio_store import AudioStore, new_name
from rwkv_tts.keys import SWEEP_KEY
from rwkv_tts.results import results_key
from worker.delivery.sweep import Sweeper

TTL = 3600


@pytest.fixture
def store(tmp_path: Path, connection: Redis) -> AudioStore:
    connection.delete(SWEEP_KEY)
    return AudioStore(f"file://{tmp_path}")


def sweep(store: AudioStore, connection: Redis, ttl: int = TTL) -> int:
    """A whole round."""
    sweeper = Sweeper(store, connection, ttl)
    removed = sweeper.run() + sweeper.run()
    connection.delete(SWEEP_KEY)
    return removed


def stored(store: AudioStore, job_id: str, age: float) -> str:
    """The address of audio that was written so many seconds ago."""
    name = new_name(job_id, "wav")
    store.put(name, b"audio")
    path, moment = Path(store.url.removeprefix("file://")) / name, time.time() - age
    os.utime(path, (moment, moment))
    return store.address(name)


def job_with(queue: Queue, status: JobStatus, address: str | None = None) -> Job:
    job: Job = queue.create_job("nothing")
    job.save()
    job.set_status(status)
    if address is not None:
        finish(job, address)
    return job


def finish(job: Job, address: str) -> None:
    Result.create(job, Result.Type.SUCCESSFUL, 600, return_value={"address": address})


def left(store: AudioStore) -> set[str]:
    return {store.address(one.name) for page in store.pages() for one in page}


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_what_a_result_names_stays_and_what_none_names_goes(
    store: AudioStore, connection: Redis, serializer: str
) -> None:
    """Whichever of RQ's serializers its producer has."""
    queue = Queue(f"q-{uuid4().hex}", connection=connection, serializer=serializer)
    finished = job_with(queue, JobStatus.FINISHED)
    named, lost = stored(store, finished.id, 10 * TTL), stored(store, finished.id, 10 * TTL)
    finish(finished, named)
    failed = stored(store, job_with(queue, JobStatus.FAILED).id, 400)
    waits = stored(store, job_with(queue, JobStatus.QUEUED).id, 400)

    assert left(store) == {named, lost, failed, waits}
    assert sweep(store, connection) == 3
    assert left(store) == {named}


def test_what_may_still_be_committed_stays(store: AudioStore, connection: Redis, queue: Queue) -> None:
    running = stored(store, job_with(queue, JobStatus.STARTED).id, 10 * TTL)
    young = stored(store, job_with(queue, JobStatus.FAILED).id, 200)
    assert sweep(store, connection) == 0
    assert left(store) == {running, young}


def test_only_the_last_run_of_a_repeated_job_keeps_its_audio(
    store: AudioStore, connection: Redis, queue: Queue
) -> None:
    job = job_with(queue, JobStatus.SCHEDULED)
    first, second = stored(store, job.id, 900), stored(store, job.id, 400)
    finish(job, first)
    finish(job, second)
    sweep(store, connection)
    assert left(store) == {second}


def test_audio_of_a_job_that_is_gone_lives_as_long_as_results_do(store: AudioStore, connection: Redis) -> None:
    older, younger = stored(store, "gone", TTL + 60), stored(store, "gone", TTL - 60)
    assert sweep(store, connection, ttl=-1) == 0
    assert sweep(store, connection) == 1
    assert left(store) == {younger}
    assert older != younger


def test_a_job_that_cannot_be_read_keeps_its_audio(store: AudioStore, connection: Redis, queue: Queue) -> None:
    odd = job_with(queue, JobStatus.FINISHED)
    connection.set(results_key(odd.id), "no stream")
    unreadable = job_with(queue, JobStatus.FINISHED)
    connection.xadd(results_key(unreadable.id), {"type": "9", "return_value": "no base64"})
    kept = {stored(store, job.id, 400) for job in (odd, unreadable)}
    assert sweep(store, connection) == 0
    assert left(store) == kept


def test_files_of_others_are_left_alone(store: AudioStore, connection: Redis, tmp_path: Path) -> None:
    for name in ("notes.txt", "holiday.wav", "a-0123.wav"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    assert sweep(store, connection) == 0
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_dead_writer_has_left_of_a_file_goes(store: AudioStore, connection: Redis, tmp_path: Path) -> None:
    """No listing has it: obstore renames a file when it is whole."""
    old, young = (tmp_path / f"{new_name('a-job', 'wav')}#{i}" for i in (1, 2))
    for path in (old, young, tmp_path / "notes#1"):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(tmp_path / "notes#1", (0, 0))
    assert sweep(store, connection) == 1
    assert sorted(tmp_path.iterdir()) == [young, tmp_path / "notes#1"]


def test_one_worker_sweeps_for_all(store: AudioStore, connection: Redis, queue: Queue) -> None:
    first, second = Sweeper(store, connection, TTL), Sweeper(store, connection, TTL)
    first.run()
    orphan = stored(store, job_with(queue, JobStatus.FAILED).id, 400)
    assert (second.run(), second.run()) == (0, 0)
    assert left(store) == {orphan}
    first.run()
    assert first.run() + first.removed > 0
    assert left(store) == set()
