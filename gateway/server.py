"""Listens: uvicorn, with limits of its own on what a connection may take before it has asked for anything."""

import asyncio
import math
import socket
import sys
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.settings import Settings

_HEAD_BYTES = 16 << 10
_DRAIN_SECONDS = 25
_SWITCH_SECONDS = 0.0005
"""Threads that ask Redis are done in less, and would wait ten times as long for the loop to let them go on."""


class _Protocol(H11Protocol):
    """Closes connections whose head does not come, of the first request or of a later one."""

    head_seconds = 15.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def listen(settings: Settings) -> socket.socket:
    """A socket at the gateway's address.

    Raises:
        OSError: It cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=1024)


def address(listening: socket.socket) -> str:
    """The URL that it has."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """A server that is ready to run on a socket."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    protocol = type("Protocol", (_Protocol,), {"head_seconds": settings.read_timeout})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="wsproto",
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # a few bytes could become millions
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_keep_alive=math.ceil(settings.read_timeout),
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        limit_concurrency=settings.max_connections,
    )
    return uvicorn.Server(config)
