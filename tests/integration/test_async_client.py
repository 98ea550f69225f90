"""The asyncio client against a real server and a real worker: the same verbs, and no loop that is kept waiting."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from recordings import recording
from rwkv_tts import (
    AsyncTTSClient,
    Cause,
    JobFailedError,
    QueueFullError,
    RequestError,
    TTSClient,
    VoiceError,
)
from rwkv_tts.keys import chunks_key
from rwkv_tts.results import results_key

QUEUE = "shared"
SHORT: dict[str, Any] = {"max_seconds": 0.3, "seed": 5}
Value = TypeVar("Value")

pytestmark = pytest.mark.usefixtures("served")


def run(coroutine: Coroutine[Any, Any, Value]) -> Value:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_speech_is_that_of_the_other_client(client: TTSClient, redis_url: str) -> None:
    async def speak() -> Any:
        async with AsyncTTSClient(redis_url, QUEUE) as awaited:
            return await awaited.result(await awaited.submit("Hello.", **SHORT))

    speech, other = run(speak()), client.result(client.submit("Hello.", **SHORT), timeout=60)
    assert speech.audio == other.audio
    assert speech.result.trace_sha256 == other.result.trace_sha256


def test_many_wait_at_once_and_the_loop_goes_on(redis_url: str) -> None:
    """Blocked waits hold no thread: more of them than the pool has threads, beside a loop that keeps its pace."""

    async def speak() -> tuple[list[Any], float]:
        async with AsyncTTSClient(redis_url, QUEUE) as client:
            jobs = [await client.submit("Hello.", max_seconds=0.2, seed=number) for number in range(48)]
            waits = asyncio.gather(*(client.result(job) for job in jobs))
            longest = 0.0
            while not waits.done():
                before = time.perf_counter()
                await asyncio.sleep(0.01)
                longest = max(longest, time.perf_counter() - before)
            return await waits, longest

    done, longest = run(speak())
    assert len({speech.result.job_id for speech in done}) == 48
    assert longest < 2, "Redis was waited for inside the loop"


def test_what_fails_says_why(redis_url: str) -> None:
    async def fail() -> None:
        async with AsyncTTSClient(redis_url, QUEUE) as client:
            with pytest.raises(RequestError, match=r"^seed: .*accepted"):
                await client.submit("Hello.", seed=-1)
            with pytest.raises(JobFailedError, match=r"^voice: unknown voice 'nobody'") as failed:
                await client.result(await client.submit("Hello.", voice="nobody"))
            assert failed.value.refusal is not None
            assert str(failed.value.refusal) == str(failed.value)
            assert (failed.value.refusal.field, failed.value.refusal.cause) == ("voice", Cause.INVALID)
            with pytest.raises(NoSuchJobError):
                await client.result("no-such-job")

    run(fail())


def test_what_was_heard_can_be_forgotten(client: TTSClient, redis_url: str) -> None:
    async def hear() -> str:
        async with AsyncTTSClient(redis_url, QUEUE) as awaited:
            stream = await awaited.stream("Hello.", **SHORT)
            assert [piece async for piece in stream]
            await stream.forget()
            return stream.job_id

    job_id = run(hear())
    with client.stream("Hello.", **SHORT) as stream:
        assert list(stream)
        stream.forget()
    for one in (job_id, stream.job_id):
        assert not client.connection.exists(Job.key_for(one), chunks_key(one), results_key(one))


def test_a_stream_that_expires_before_it_is_heard_says_so(client: TTSClient, redis_url: str) -> None:
    job_id = client.submit("Hello.", stream=True, **SHORT)
    client.result(job_id, timeout=60)
    client.connection.delete(chunks_key(job_id))

    async def hear() -> None:
        async with AsyncTTSClient(redis_url, QUEUE) as awaited:
            assert [piece async for piece in await awaited.listen(job_id)]

    with pytest.raises(JobFailedError, match="expired"):
        run(hear())
    with pytest.raises(JobFailedError, match="expired"):
        list(client.listen(job_id))


def test_waiting_ends_in_time_and_cancelling_it_leaves_the_job(redis_url: str) -> None:
    async def wait() -> JobStatus:
        async with AsyncTTSClient(redis_url, f"nobody-{uuid4().hex}") as client:
            job_id = await client.submit("Hello.")
            with pytest.raises(TimeoutError, match=job_id):
                await client.result(job_id, timeout=0.2)
            waiting = asyncio.create_task(client.result(job_id))
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            status = Job.fetch(job_id, Redis.from_url(redis_url), serializer=JSONSerializer).get_status()
            await client.cancel(job_id)
            with pytest.raises(JobFailedError, match="cancelled"):
                await client.result(job_id)
            return status

    assert run(wait()) is JobStatus.QUEUED


def test_back_pressure_and_load(redis_url: str) -> None:
    async def fill() -> Any:
        async with AsyncTTSClient(redis_url, f"full-{uuid4().hex}", max_queue=2) as client:
            for _ in range(2):
                await client.submit("Hello.")
            with pytest.raises(QueueFullError, match="2 jobs wait, 2 may"):
                await client.submit("Hello.")
            return await client.load(), await client.busyness()

    load, busyness = run(fill())
    assert (load.depth, load.workers, busyness.workers) == (2, 0, [])


def test_voices_and_values(redis_url: str) -> None:
    async def keep() -> None:
        name = f"anna-{uuid4().hex}"
        async with AsyncTTSClient(redis_url, QUEUE) as client:
            voice = await client.add_voice(name, recording(1), timeout=60)
            assert await client.voices.get(name) == voice
            assert voice in await client.voices.list()
            await client.voices.rename(name, f"{name}-2")
            await client.voices.remove(f"{name}-2")
            with pytest.raises(VoiceError, match="unknown voice"):
                await client.voices.get(name)
            (tuned,) = await client.tune(token_chunk_size=77)
            assert (tuned.error, tuned.after.token_chunk_size) == (None, 77)

    run(keep())


def test_a_job_that_failed_without_an_entry_is_not_waited_for(redis_url: str) -> None:
    """As when a worker could store no more than the reason."""
    client = TTSClient(redis_url, f"nobody-{uuid4().hex}")
    job_id = client.submit("Hello.")
    client.connection.hset(Job.key_for(job_id), mapping={"status": "failed", "exc_info": "storage: full"})
    with pytest.raises(JobFailedError, match=r"^storage: full$"):
        client.result(job_id, timeout=30)
