"""``POST /v1/audio/speech``: a job for every request, and its audio whole, or while it is made."""

import asyncio
import base64
import json
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.connection import read_json, while_connected
from gateway.context import Context, context_of
from gateway.errors import LATE, ApiError
from gateway.failures import failed
from gateway.jobs import Jobs
from gateway.orders import Order, parse_order
from rwkv_tts import AsyncSpeechStream, JobFailedError, SynthesisResult

logger = logging.getLogger("gateway")

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""So that no proxy on the way keeps what it should hand on."""


class Speech:
    """The endpoint."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak a text.

        Raises:
            ApiError: It is not spoken.
        """
        request = Request(scope, receive)
        context = context_of(request)
        caller = context.door.admit(request)
        order = parse_order(await read_json(request, context.settings), context.settings.aliases)
        answer = _Answer(context, order, send)
        with context.turns.of(caller):
            try:
                async with asyncio.timeout(context.settings.request_timeout):
                    await while_connected(receive, answer.give())
            except TimeoutError:
                await answer.fail(LATE)
            except ApiError as error:
                await answer.fail(error)


class _Answer:
    """The answer to one request.

    Args:
        context: The gateway.
        order: What is to be spoken.
        send: Takes it.
    """

    def __init__(self, context: Context, order: Order, send: Send) -> None:
        self._jobs = Jobs(context.client, context.pulse)
        self._order, self._send = order, send
        self._begun = False

    async def give(self) -> None:
        """Answer.

        Raises:
            ApiError: There is nothing to answer with, or no more.
        """
        if self._order.stream_format is None:
            await self._give_whole()
        else:
            await self._give_stream()

    async def fail(self, error: ApiError) -> None:
        """Say what is wrong, where it still can be said; audio that has begun is broken off.

        Raises:
            ApiError: It is said by whoever has called.
        """
        if not self._begun:
            raise error
        logger.warning("broken off: %s", error.message)
        if self._order.stream_format == "sse":
            await self._say(_event("error", **error.body()), more=False)

    async def _give_whole(self) -> None:
        speech = await self._jobs.whole(self._order.request)
        answer = Response(speech.audio, media_type=self._order.media_type)
        self._begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": answer.raw_headers})
        await self._say(speech.audio, more=False)

    async def _give_stream(self) -> None:
        async with self._jobs.stream(self._order.request) as stream:
            try:
                async for piece in stream:
                    await self._begin()
                    await self._say(piece if self._order.stream_format == "audio" else _delta(piece))
            except JobFailedError as error:
                raise failed(error) from None
        await self._begin()
        await self._end(stream)

    async def _begin(self) -> None:
        """Send the head, once there is audio: until then an answer can be an error."""
        if not self._begun:
            self._begun = True
            sse = self._order.stream_format == "sse"
            media_type = "text/event-stream" if sse else self._order.media_type
            head = Response(media_type=media_type, headers=_STREAM_HEADERS)
            headers = [(name, value) for name, value in head.raw_headers if name != b"content-length"]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _say(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _end(self, stream: AsyncSpeechStream) -> None:
        result = stream.result
        assert result is not None
        sse = self._order.stream_format == "sse"
        await self._say(_done(result, self._order.request.text) if sse else b"", more=False)


def _delta(piece: bytes) -> bytes:
    return _event("speech.audio.delta", audio=base64.b64encode(piece).decode())


def _done(result: SynthesisResult, text: str) -> bytes:
    """The last event: OpenAI's usage, of which the input is counted in characters, and what the worker says."""
    written = result.tokens.globals + result.tokens.semantic
    usage = {"input_tokens": len(text), "output_tokens": written, "total_tokens": len(text) + written}
    told = result.model_dump(mode="json", include={"seconds", "seed", "sample_rate", "finish_reason", "parts"})
    return _event("speech.audio.done", usage=usage, **told)


def _event(kind: str, **fields: Any) -> bytes:
    return f"data: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()
