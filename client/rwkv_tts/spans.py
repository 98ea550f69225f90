"""Spans for OpenTelemetry, sent in the background; takes the extra ``otel``.

A collector that is away or slow costs spans, which are counted, and no time of whoever makes them.
"""

import atexit
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock, Thread
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rwkv_tts.traceparent import TRACEPARENT

_MOST_WAITING = 2048
"""OpenTelemetry's own default."""

_WARN_SECONDS = 60.0
_CLOSE_SECONDS = 1.0
_W3C = TraceContextTextMapPropagator()


class Spans:
    """What takes the spans of a process to its collector.

    Args:
        service: Its name, unless OpenTelemetry's variables have another.
        count: Told ``sent`` or ``lost``, and of how many spans; from any thread.
        warn: Told in one line that spans were lost, once a minute at most; from any thread.

    Raises:
        ValueError: One of OpenTelemetry's variables is wrong.
    """

    def __init__(self, service: str, count: Callable[[str, int], None], warn: Callable[[str], None]) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the warnings are ours, with a count
        name = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, service)
        self._tally = _Tally(_most_waiting(), count, warn)
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(_Queue(self._tally))
        self._tracer = self._provider.get_tracer("rwkv_tts")
        atexit.register(self.close)

    def start(
        self,
        name: str,
        parent: str | Span | None,
        begin: int,
        kind: str = "INTERNAL",
        attributes: Mapping[str, Any] | None = None,
    ) -> Span:
        """Begin a span.

        Args:
            parent: A valid ``traceparent``, or a span; None begins a trace.
            begin: Unix nanoseconds, as the end is that the span is given.
            kind: One of OpenTelemetry's.
        """
        if isinstance(parent, Span):
            context = set_span_in_context(parent)
        else:
            context = _W3C.extract({TRACEPARENT: parent} if parent else {})
        return self._tracer.start_span(name, context, SpanKind[kind], attributes, start_time=begin)

    def traceparent(self, span: Span) -> str:
        """What makes a job a part of a span."""
        carrier = dict[str, str]()
        _W3C.inject(carrier, set_span_in_context(span))
        return carrier[TRACEPARENT]

    def fail(self, span: Span, reason: str) -> None:
        """Note that what a span is of has failed."""
        span.set_status(StatusCode.ERROR, reason)

    def close(self) -> None:
        """Send what waits, for a second at most."""
        atexit.unregister(self.close)
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        self._tally.give_up()


def _most_waiting() -> int:
    told = os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE) or str(_MOST_WAITING)
    if not told.isdecimal() or not int(told):
        raise ValueError(f"{OTEL_BSP_MAX_QUEUE_SIZE}: {told!r}; accepted: a number from 1 up")
    return int(told)


class _Tally:
    """Counts the spans that wait, and lets in no more than have room.

    Args:
        most: That wait at once.
        count, warn: As of ``Spans``.
    """

    def __init__(self, most: int, count: Callable[[str, int], None], warn: Callable[[str], None]) -> None:
        self.most = most
        self._count, self._warn = count, warn
        self._lock = Lock()
        self._waiting = self._lost = 0
        self._warn_at, self._over = 0.0, False

    def enter(self) -> bool:
        """Whether there is room for another; it is lost where there is none."""
        with self._lock:
            has_room = self._waiting < self.most
            self._waiting += has_room
        if not has_room:
            self._lose(1)
        return has_room

    def leave(self, spans: int, *, sent: bool) -> None:
        """So many do not wait any more."""
        with self._lock:
            if self._over:
                return
            self._waiting -= spans
        if sent:
            self._count("sent", spans)
        else:
            self._lose(spans)

    def give_up(self) -> None:
        """What still waits will not be sent."""
        with self._lock:
            self._warn_at, self._over = 0.0, True
        if self._waiting or self._lost:
            self._lose(self._waiting)

    def _lose(self, spans: int) -> None:
        self._count("lost", spans)
        with self._lock:
            self._lost += spans
            due = time.monotonic() >= self._warn_at
            if due:
                lost, self._lost, self._warn_at = self._lost, 0, time.monotonic() + _WARN_SECONDS
        if due:
            self._warn(f"tracing: {lost} spans lost: the collector is away, slow or refuses them")


class _Exporter(OTLPSpanExporter):
    """Sends spans, and counts them.

    Args:
        tally: Counts.
    """

    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        done = SpanExportResult.FAILURE
        try:
            done = super().export(spans)
        finally:
            self._tally.leave(len(spans), sent=done is SpanExportResult.SUCCESS)
        return done


class _Queue(BatchSpanProcessor):
    """OpenTelemetry's own queue, but for spans that have no room there.

    Args:
        tally: Counts.
    """

    def __init__(self, tally: _Tally) -> None:
        super().__init__(_Exporter(tally), max_queue_size=tally.most)
        self._tally = tally

    def on_end(self, span: ReadableSpan) -> None:
        if span.context and span.context.trace_flags.sampled and self._tally.enter():
            super().on_end(span)
