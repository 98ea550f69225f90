"""``/v1/audio/speech/stream``: a WebSocket that takes texts in pieces and speaks while they come, for agents.

Messages are JSON objects with a ``type``. A client sends ``start``, ``text``, ``end`` and ``cancel`` and is told
``started``, ``sentence``, ``spoken``, ``done`` and ``error``. Audio comes as binary messages, which belong to the
sentence that was named last: utterances are spoken one after another.
"""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.context import Context, context_of
from gateway.errors import ApiError, bad_request, told
from gateway.jobs import Jobs
from gateway.keys import Caller
from gateway.ledger import Entry
from gateway.metrics import CANCELLED, LEFT, STREAM
from gateway.orders import Order, parse_order
from gateway.utterance import Begun, GrowingText, Heard, Utterance

PROTOCOL = "rwkv-tts"
"""Chosen where a client offers it, as browsers must that send a key."""

MOST_WAITING = 16
"""Utterances of a connection that have not been spoken."""

_LONGEST_ID = 64
_DEFAULTS = {"response_format": "pcm"}
_IDLE = 1001
_METHOD = "WS"


async def speech_stream(websocket: WebSocket) -> None:
    """Speak what a connection asks for, until it is closed."""
    context = context_of(websocket)
    try:
        caller = context.door.admit(websocket)
    except ApiError as error:
        await websocket.send_denial_response(error.response())
        return
    offered = websocket.scope.get("subprotocols", ())
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    with suppress(WebSocketDisconnect):
        await _Session(context, caller, websocket).run()


@dataclass(eq=False)
class _Line:
    """An utterance of a connection.

    Attributes:
        id: The client's name for it.
        order: How it is spoken.
        text: What is to be spoken.
        speaking: While it is.
    """

    id: str
    order: Order
    text: GrowingText = field(default_factory=GrowingText)
    speaking: "asyncio.Task[None] | None" = None


class _Session:
    """One connection.

    Args:
        context: The gateway.
        caller: Who has it.
        websocket: It.
    """

    def __init__(self, context: Context, caller: Caller, websocket: WebSocket) -> None:
        self._context, self._caller, self._websocket = context, caller, websocket
        self._jobs = Jobs(context.client, context.pulse)
        self._lines: dict[str, _Line] = {}
        self._waiting: asyncio.Queue[_Line] = asyncio.Queue()
        self._stirred = time.monotonic()
        self._takes = {"start": self._start, "text": self._text, "end": self._end, "cancel": self._cancel}

    async def run(self) -> None:
        """Take messages and speak, until the connection ends; nothing of it runs on."""
        tasks = [asyncio.create_task(work) for work in (self._read(), self._speak_all(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Close the connection when nothing has come and nothing has gone for long."""
        while (idle := time.monotonic() - self._stirred) < self._context.settings.idle_timeout:
            await asyncio.sleep(self._context.settings.idle_timeout - idle)
        await self._websocket.close(_IDLE, "idle")

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._stirred = time.monotonic()
            try:
                await self._take(_parsed(message.get("text")))
            except ApiError as error:
                self._context.ledger.refused(_METHOD, STREAM, error.status)
                await self._say("error", **error.body())

    async def _take(self, message: dict[str, Any]) -> None:
        take = self._takes.get(str(message.get("type")))
        if take is None:
            raise bad_request(f"type: accepted: one of {', '.join(self._takes)}", "type")
        line_id = message.get("id")
        if not isinstance(line_id, str) or not 1 <= len(line_id) <= _LONGEST_ID:
            raise bad_request(f"id: accepted: a text of 1 to {_LONGEST_ID} characters", "id")
        await take(line_id, message)

    async def _start(self, line_id: str, message: dict[str, Any]) -> None:
        if line_id in self._lines:
            raise bad_request(f"id: there is an utterance {line_id!r} already", "id", "id_taken")
        if len(self._lines) >= MOST_WAITING:
            told = f"id: {MOST_WAITING} utterances are not spoken yet, which is all that a connection may have"
            raise bad_request(told, "id", "too_many_utterances")
        order = _parse_start(message, self._context.settings.aliases)
        self._lines[line_id] = line = _Line(line_id, order)
        self._waiting.put_nowait(line)

    async def _text(self, line_id: str, message: dict[str, Any]) -> None:
        line, text, flush = self._growing(line_id), message.get("text"), message.get("flush", False)
        if not isinstance(text, str):
            raise bad_request("text: accepted: the next piece of the text", "text")
        if not isinstance(flush, bool):
            raise bad_request("flush: accepted: true or false", "flush")
        line.text.add(text, flush=flush)

    async def _end(self, line_id: str, _: dict[str, Any]) -> None:
        self._growing(line_id).text.end()

    def _growing(self, line_id: str) -> _Line:
        line = self._find(line_id)
        if line.text.ended:
            raise bad_request(f"id: utterance {line_id!r} has been ended", "id", "ended")
        return line

    def _find(self, line_id: str) -> _Line:
        if line_id not in self._lines:
            raise bad_request(f"id: no utterance {line_id!r}, or it is over", "id", "unknown_id")
        return self._lines[line_id]

    async def _cancel(self, line_id: str, _: dict[str, Any]) -> None:
        line = self._find(line_id)
        self._over(line)
        if line.speaking is not None:
            line.speaking.cancel()
            await asyncio.wait([line.speaking])
        await self._say("done", id=line_id, cancelled=True)

    async def _speak_all(self) -> None:
        """Speak one utterance after another."""
        while True:
            line = await self._waiting.get()
            if self._lines.get(line.id) is not line:
                continue
            line.speaking = asyncio.create_task(self._speak(line))
            try:
                await asyncio.wait([line.speaking])
            finally:
                line.speaking.cancel()
                await asyncio.gather(line.speaking, return_exceptions=True)

    async def _speak(self, line: _Line) -> None:
        """Speak an utterance, and say how it has ended."""
        with self._context.ledger.entry(_METHOD, STREAM, self._websocket.headers) as entry:
            try:
                await self._say_all(line, entry)
            except (WebSocketDisconnect, asyncio.CancelledError):
                entry.outcome = LEFT if line.id in self._lines else CANCELLED
                raise

    async def _say_all(self, line: _Line, entry: Entry) -> None:
        utterance = Utterance(self._jobs, line.order.request, partial(self._hear, line, entry))
        try:
            with self._context.turns.of(self._caller):
                async with asyncio.timeout(self._context.settings.request_timeout):
                    await self._say("started", id=line.id, **_audio(line.order), seed=utterance.seed)
                    await utterance.speak(line.text)
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the utterance has ended
            failure = told(error)
            entry.outcome = str(failure.status)
            self._over(line)
            await self._say("error", id=line.id, **failure.body())
        else:
            entry.outcome = "200"
            self._over(line)
            await self._say("done", id=line.id, cancelled=False, **_account(utterance, len(line.text)))

    def _over(self, line: _Line) -> None:
        """Forget an utterance, whose id is free again."""
        if self._lines.get(line.id) is line:
            del self._lines[line.id]

    async def _hear(self, line: _Line, entry: Entry, heard: Heard) -> None:
        if isinstance(heard, bytes):
            self._stirred = time.monotonic()
            entry.sent(len(heard), since=line.text.ready_at)
            await self._websocket.send_bytes(heard)
            return
        span = {"id": line.id, "text": [heard.sentence.start, heard.sentence.end], "begin": round(heard.begin, 3)}
        if isinstance(heard, Begun):
            await self._say("sentence", **span)
        else:
            await self._say("spoken", **span, end=round(heard.end, 3))

    async def _say(self, kind: str, **fields: Any) -> None:
        self._stirred = time.monotonic()
        await self._websocket.send_text(json.dumps({"type": kind, **fields}, ensure_ascii=False))


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        message = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise bad_request("message: accepted: a text with a JSON object", code="invalid_json")
    return message


def _parse_start(message: dict[str, Any], aliases: Any) -> Order:
    """How an utterance is spoken: the fields of a request for speech, but its text."""
    for name in ("input", "stream", "stream_format"):
        if name in message:
            raise bad_request(f"{name}: not here; the text comes with messages of type text", name)
    fields = {name: value for name, value in message.items() if name not in ("type", "id")}
    return parse_order({**_DEFAULTS, **fields, "input": "-", "stream": True}, aliases)


def _audio(order: Order) -> dict[str, Any]:
    """What the audio of an utterance is."""
    request = order.request
    return {"format": request.format, "media_type": order.media_type, "sample_rate": request.sample_rate}


def _account(utterance: Utterance, characters: int) -> dict[str, Any]:
    """What an utterance has come to."""
    said = utterance.tokens
    usage = {"input_tokens": characters, "output_tokens": said, "total_tokens": characters + said}
    return {"seconds": round(utterance.seconds, 3), "seed": utterance.seed, "usage": usage}
