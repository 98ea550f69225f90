"""What a connection is held to: bodies of some size, in some time, and no work for a client that is gone."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.types import Message, Receive

from gateway.errors import ApiError, bad_request
from gateway.settings import Settings

Value = TypeVar("Value")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        ApiError: It is too long, or does not come in time; the rest of it is not read.
        ClientGoneError: It broke off.
    """
    too_long = ApiError(413, f"body: too long; accepted: up to {limit} bytes", code="body_too_long")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_long
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limit:
                    raise too_long
    except TimeoutError:
        told, headers = f"body: it has not come within {seconds:g} s", {"connection": "close"}
        raise ApiError(408, told, code="timeout", headers=headers) from None
    return bytes(body)


async def read_form(request: Request, settings: Settings) -> FormData:
    """The form that a request brings, with one file at most.

    Raises:
        ApiError: It brings none, or too much, or not in time.
        ClientGoneError: It broke off.
    """
    body = await read_body(request, settings.max_body_bytes, settings.read_timeout)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return await Request(request.scope, receive).form(max_files=1, max_fields=8)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Value]) -> Value:
    """What comes of ``work``, which is cancelled when the client goes away; its body must have been read.

    Raises:
        ClientGoneError: It has gone.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_json(request: Request, settings: Settings) -> Any:
    """The JSON that a request brings.

    Raises:
        ApiError: It brings none, or too much, or not in time.
        ClientGoneError: It broke off.
    """
    body = await read_body(request, settings.max_body_bytes, settings.read_timeout)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("body: accepted: JSON", code="invalid_json") from None
