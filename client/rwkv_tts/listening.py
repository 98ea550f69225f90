"""Hears a job's audio while it is made: the bytes of one file, piece by piece, in order."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError, TimeoutError
from rq.job import Job

from rwkv_tts.keys import chunks_key
from rwkv_tts.presence import Presence
from rwkv_tts.results import BLOCK_SECONDS, JobFailedError, ended, results_key
from rwkv_tts.schema import SynthesisResult

if TYPE_CHECKING:
    from redis.asyncio import Redis as AsyncRedis

_READ: dict[str, Any] = {"count": 100, "block": round(1000 * BLOCK_SECONDS)}

_AWAY_SECONDS, _AGAIN_SECONDS = 60.0, 0.2
"""For how long a listener waits for a Redis that is away, and how often it looks."""


class _Listener:
    """How far somebody has come who listens to a job."""

    def __init__(self, job: Job, presence: Presence) -> None:
        self._presence = presence
        self._job, self._chunks, self._results = job, chunks_key(job.id), results_key(job.id)
        self._last = b"0-0"
        self.result: SynthesisResult | None = None
        self.failure: JobFailedError | None = None

    @property
    def keys(self) -> dict[Any, Any]:
        """The streams to wait for, and from where: more audio, or the job's end, which may come without any."""
        return {self._chunks: self._last, self._results: b"0-0"}

    @property
    def rest(self) -> tuple[str, str]:
        """The chunks, and after which entry what is left of them begins."""
        return self._chunks, f"({self._last.decode()}"

    def audio(self, found: Any) -> list[bytes]:
        """The audio that was found."""
        return self.pieces(dict(found or ()).get(self._chunks.encode(), ()))

    def pieces(self, entries: Any) -> list[bytes]:
        """The audio of entries of the chunks."""
        if entries:
            self._last = entries[-1][0]
        return [fields[b"audio"] for _, fields in entries if b"audio" in fields]

    def over(self, found: Any) -> bool:
        """Whether the job has ended, which is asked where its results or nothing at all has come."""
        self._presence.keep()
        if not found or self._results.encode() in dict(found):
            try:
                outcome = ended(self._job)
                self.result = SynthesisResult.model_validate(outcome.return_value) if outcome else None
            except JobFailedError as error:
                self.failure = error
        return self.result is not None or self.failure is not None


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

    def _listen(self) -> Generator[bytes, None, None]:
        listener, connection = self._listener, self._job.connection
        found: Any = None
        while not self._ask(listener.over, found):
            found = self._ask(connection.xread, listener.keys, **_READ)
            if not found:
                self._idle()
            yield from listener.audio(found)
        yield from listener.pieces(self._ask(connection.xrange, *listener.rest))
        if listener.failure is not None:
            raise listener.failure

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
    ) -> None:
        super().__init__(job, presence)
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

    async def _listen(self) -> AsyncGenerator[bytes, None]:
        listener, found = self._listener, None
        while not await self._ask(self._in_thread, listener.over, found):
            found = await self._ask(self._connection.xread, listener.keys, **_READ)
            for piece in listener.audio(found):
                yield piece
        for piece in listener.pieces(await self._ask(self._connection.xrange, *listener.rest)):
            yield piece
        if listener.failure is not None:
            raise listener.failure

    async def _ask(self, read: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """What Redis answers, once it is there."""
        patience = _Patience()
        while True:
            try:
                return await read(*arguments, **options)
            except (ConnectionError, TimeoutError) as error:
                patience.bear(error)
            await asyncio.sleep(_AGAIN_SECONDS)
