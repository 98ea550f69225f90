"""Whether there are spans: as OpenTelemetry's own variables say."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rwkv_tts.spans import Spans

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def open_spans(
    service: str,
    count: Callable[[str, int], None],
    warn: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> "Spans | None":
    """What takes spans to the collector that OpenTelemetry's own variables name; None where they name none.

    Args:
        service: Its name in traces, unless a variable has another.
        count: Told ``sent`` or ``lost``, and of how many spans; from any thread.
        warn: Told in one line what is wrong; from any thread.
        environ: The variables.
    """
    if not _is_wanted(environ):
        return None
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        warn(f"tracing: OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r}; accepted: {_PROTOCOL}; there are no spans")
        return None
    try:
        from rwkv_tts.spans import Spans
    except ModuleNotFoundError as error:
        warn(f"tracing: {error.name} is not installed; pip install '{service}[otel]'; there are no spans")
        return None
    try:
        return Spans(service, count, warn)
    except ValueError as error:
        warn(f"tracing: {error}; there are no spans")
        return None


def _is_wanted(environ: Mapping[str, str]) -> bool:
    exporters = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or "otlp" not in exporters.split(",")
    return not is_off and any(environ.get(name) for name in _ENDPOINTS)
