"""Hears a job's audio while it is made: the bytes of one file, piece by piece, in order."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, TimeoutError
from rq.job import Job

from rwkv_tts.keys import chunks_key
from rwkv_tts.presence import Presence
from rwkv_tts.results import BLOCK_SECONDS, JobFailedError, ended, expired, forget, results_key
from rwkv_tts.schema import SynthesisResult

if TYPE_CHECKING:
    from redis.asyncio import Redis as AsyncRedis

_AT_ONCE = 8
"""Entries of one answer: whoever takes them slowly holds no more in memory, which is half a megabyte of PCM."""

_READ: dict[str, Any] = {"count": _AT_ONCE, "block": round(1000 * BLOCK_SECONDS)}

_AWAY_SECONDS, _AGAIN_SECONDS = 60.0, 0.2
"""For how long a listener waits for a Redis that is away, and how often it looks."""

_KEEP_SECONDS = 1.0
"""How often somebody who hears something all the time looks whether others still see it."""


class _Listener:
    """How far somebody has come who listens to a job."""

    def __init__(self, job: Job, presence: Presence) -> None:
        self._presence = presence
        self._job, self._chunks, self._results = job, chunks_key(job.id), results_key(job.id)
        self._last = b"0-0"
        self.result: SynthesisResult | None = None
        self.failure: JobFailedError | None = None
        self._entry: str | None = None
        self._complete = False
        self._keep_at = time.monotonic() + _KEEP_SECONDS

    @property
    def keys(self) -> dict[Any, Any]:
        """The streams to wait for, and from where: more audio, or the job's end, which may come without any."""
        return {self._chunks: self._last, self._results: b"0-0"}

    @property
    def rest(self) -> tuple[Any, ...]:
        """The next of the chunks, once no more of them are made: key, after which entry, to which, how many."""
        return self._chunks, f"({self._last.decode()}", "+", _AT_ONCE

    def audio(self, found: Any) -> list[bytes]:
        """The audio that was found."""
        return self.pieces(dict(found or ()).get(self._chunks.encode(), ()))

    def pieces(self, entries: Any) -> list[bytes]:
        """The audio of entries of the chunks."""
        if entries:
            self._last = entries[-1][0]
            self._complete = b"end" in entries[-1][1]
        return [fields[b"audio"] for _, fields in entries if b"audio" in fields]

    def may_be_over(self, found: Any) -> bool:
        """Whether the job may have ended: its results have come, or nothing at all."""
        return not found or self._results.encode() in dict(found)

    def due(self, found: Any) -> bool:
        """Whether ``over`` has something to do."""
        return self.may_be_over(found) or time.monotonic() >= self._keep_at

    def over(self, found: Any) -> bool:
        """Whether the job has ended, which is asked where it may have."""
        self._presence.keep()
        self._keep_at = time.monotonic() + _KEEP_SECONDS
        if self.may_be_over(found):
            self._ask_whether_it_has_ended()
        return self.result is not None or self.failure is not None

    def _ask_whether_it_has_ended(self) -> None:
        try:
            outcome = ended(self._job)
            if outcome is not None:
                self.result = SynthesisResult.model_validate(outcome.return_value)
                self._entry = str(outcome.id)
        except JobFailedError as error:
            self.failure = error

    def conclude(self) -> None:
        """Tell a listener who has heard all there is how it ended.

        Raises:
            JobFailedError: The job failed, or what was to be heard has expired meanwhile.
        """
        if self.failure is not None:
            raise self.failure
        if not self._complete and self.result is not None and self.result.seconds:
            raise expired(self._job)

    def forget(self) -> None:
        """Delete what is left of the job, if it has a result."""
        if self._entry is not None:
            forget(self._job, self._entry)


class _Patience:
    """Bears with a Redis that is away: a listener knows from where to go on."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _AWAY_SECONDS

    def bear(self, error: ConnectionError | TimeoutError) -> None:
        """Raise the error once it was borne for long enough."""
        if time.monotonic() > self._until:
            raise error


class _Stream:
    """What both streams have."""

    def __init__(self, job: Job, presence: Presence) -> None:
        self._listener = _Listener(job, presence)
        self.job_id = job.id

    @property
    def result(self) -> SynthesisResult | None:
        """What the worker says of the job; None before its end."""
        return self._listener.result

    @property
    def _runs(self) -> bool:
        """Whether the job has not ended, as far as this listener knows."""
        return self._listener.result is None and self._listener.failure is None


class SpeechStream(_Stream, Iterator[bytes]):
    """The audio of a job while it is made; each piece is bytes of one file.

    Closing it before its end cancels the job; use it as ``with client.stream(...) as speech``.

    Args:
        job: A job whose request has ``stream``.
        presence: Of the client.
        cancel: Cancels it.
        idle: Called when nothing has come for a while; what it raises ends the listening.

    Attributes:
        job_id: Its id.
    """

    def __init__(
        self, job: Job, presence: Presence, cancel: Callable[[str], object], idle: Callable[[], object]
    ) -> None:
        super().__init__(job, presence)
        self._job, self._cancel, self._idle = job, cancel, idle
        self._pieces = self._listen()

    def __iter__(self) -> "SpeechStream":
        return self

    def __next__(self) -> bytes:
        """The next bytes.

        Raises:
            JobFailedError: The job has failed, was stopped or cancelled.
        """
        return next(self._pieces)

    def __enter__(self) -> "SpeechStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; a job that has not ended is cancelled."""
        self._pieces.close()
        if self._runs:
            self._cancel(self.job_id)

    def forget(self) -> None:
        """Once all was heard: delete the job, its result and its audio, as ``TTSClient.result`` does."""
        self._listener.forget()

    def _listen(self) -> Generator[bytes, None, None]:
        listener, connection = self._listener, self._job.connection
        found: Any = None
        while not self._ask(listener.over, found):
            found = self._ask(connection.xread, listener.keys, **_READ)
            if not found:
                self._idle()
            yield from listener.audio(found)
        while pieces := listener.pieces(self._ask(connection.xrange, *listener.rest)):
            yield from pieces
        listener.conclude()

    def _ask(self, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What Redis answers, once it is there."""
        patience = _Patience()
        while True:
            try:
                return read(*arguments, **options)
            except (ConnectionError, TimeoutError) as error:
                patience.bear(error)
            self._idle()
            time.sleep(_AGAIN_SECONDS)


class AsyncSpeechStream(_Stream, AsyncIterator[bytes]):
    """As ``SpeechStream``, for asyncio; waits in Redis on a connection of the event loop.

    Args:
        job: A job whose request has ``stream``.
        presence: Of the client.
        connection: Redis, of the event loop.
        in_thread: Runs what takes a round trip in a thread.
        cancel: Cancels a job.
        is_fresh: Whether it was just queued, and need not be asked whether it has ended.

    Attributes:
        job_id: Its id.
    """

    def __init__(
        self,
        job: Job,
        presence: Presence,
        connection: "AsyncRedis",
        in_thread: Callable[..., Coroutine[Any, Any, Any]],
        cancel: Callable[[str], Coroutine[Any, Any, object]],
        *,
        is_fresh: bool = False,
    ) -> None:
        super().__init__(job, presence)
        self._is_fresh = is_fresh
        self._connection, self._in_thread, self._cancel = connection, in_thread, cancel
        self._pieces = self._listen()

    async def __anext__(self) -> bytes:
        """The next bytes; raises what ``SpeechStream`` raises."""
        return await anext(self._pieces)

    async def __aenter__(self) -> "AsyncSpeechStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening; a job that has not ended is cancelled."""
        await self._pieces.aclose()
        if self._runs:
            await self._cancel(self.job_id)

    async def forget(self) -> None:
        """As ``SpeechStream.forget``."""
        await self._in_thread(self._listener.forget)

    async def _listen(self) -> AsyncGenerator[bytes, None]:
        listener, found = self._listener, None
        asks = not self._is_fresh
        while not (asks and await self._ask(self._in_thread, listener.over, found)):
            found = await self._ask(self._connection.xread, listener.keys, **_READ)
            asks = listener.due(found)
            for piece in listener.audio(found):
                yield piece
        while pieces := listener.pieces(await self._ask(self._connection.xrange, *listener.rest)):
            for piece in pieces:
                yield piece
        listener.conclude()

    async def _ask(self, read: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """What Redis answers, once it is there."""
        patience = _Patience()
        while True:
            try:
                return await read(*arguments, **options)
            except (ConnectionError, TimeoutError) as error:
                patience.bear(error)
            await asyncio.sleep(_AGAIN_SECONDS)
