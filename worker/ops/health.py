"""What supervisors and Prometheus ask a worker over HTTP: ``/livez``, ``/readyz`` and ``/metrics``."""

import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Protocol, Self

from loguru import logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.broker.batch_worker import BatchWorker

_SILENT_SECONDS = 30.0
"""The intake loop turns once a second; with a Redis that hangs, after its timeouts."""

_PATIENCE_SECONDS = 5.0
_TEXT = "text/plain; charset=utf-8"


class AddressError(ValueError):
    """Nobody can listen there; one line that names the settings and what is accepted."""


class Condition(Protocol):
    """How a worker is."""

    def illness(self) -> str | None:
        """Why the process should be started anew; None while it lives."""

    def obstacle(self) -> str | None:
        """Why the worker takes no jobs; None when it does."""


class Health:
    """Whether a worker lives and takes jobs; the main thread says what it does, others ask.

    Attributes:
        worker: The worker, once there is one.
        starting: What is still to be done before there is.
        store_trouble: Tells why audio cannot be stored at present, where it does not go to Redis.
    """

    def __init__(self) -> None:
        self.starting = "the model is being loaded"
        self.worker: BatchWorker | None = None
        self.store_trouble: Callable[[], str | None] = lambda: None

    def illness(self) -> str | None:
        """Why the process should be started anew; None while it lives."""
        if self.worker is None or not self.worker.turned_at:
            return None
        silent = time.monotonic() - self.worker.turned_at
        return f"the intake loop has been stuck for {silent:.0f} s" if silent > _SILENT_SECONDS else None

    def obstacle(self) -> str | None:
        """Why the worker takes no jobs; None when it does."""
        if self.worker is None:
            return self.starting
        if not self.worker.turned_at:
            return "the worker is being registered"
        return (
            "draining" if self.worker.draining else self.worker.trouble or self.store_trouble() or self.illness()
        )


class HealthServer(ThreadingTCPServer):
    """Answers, once it is entered, each request from a thread of its own: a slow client holds nobody else.

    Not ``http.server``'s, which asks the name service for its own name at the start.

    Args:
        host: The address to listen on; whoever reaches it may ask.
        port: 0 takes a free one.
        registry: What ``/metrics`` shows.
        health: What the probes say.
        listening: The number of an inherited socket that listens already, at whatever address.

    Raises:
        AddressError: The address cannot be bound.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Condition, listening: int | None = None
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry, self.health = registry, health
        try:
            super().__init__((host, port), _Handler, bind_and_activate=listening is None)
        except OSError as error:
            raise AddressError(
                f"metrics_host {host}, metrics_port {port}: {error.strerror}; "
                "accepted: an address of this machine and a free port"
            ) from error
        if listening is not None:
            self.socket.close()
            self.socket = socket.socket(fileno=listening)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        logger.info("health: listening on {} port {}", *self.socket.getsockname()[:2])
        threading.Thread(target=self.serve_forever, name="health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        logger.opt(exception=True).debug("health: a request from {} failed", client_address)


class _Handler(BaseHTTPRequestHandler):
    """GET only; a connection is closed after its answer, so that a body is never read."""

    timeout = _PATIENCE_SECONDS
    server: HealthServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), content_type)
        elif path == "/livez":
            self._probe(self.server.health.illness())
        elif path == "/readyz":
            self._probe(self.server.health.obstacle())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"accepted: /metrics, /livez, /readyz\n")

    def _probe(self, problem: str | None) -> None:
        status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, f"{problem or 'ok'}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = _TEXT) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "rwkv-tts"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""
