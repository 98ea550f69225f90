"""What a gateway counts for Prometheus, and where it shows it."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from gateway.settings import Settings

PREFIX = "rwkv_tts_gateway_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
LEFT = "left"
"""In place of a status: the client has gone away before the end."""

CANCELLED = "cancelled"
"""In place of a status: the client has said that it does not want the rest."""

STREAM, WYOMING = "/v1/audio/speech/stream", "wyoming"
"""Where texts come in pieces: each counts as a request."""

_SPEECH = ("/v1/audio/speech", STREAM, WYOMING)


class Metrics:
    """The series of one gateway.

    Attributes:
        registry: All of them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("path", "status")
        self._requests = Counter(
            f"{PREFIX}requests", "Requests that have ended, by status; left: the client had gone.", labels,
            registry=self.registry,
        )  # fmt: skip
        self._open = Gauge(f"{PREFIX}open_requests", "Requests that are being answered.", registry=self.registry)
        self._first = Histogram(
            f"{PREFIX}first_audio_seconds", "From a request for speech to the first bytes of its audio.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip

        self._spans = Counter(
            f"{PREFIX}spans", "Spans for OpenTelemetry; lost: the collector is away or slow.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        for outcome in ("sent", "lost"):
            self._spans.labels(outcome)

    def count_spans(self, outcome: str, spans: int) -> None:
        """So many spans were ``sent`` or ``lost``."""
        self._spans.labels(outcome).inc(spans)

    def begin(self) -> None:
        """A request has come."""
        self._open.inc()

    def end(self, path: str, status: str, first: float | None) -> None:
        """It has ended, with its first bytes after so many seconds."""
        self._open.dec()
        self._requests.labels(path, status).inc()
        if path in _SPEECH and status == "200" and first is not None:
            self._first.observe(first)


@contextmanager
def shown(metrics: Metrics, settings: Settings) -> Iterator[None]:
    """Show the series at a port of their own, where one is set."""
    if settings.metrics_port is None:
        yield
        return
    server, thread = start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
