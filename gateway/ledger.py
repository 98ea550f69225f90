"""Gives every request an id, writes down what became of it, counts it, and makes its span where wanted."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.connection import ClientGoneError
from gateway.metrics import LEFT, Metrics
from gateway.trace import carried
from rwkv_tts.traceparent import ACCEPTED, TRACEPARENT, valid_traceparent
from rwkv_tts.tracing import open_spans

if TYPE_CHECKING:
    from rwkv_tts.spans import Spans

logger = logging.getLogger("gateway")

_SHOWN = 80
_FAULT = 500


class Entry:
    """One request.

    Args:
        method: Of HTTP, or how else it has come.
        address: What it asks for.

    Attributes:
        method: As given.
        path: As it is counted, so that there are few.
        outcome: What became of it: a status, or a word.
        first: After how many seconds the first bytes of the answer were there.
    """

    def __init__(self, method: str, address: str) -> None:
        self.id = str(uuid4())
        self.path, self.outcome = address, "unanswered"
        self.first: float | None = None
        self.began_ns = time.time_ns()
        self.method, self._address = method, address
        self._began = time.monotonic()
        self._bytes = 0

    def sent(self, count: int, since: float = 0.0) -> None:
        """So many bytes have gone, of an answer that could not begin before ``since``, monotonic seconds."""
        if self.first is None:
            self.first = time.monotonic() - max(self._began, since)
        self._bytes += count

    def log(self) -> None:
        """Write the line."""
        seconds = time.monotonic() - self._began
        told = (self.outcome, self._bytes, 1000 * (self.first or 0.0), 1000 * seconds)
        template = "%s %s %r %s, %d bytes, first after %.0f ms, all after %.0f ms"
        logger.info(template, self.id, self.method, self._address, *told)


class Ledger:
    """All requests.

    Args:
        metrics: Count them.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._spans = open_spans("rwkv-tts-gateway", metrics.count_spans, partial(logger.warning, "%s"))

    @contextmanager
    def entry(self, method: str, address: str, headers: Headers | None = None) -> Iterator[Entry]:
        """Enter a request, which is over with the block; its jobs belong to the trace that its headers name."""
        entry = Entry(method, address)
        parent = _parent(entry, headers)
        self._metrics.begin()
        try:
            if self._spans is None or (method == "GET" and parent is None):
                with carried(parent):
                    yield entry
            else:
                with _spanned(self._spans, entry, parent):
                    yield entry
        finally:
            entry.log()
            self._metrics.end(entry.path, entry.outcome, entry.first)

    def refused(self, method: str, address: str, status: int) -> Entry:
        """Enter a request that was refused at once."""
        with self.entry(method, address) as entry:
            entry.outcome = str(status)
        return entry

    def close(self) -> None:
        """Send the spans that wait, for a second at most."""
        if self._spans is not None:
            self._spans.close()


class Entered:
    """Stands around the whole application, and enters what is asked of it.

    Args:
        app: It.
        ledger: Of all requests; those that come within a WebSocket are entered there.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app, self._ledger = app, ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, partial(self._connect, scope, send))
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._ledger.entry(scope["method"], scope["path"], Headers(scope=scope)) as entry:
            try:
                await self._app(scope, receive, partial(_note, entry, send))
            except ClientGoneError:
                entry.outcome = LEFT
            except Exception:
                logger.exception("request %s", entry.id)
            finally:
                entry.path = _path(scope)

    async def _connect(self, scope: Scope, send: Send, message: Message) -> None:
        """Enter a connection that is refused."""
        if message["type"] == "websocket.http.response.start":
            entry = self._ledger.refused("WS", _path(scope), message["status"])
            MutableHeaders(scope=message)["x-request-id"] = entry.id
        await send(message)


async def _note(entry: Entry, send: Send, message: Message) -> None:
    """Hand a part of an answer on."""
    if message["type"] == "http.response.start":
        entry.outcome = str(message["status"])
        MutableHeaders(scope=message)["x-request-id"] = entry.id
    else:
        entry.sent(len(message.get("body", b"")))
    await send(message)


def _path(scope: Scope) -> str:
    """That of the route."""
    route = scope.get("route")
    return route.path if isinstance(route, Route | WebSocketRoute) else "other"


def _parent(entry: Entry, headers: Headers | None) -> str | None:
    """The trace that a request belongs to."""
    given = headers.getlist(TRACEPARENT) if headers else []
    found = valid_traceparent(",".join(given))
    if given and found is None:
        logger.info("%s traceparent: %r is ignored; %s", entry.id, ",".join(given)[:_SHOWN], ACCEPTED)
    return found


@contextmanager
def _spanned(spans: "Spans", entry: Entry, parent: str | None) -> Iterator[None]:
    """A span around a request, of which its jobs are parts."""
    span = spans.start(entry.method, parent, entry.began_ns, "SERVER", {"rwkv_tts.request_id": entry.id})
    try:
        with carried(spans.traceparent(span)):
            yield
    finally:
        span.update_name(f"{entry.method} {entry.path}")
        span.set_attributes({"http.request.method": entry.method, "http.route": entry.path})
        if entry.first is not None:
            span.set_attribute("rwkv_tts.first_seconds", entry.first)
        if entry.outcome.isdecimal():
            span.set_attribute("http.response.status_code", int(entry.outcome))
        if not entry.outcome.isdecimal() or int(entry.outcome) >= _FAULT:
            spans.fail(span, entry.outcome)
        span.end()
