"""Jobs of one request: nothing of them runs on, or stays, once nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from uuid import uuid4

from rq.exceptions import NoSuchJobError

from gateway.failures import failed
from gateway.pulse import Pulse
from gateway.trace import in_trace, metadata
from rwkv_tts import (
    AsyncSpeechStream,
    AsyncTTSClient,
    JobFailedError,
    QueueFullError,
    Speech,
    SynthesisRequest,
    Voice,
)

Value = TypeVar("Value")

_KEPT_SECONDS = 60
"""What a voice is made of, until it is kept."""


class Jobs:
    """Queues requests, and cancels those that nobody waits for any more.

    Args:
        client: Of the queue.
        pulse: How its workers do.
    """

    def __init__(self, client: AsyncTTSClient, pulse: Pulse) -> None:
        self._client, self._pulse = client, pulse

    async def whole(self, request: SynthesisRequest) -> Speech:
        """The speech of a request, when it is made.

        Raises:
            ApiError: There is none.
        """
        async with self._queued(self._client.enqueue, in_trace(request)) as job_id:
            return await self._ended(job_id, keep=False)

    async def voice(self, name: str, recording: bytes, transcript: str | None) -> Voice:
        """A voice, made from a recording and kept.

        Raises:
            ApiError: There is none.
            VoiceError: The name cannot be an id, or is taken.
            RequestError: Recording or transcript are not accepted.
        """
        arguments = name, recording, transcript
        options = {"result_ttl": _KEPT_SECONDS, "metadata": metadata()}
        async with self._queued(self._client.submit_voice, *arguments, **options) as job_id:
            await self._ended(job_id, keep=True)
            return await self._client.voices.keep(job_id, name)

    async def _ended(self, job_id: str, *, keep: bool) -> Speech:
        try:
            return await self._client.result(job_id, keep=keep)
        except JobFailedError as error:
            raise failed(error) from None

    @asynccontextmanager
    async def stream(self, request: SynthesisRequest) -> AsyncIterator[AsyncSpeechStream]:
        """The audio of a request while it is made.

        Raises:
            ApiError: It is not queued.
        """
        fields = in_trace(request).model_dump(exclude_unset=True, exclude={"text", "stream"})
        async with self._queued(self._client.stream, request.text, **fields) as stream:
            try:
                yield stream
            finally:
                await stream.forget()

    @asynccontextmanager
    async def _queued(
        self, queue: Callable[..., Coroutine[Any, Any, Value]], *arguments: Any, **options: Any
    ) -> AsyncIterator[Value]:
        """What comes of queueing a job, which is cancelled when this is left by an exception, or before."""
        await self._pulse.check_workers()
        job_id = str(uuid4())
        queueing = asyncio.ensure_future(queue(*arguments, job_options={"job_id": job_id}, **options))
        try:
            yield await asyncio.shield(queueing)
        except QueueFullError:
            raise await self._pulse.queue_full() from None
        except BaseException:
            await asyncio.wait([queueing])
            with suppress(NoSuchJobError):
                await self._client.cancel(job_id)
            raise
