"""The client for asyncio: the same verbs, awaited.

What takes one or two round trips runs in a thread, with the code of ``TTSClient``. What waits for a job blocks in
Redis itself, on a connection of the event loop, and holds no thread.
"""

import asyncio
from typing import Any

from redis import asyncio as redis_asyncio
from rq.job import Job

from rwkv_tts.audio_store import REDIS
from rwkv_tts.client import TTSClient
from rwkv_tts.connection import connect_async
from rwkv_tts.listening import AsyncSpeechStream
from rwkv_tts.load import Busyness, QueueLoad
from rwkv_tts.progress import SpeechProgress
from rwkv_tts.results import BLOCK_SECONDS, Found, Speech, drop, fetch_job, fresh_job, look, results_key
from rwkv_tts.tuner import Tuned
from rwkv_tts.voices import Voice


class AsyncVoiceStore:
    """The voices kept in Redis, with the methods of ``VoiceStore``."""

    def __init__(self, client: TTSClient) -> None:
        self._voices = client.voices

    async def add(self, voice: str | Voice) -> Voice:
        """As ``VoiceStore.add``."""
        return await asyncio.to_thread(self._voices.add, voice)

    async def get(self, voice_id: str) -> Voice:
        """As ``VoiceStore.get``."""
        return await asyncio.to_thread(self._voices.get, voice_id)

    async def ids(self) -> "list[str]":
        """As ``VoiceStore.ids``."""
        return await asyncio.to_thread(self._voices.ids)

    async def list(self) -> "list[Voice]":
        """As ``VoiceStore.list``."""
        return await asyncio.to_thread(self._voices.list)

    async def rename(self, old: str, new: str) -> Voice:
        """As ``VoiceStore.rename``."""
        return await asyncio.to_thread(self._voices.rename, old, new)

    async def remove(self, voice_id: str) -> None:
        """As ``VoiceStore.remove``."""
        await asyncio.to_thread(self._voices.remove, voice_id)

    async def keep(self, job_id: str, name: str) -> Voice:
        """As ``VoiceStore.keep``."""
        return await asyncio.to_thread(self._voices.keep, job_id, name)


class AsyncTTSClient:
    """Talks to the workers of one queue; each method does what that of ``TTSClient`` does, and raises the same.

    Close it, or use it as ``async with AsyncTTSClient(url) as client``. Every job that is waited for holds one
    connection to Redis.

    Args:
        redis: A URL of Redis or of its Sentinels, as ``rwkv_tts.connection`` has it.
        queue: Queue name.
        max_queue: Jobs that may wait; the limit that the workers announce when None.
        commit_replicas: Replicas of Redis that must have a job before ``submit`` returns.
        results: Where the workers put audio, as for ``TTSClient``.

    Attributes:
        voices: The voices kept in this Redis.
    """

    def __init__(
        self,
        redis: str,
        queue: str = "tts",
        max_queue: int | None = None,
        *,
        commit_replicas: int = 0,
        results: str = REDIS,
    ) -> None:
        self._client = TTSClient(redis, queue, max_queue, commit_replicas=commit_replicas, results=results)
        self._waiting: redis_asyncio.Redis = connect_async(redis)
        self.queue = queue
        self.voices = AsyncVoiceStore(self._client)

    async def __aenter__(self) -> "AsyncTTSClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; jobs go on."""
        await self._waiting.aclose()
        await asyncio.to_thread(self._client.connection.close)

    async def submit(self, text: str, **options: Any) -> str:
        """Queue a request and return its job id; takes what ``TTSClient.submit`` takes."""
        return await asyncio.to_thread(self._client.submit, text, **options)

    async def enqueue(self, request: Any, **options: Any) -> str:
        """Queue a request for the worker to judge; takes what ``TTSClient.enqueue`` takes."""
        return await asyncio.to_thread(self._client.enqueue, request, **options)

    async def stream(self, text: str, **options: Any) -> AsyncSpeechStream:
        """Queue a request and hear it while it is made; takes what ``TTSClient.stream`` takes."""
        bind = self._client.presence.bind
        options["job_options"] = await asyncio.to_thread(bind, options.get("job_options"))
        job_id = await self.submit(text, stream=True, **options)
        return self._listen(fresh_job(self._client.connection, job_id, self.queue), is_fresh=True)

    async def listen(self, job_id: str) -> AsyncSpeechStream:
        """Hear a job whose request has ``stream``, from its beginning."""
        return self._listen(await asyncio.to_thread(fetch_job, self._client.connection, job_id), is_fresh=False)

    def _listen(self, job: Job, *, is_fresh: bool) -> AsyncSpeechStream:
        presence, in_thread = self._client.presence, asyncio.to_thread
        return AsyncSpeechStream(job, presence, self._waiting, in_thread, self.cancel, is_fresh=is_fresh)

    async def submit_voice(
        self, name: str, recording: bytes, transcript: str | None = None, **options: Any
    ) -> str:
        """Queue a short text in a recording's voice; takes what ``TTSClient.submit_voice`` takes."""
        return await asyncio.to_thread(self._client.submit_voice, name, recording, transcript, **options)

    async def add_voice(
        self, name: str, recording: bytes, transcript: str | None = None, *, timeout: float | None = None
    ) -> Voice:
        """Have a worker make a voice from a recording, and keep it, as ``TTSClient.add_voice``."""
        job_id = await self.submit_voice(name, recording, transcript)
        await self.result(job_id, timeout)
        return await self.voices.keep(job_id, name)

    async def load(self) -> QueueLoad:
        """How busy the queue is."""
        return await asyncio.to_thread(self._client.load)

    async def busyness(self) -> Busyness:
        """How busy the queue and each of its live workers are."""
        return await asyncio.to_thread(self._client.busyness)

    async def tune(self, worker: str | None = None, **options: Any) -> list[Tuned]:
        """Change values of running workers; takes what ``TTSClient.tune`` takes."""
        return await asyncio.to_thread(self._client.tune, worker, **options)

    async def result(self, job_id: str, timeout: float | None = None, *, keep: bool = True) -> Speech:
        """Wait for a job to end, as ``TTSClient.result``; when the waiting is cancelled, the job goes on."""
        job = await asyncio.to_thread(fetch_job, self._client.connection, job_id)
        try:
            found = await asyncio.wait_for(self._found(job), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"job {job_id} has not ended within {timeout} s") from None
        if not keep:
            await asyncio.to_thread(drop, job, found, self._client.store)
        return found.speech

    async def audio_url(self, job_id: str, expires: float = 3600.0) -> str:
        """A URL of a finished job's audio, as ``TTSClient.audio_url``."""
        return await asyncio.to_thread(self._client.audio_url, job_id, expires)

    async def progress(self, job_id: str) -> SpeechProgress | None:
        """How far a stream or a long text has come, as of a second ago; None before, and of all other jobs."""
        return await asyncio.to_thread(self._client.progress, job_id)

    async def cancel(self, job_id: str) -> bool:
        """Take a queued job off its queue, or have it stopped where it runs; False when it had ended."""
        return await asyncio.to_thread(self._client.cancel, job_id)

    async def _found(self, job: Job) -> Found:
        block = round(1000 * BLOCK_SECONDS)
        while (found := await asyncio.to_thread(look, job, self._client.store)) is None:
            await self._waiting.xread({results_key(job.id): "0-0"}, count=1, block=block)
        return found
