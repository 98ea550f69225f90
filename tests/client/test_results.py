"""Results that are fetched and not kept: nothing of them stays, and nobody's is lost."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError
from rq import Repeat
from rq.exceptions import NoSuchJobError
from rq.queue import Queue

from hands import Hand, MakeHand, enqueue
from rwkv_tts import AsyncTTSClient, JobFailedError, Speech, TTSClient
from rwkv_tts.keys import audio_key, tokens_key
from worker.broker.outcome import Fate, Outcome

AUDIO = b"a" * 100_000
RESULT = {
    "job_id": "job", "audio_key": "key", "format": "wav", "mode": "attributes", "sample_rate": 16000, "seconds": 1,
    "seed": 1, "finish_reason": "eos", "tokens": {"globals": 32, "semantic": 50}, "trace_sha256": "",
    "timings": dict.fromkeys(
        ("queued", "clone", "prefill", "decode", "vocode", "encode", "first_audio", "total"), 0.0
    ),
    "mean_batch": 1.0, "rtf": 0.25, "warnings": [], "metadata": {},
}  # fmt: skip
Fetch = Callable[..., Speech]


@pytest.fixture
def hand(make_hand: MakeHand) -> Hand:
    return make_hand(result_ttl=600)


@pytest.fixture
def client(redis_url: str, queue: Queue) -> TTSClient:
    return TTSClient(redis_url, queue.name)


@pytest.fixture(params=["threads", "asyncio"])
def fetch(request: pytest.FixtureRequest, redis_url: str, queue: Queue, client: TTSClient) -> Fetch:
    """``result`` of either client."""

    async def awaited(*arguments: Any, **options: Any) -> Speech:
        async with AsyncTTSClient(redis_url, queue.name) as other:
            return await other.result(*arguments, **options)

    return client.result if request.param == "threads" else lambda *a, **o: asyncio.run(awaited(*a, **o))


@pytest.fixture
def narrow(connection: Redis, redis_url: str, queue: Queue) -> Iterator[Callable[[str], TTSClient]]:
    """A client that may do everything but one command."""

    def make(denied: str) -> TTSClient:
        command = ("ACL", "SETUSER", "narrow", "reset", "on", ">narrow", "+@all", "~*", "&*", f"-{denied}")
        connection.execute_command(*command)  # type: ignore[no-untyped-call]
        return TTSClient(redis_url.replace("unix://", "unix://narrow:narrow@"), queue.name)

    yield make
    connection.acl_deluser("narrow")


def finish(hand: Hand, audio: bytes = AUDIO) -> None:
    """End the job that waits."""
    (claimed,) = hand.claim()
    stored = {audio_key(claimed.id): audio, tokens_key(claimed.id): b"{}"}
    assert hand.committer.commit([Outcome(claimed, Fate.FINISHED, dict(RESULT), stored)]) == [True]


def finished(hand: Hand, queue: Queue, **options: Any) -> str:
    job_id = enqueue(queue, **options)
    finish(hand)
    return job_id


def traces(connection: Redis, queue: Queue, job_id: str) -> list[bytes]:
    """Keys that name a job, and registries of the queue that list it."""
    keys = list(connection.scan_iter(f"*{job_id}*", count=10_000))
    listed = connection.zscore(f"rq:finished:{queue.name}", job_id)
    return [*keys, *([b"finished"] if listed is not None else [])]


def test_a_job_that_has_not_ended_in_time(fetch: Fetch, client: TTSClient) -> None:
    job_id = client.submit("Hello.")
    with pytest.raises(TimeoutError, match=rf"job {job_id} has not ended within 0\.1 s") as raised:
        fetch(job_id, timeout=0.1)
    assert raised.type is TimeoutError


def test_what_is_not_kept_leaves_nothing(connection: Redis, hand: Hand, queue: Queue, fetch: Fetch) -> None:
    job_id = finished(hand, queue)
    assert fetch(job_id, 5).audio == AUDIO
    assert len(traces(connection, queue, job_id)) == 5, "job, result, audio, tokens, and the entry in the list"
    assert fetch(job_id, timeout=5, keep=False).audio == AUDIO
    assert traces(connection, queue, job_id) == []
    with pytest.raises(NoSuchJobError):
        fetch(job_id, timeout=5)


def test_of_several_at_once_each_gets_it_or_is_told(
    connection: Redis, hand: Hand, queue: Queue, client: TTSClient
) -> None:
    def fetch(job_id: str) -> bytes | str:
        try:
            return client.result(job_id, timeout=30, keep=False).audio
        except (JobFailedError, NoSuchJobError) as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(12):
            job_id = enqueue(queue)
            early = [pool.submit(fetch, job_id) for _ in range(3)]
            finish(hand)
            got = [one.result() for one in [*early, *(pool.submit(fetch, job_id) for _ in range(3))]]
            assert AUDIO in got
            assert all("has expired" in str(one) or "No such job" in str(one) for one in got if one != AUDIO)
            assert traces(connection, queue, job_id) == []


@pytest.mark.parametrize("denied", ["get", "del", "eval"])
def test_what_could_not_be_fetched_or_dropped_is_still_there(
    hand: Hand, queue: Queue, client: TTSClient, narrow: Callable[[str], TTSClient], denied: str
) -> None:
    job_id = finished(hand, queue)
    with pytest.raises(Exception, match=r"(?i)permission|acl") as caught:
        narrow(denied).result(job_id, timeout=5, keep=False)
    assert denied == "del" or isinstance(caught.value, NoPermissionError)
    assert client.result(job_id, timeout=5, keep=False).audio == AUDIO


def test_a_full_redis_lets_go_of_what_was_fetched(
    connection: Redis, hand: Hand, queue: Queue, client: TTSClient
) -> None:
    job_id = finished(hand, queue)
    connection.config_set("maxmemory", 1)
    try:
        assert client.result(job_id, timeout=5, keep=False).audio == AUDIO
    finally:
        connection.config_set("maxmemory", 0)
    assert traces(connection, queue, job_id) == []


def test_a_job_that_repeats_goes_on(connection: Redis, hand: Hand, queue: Queue, client: TTSClient) -> None:
    job_id = finished(hand, queue, repeat=Repeat(times=1))
    assert client.result(job_id, timeout=5, keep=False).audio == AUDIO
    assert connection.exists(audio_key(job_id), tokens_key(job_id)) == 0
    finish(hand, b"again")
    assert client.result(job_id, timeout=5, keep=False).audio == b"again"
    assert traces(connection, queue, job_id) == []


def test_a_newer_result_is_not_dropped_with_the_one_that_was_fetched(
    hand: Hand, queue: Queue, client: TTSClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = finished(hand, queue, repeat=Repeat(times=1))
    dropping = client.connection.eval

    def late(*arguments: Any) -> Any:
        finish(hand, b"again")
        return dropping(*arguments)

    monkeypatch.setattr(client.connection, "eval", late)
    assert client.result(job_id, timeout=5, keep=False).audio == AUDIO
    monkeypatch.undo()
    assert client.result(job_id, timeout=5, keep=False).audio == b"again"
