"""Gives every request an id, and writes a line of what became of it."""

import logging
import time
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.connection import ClientGoneError
from gateway.metrics import LEFT, Metrics

logger = logging.getLogger("gateway")


class Ledger:
    """Stands around the whole application.

    Args:
        app: It.
        metrics: Count the requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = _Entry(scope, send)
        self._metrics.begin()
        try:
            await self._app(scope, receive, entry.send)
        except ClientGoneError:
            entry.outcome = LEFT
        except Exception:
            logger.exception("request %s", entry.id)
        finally:
            entry.log()
            self._metrics.end(entry.path, entry.outcome, entry.first)


class _Entry:
    """One request.

    Args:
        scope: Of ASGI.
        send: Takes the answer.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = str(uuid4())
        self.outcome = "unanswered"
        self._scope, self._send = scope, send
        self._began = time.monotonic()
        self._bytes = 0
        self.first: float | None = None

    async def send(self, message: Message) -> None:
        """Hand a part of the answer on."""
        if message["type"] == "http.response.start":
            self.outcome = str(message["status"])
            MutableHeaders(scope=message)["x-request-id"] = self.id
        elif self.first is None:
            self.first = time.monotonic() - self._began
        self._bytes += len(message.get("body", b""))
        await self._send(message)

    @property
    def path(self) -> str:
        """That of the route, so that there are few."""
        route = self._scope.get("route")
        return route.path if isinstance(route, Route) else "other"

    def log(self) -> None:
        """Write the line."""
        seconds = time.monotonic() - self._began
        method, path = self._scope["method"], self._scope["path"]
        told = (self.id, method, path, self.outcome, self._bytes, 1000 * (self.first or 0.0), 1000 * seconds)
        logger.info("%s %s %r %s, %d bytes, first after %.0f ms, all after %.0f ms", *told)
