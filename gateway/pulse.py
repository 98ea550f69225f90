"""Knows how the workers of the queue do, as of a moment ago."""

import asyncio
import time

from gateway.errors import ApiError, unavailable
from rwkv_tts import AsyncTTSClient, Busyness

_FRESH_SECONDS = 1.0
_LONGEST_SECONDS = 60.0
"""To tell a client to wait: OpenAI's do not wait longer, but try again at once."""

_UNKNOWN_SECONDS = 5.0


class Pulse:
    """Asks Redis once a second at most, for however many requests.

    Args:
        client: Of the queue.
    """

    def __init__(self, client: AsyncTTSClient) -> None:
        self._client = client
        self._asking = asyncio.Lock()
        self._found: Busyness | None = None
        self._until = 0.0

    async def busyness(self) -> Busyness:
        """How busy the queue and its workers were, a second ago at most.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        async with self._asking:
            if self._found is None or time.monotonic() >= self._until:
                self._found = await self._client.busyness()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._found

    async def check_workers(self) -> None:
        """Refuse work that nobody would do.

        Raises:
            ApiError: No worker listens.
        """
        if not (await self.busyness()).workers:
            raise unavailable("no worker listens; try again", "no_worker")

    async def queue_full(self) -> ApiError:
        """The error for a queue that takes no more, with when to try again."""
        wait = (await self.busyness()).queue.estimated_wait
        seconds = min(_UNKNOWN_SECONDS if wait is None else wait, _LONGEST_SECONDS)
        told = "too many requests wait already; try again later"
        return ApiError(429, told, "requests", code="rate_limit_exceeded", retry_after=seconds)
