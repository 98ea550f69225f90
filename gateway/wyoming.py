"""Wyoming, the protocol of Home Assistant: voices are described, and texts spoken, whole or while they come.

An event is a line of JSON, after which come as many bytes as it says. The library's own reader takes as many as a
peer says; ours does not. The protocol knows no keys: whoever reaches the port may speak.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Attribution, Describe, Info, TtsProgram, TtsVoice
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped

from gateway import __version__
from gateway.context import Context
from gateway.errors import ApiError, bad_request, told
from gateway.jobs import Jobs
from gateway.keys import Caller
from gateway.ledger import Entry
from gateway.metrics import LEFT, WYOMING
from gateway.orders import PCM_SAMPLE_RATE, parse_order
from gateway.utterance import GrowingText, Heard, Utterance
from gateway.voices import names
from rwkv_tts import SynthesisRequest
from rwkv_tts.schema import LANGUAGES

logger = logging.getLogger("gateway")

_LINE_BYTES, _DATA_BYTES = 64 << 10, 1 << 20
_MOST_WAITING = 16
_WIDTH = 2
_METHOD = "TCP"
_CALLER = Caller("wyoming")
_GONE = (ConnectionError, asyncio.IncompleteReadError)
_SOURCE = Attribution("RWKV", "https://github.com/BlinkDL/RWKV-LM")


def listen(uri: str) -> socket.socket:
    """A socket at an address, ``tcp://host:port``.

    Raises:
        ValueError: It is none, or cannot be had.
    """
    parts = urlsplit(uri)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "tcp" or not host or port is None:
        raise ValueError(f"wyoming: {uri[:80]!r}; accepted: tcp://HOST:PORT")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(f"wyoming: {uri}: {error.strerror}; accepted: an address that can be had") from None


@asynccontextmanager
async def served(listening: socket.socket | None, context: Context) -> AsyncIterator[None]:
    """Serve on a socket, where there is one; what is open at the end is closed."""
    if listening is None:
        yield
        return
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            if len(talks) <= context.settings.max_connections:
                await _Talk(context, reader, writer).hold()
        finally:
            talks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(talk, sock=listening, limit=_LINE_BYTES)
    logger.info("wyoming on %s", server.sockets[0].getsockname())
    try:
        yield
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


class _Talk:
    """One connection.

    Args:
        context: The gateway.
        reader, writer: Its ends.
    """

    def __init__(self, context: Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._context, self._reader, self._writer = context, reader, writer
        self._jobs = Jobs(context.client, context.pulse)
        self._growing: GrowingText | None = None
        self._waiting: asyncio.Queue[_Spoken] = asyncio.Queue()
        self._patience: asyncio.Timeout | None = None  # while the next event is waited for

    async def hold(self) -> None:
        """Take events and speak, until the connection ends or something is wrong; nothing of it runs on."""
        tasks = [asyncio.create_task(work) for work in (self._read(), self._speak_all())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (*_GONE, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - it is told, and the connection closed
            with suppress(ConnectionError):
                await self._fail(told(error))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        """Take events; what is wrong with one is entered as a request that was refused."""
        while (event := await self._next()) is not None:
            try:
                await self._take(event)
            except _GONE:
                raise
            except Exception as error:
                raise self._refused(error) from error

    async def _next(self) -> Event | None:
        try:
            async with asyncio.timeout_at(self._idle_at()) as self._patience:
                return await read_event(self._reader)
        except ApiError as error:
            raise self._refused(error) from None
        finally:
            self._patience = None

    def _refused(self, error: Exception) -> ApiError:
        failure = told(error)
        self._context.ledger.refused(_METHOD, WYOMING, failure.status)
        return failure

    async def _take(self, event: Event) -> None:
        """Do what an event asks for; unknown ones are none of ours."""
        if Describe.is_type(event.type):
            await self._write(await _info(self._context))
        elif Ping.is_type(event.type):
            await self._write(Pong(text=_text(event, "")))
        elif SynthesizeStart.is_type(event.type):
            self._growing = self._queue(event, streams=True)
        elif Synthesize.is_type(event.type) and self._growing is None:  # else a repetition, for older servers
            text = _text(event)
            whole = self._queue(event, streams=False)
            whole.add(text)
            whole.end()
        elif SynthesizeChunk.is_type(event.type) and self._growing is not None:
            self._growing.add(_text(event))
        elif SynthesizeStop.is_type(event.type) and self._growing is not None:
            self._growing.end()
            self._growing = None

    def _queue(self, event: Event, *, streams: bool) -> GrowingText:
        """A text that will be spoken."""
        if self._waiting.qsize() >= _MOST_WAITING:
            raise bad_request(f"{_MOST_WAITING} texts wait already, which is all that a connection may have")
        voice = event.data.get("voice") or {}
        wanted = _dict(voice)
        language = str(wanted.get("language"))[:2]
        body = {"input": "-", "response_format": "pcm", "voice": wanted.get("name")}
        body |= {"language": language} if language in LANGUAGES else {}
        text = GrowingText()
        self._waiting.put_nowait((parse_order(body, self._context.settings.aliases).request, text, streams))
        return text

    async def _speak_all(self) -> None:
        """Speak one text after another."""
        while True:
            request, text, streams = await self._waiting.get()
            with self._context.ledger.entry(_METHOD, WYOMING) as entry:
                try:
                    await self._speak(entry, request, text)
                except (*_GONE, asyncio.CancelledError):
                    entry.outcome = LEFT
                    raise
                except Exception as error:
                    failure = told(error)
                    entry.outcome = str(failure.status)
                    raise failure from error
            if streams:
                await self._write(SynthesizeStopped())

    async def _speak(self, entry: Entry, request: SynthesisRequest, text: GrowingText) -> None:
        with self._context.turns.of(_CALLER):
            async with asyncio.timeout(self._context.settings.request_timeout):
                await self._say(entry, request, text)
        entry.outcome = "200"

    async def _say(self, entry: Entry, request: SynthesisRequest, text: GrowingText) -> None:
        rate, written = PCM_SAMPLE_RATE, 0

        async def hear(heard: Heard) -> None:
            nonlocal written
            if isinstance(heard, bytes):
                entry.sent(len(heard), since=text.ready_at)
                at = round(1000 * written / (rate * _WIDTH))
                await self._write(AudioChunk(rate, _WIDTH, 1, heard, timestamp=at))
                written += len(heard)

        await self._write(AudioStart(rate, _WIDTH, 1, timestamp=0))
        await Utterance(self._jobs, request, hear).speak(text)
        await self._write(AudioStop())

    async def _fail(self, error: ApiError) -> None:
        """Say what is wrong; clients that do not know errors see the end of the connection."""
        logger.warning("wyoming: %s", error.message)
        await self._write(Error(error.message, error.code))
        self._writer.close()
        await self._writer.wait_closed()

    async def _write(self, event: Eventable) -> None:
        """Send an event; whoever is spoken to is not idle."""
        await async_write_event(event.event(), self._writer)
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._idle_at())

    def _idle_at(self) -> float:
        return asyncio.get_running_loop().time() + self._context.settings.idle_timeout


_Spoken = tuple[SynthesisRequest, GrowingText, bool]
"""How a text is to be spoken, the text, and whether it streams."""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None at the end.

    Raises:
        ApiError: It is none, or too long.
        asyncio.IncompleteReadError: The connection has broken off.
    """
    try:
        line = await reader.readline()
    except ValueError:
        raise bad_request(f"event: its line is too long; accepted: up to {_LINE_BYTES} bytes") from None
    if not line:
        return None
    head = _object(line)
    length, payload = (_length(head.get(name)) for name in ("data_length", "payload_length"))
    data = head.get("data") or {}
    if length:
        data = {**_dict(data), **_object(await reader.readexactly(length))}
    if payload:
        await reader.readexactly(payload)  # of no event that is for us
    return Event(str(head.get("type")), _dict(data))


def _object(text: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(text))
    except (ValueError, RecursionError):
        raise bad_request("event: accepted: a line with a JSON object") from None


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request("event: accepted: JSON objects")
    return value


def _length(value: Any) -> int:
    """How many bytes follow."""
    if value is None:
        return 0
    if not isinstance(value, int) or not 0 <= value <= _DATA_BYTES:
        raise bad_request(f"event: accepted: data and payload of up to {_DATA_BYTES} bytes")
    return value


def _text(event: Event, default: str | None = None) -> str:
    text = event.data.get("text", default)
    if not isinstance(text, str):
        raise bad_request("text: accepted: the text to speak", "text")
    return text


async def _info(context: Context) -> Info:
    """What can be had here."""
    about: dict[str, Any] = {"attribution": _SOURCE, "installed": True, "version": __version__}
    workers = (await context.pulse.busyness()).workers
    languages = sorted({language for worker in workers for language in worker.languages})
    voices = [TtsVoice(name=name, description=name, languages=languages, **about) for name in await names(context)]
    described = "RWKV text to speech"
    program = TtsProgram(
        name="rwkv-tts", description=described, voices=voices, supports_synthesize_streaming=True, **about
    )
    return Info(tts=[program])
