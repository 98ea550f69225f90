"""Jobs of one request: nothing of them runs on, or stays, once nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from rq.exceptions import NoSuchJobError

from gateway.failures import failed
from gateway.pulse import Pulse
from rwkv_tts import AsyncSpeechStream, AsyncTTSClient, JobFailedError, QueueFullError, Speech, SynthesisRequest


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
        async with self._queued(request) as job_id:
            try:
                return await self._client.result(job_id, keep=False)
            except JobFailedError as error:
                raise failed(error) from None

    @asynccontextmanager
    async def stream(self, request: SynthesisRequest) -> AsyncIterator[AsyncSpeechStream]:
        """The audio of a request while it is made.

        Raises:
            ApiError: It is not queued.
        """
        async with self._queued(request) as job_id:
            stream = await self._client.listen(job_id)
            yield stream
            await stream.forget()

    @asynccontextmanager
    async def _queued(self, request: SynthesisRequest) -> AsyncIterator[str]:
        """A job, which is cancelled when it is left by an exception, also while it is being queued."""
        await self._pulse.check_workers()
        job_id = str(uuid4())
        queueing = asyncio.ensure_future(self._client.enqueue(request, job_options={"job_id": job_id}))
        try:
            await asyncio.shield(queueing)
            yield job_id
        except QueueFullError:
            raise await self._pulse.queue_full() from None
        except BaseException:
            await asyncio.wait([queueing])
            with suppress(NoSuchJobError):
                await self._client.cancel(job_id)
            raise
