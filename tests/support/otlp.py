"""A collector of OpenTelemetry's, as far as spans go: takes what comes over HTTP, and parses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as RawSpan


@dataclass(frozen=True)
class Span:
    """One that has come.

    Attributes:
        service: That has sent it.
        begin, end: Unix seconds.
        failed: Why what it is of has failed; None where it has not.
    """

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    begin: float
    end: float
    attributes: dict[str, Any]
    failed: str | None


@dataclass
class Collector:
    """What has come.

    Attributes:
        endpoint: For ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        silent: While it is set, nobody gets an answer, and nothing is taken.
        asked: How often something came.
    """

    endpoint: str = ""
    spans: list[Span] = field(default_factory=list)
    silent: Event = field(default_factory=Event)
    asked: int = 0
    over: Event = field(default_factory=Event)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def below(self, span: Span) -> list[Span]:
        """Its children, in the order in which they begin."""
        return sorted((one for one in self.spans if one.parent == span.id), key=lambda one: (one.begin, one.end))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for the length of a block."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.asked += 1
            if collector.silent.is_set():
                collector.over.wait(60)
                return
            assert self.path == "/v1/traces"
            collector.spans += _parsed(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.over.set()
            server.shutdown()
            thread.join()


def _parsed(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = {one.key: _value(one.value) for one in resource.resource.attributes}["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(service, span)


def _span(service: str, span: RawSpan) -> Span:
    status = span.status
    return Span(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=RawSpan.SpanKind.Name(span.kind),
        begin=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes={one.key: _value(one.value) for one in span.attributes},
        failed=status.message if status.code == status.STATUS_CODE_ERROR else None,
    )


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
