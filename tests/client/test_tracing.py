"""Traces: what is one, and when there are spans."""

import os
import subprocess
import sys
from typing import Any

import pytest

from rwkv_tts.traceparent import valid_traceparent
from rwkv_tts.tracing import open_spans

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("value", [VALID, f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-ff"])
def test_a_traceparent_is_taken_as_it_is(value: str) -> None:
    assert valid_traceparent(value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("", None, 7, {}, [VALID], VALID.upper(), VALID + "\n", f" {VALID}", VALID + "-00", f"{VALID},{VALID}"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", "0" * 100_000),
        f"00-{TRACE[:-1]}g-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent_is_none(value: Any) -> None:
    assert valid_traceparent(value) is None


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, None),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "tracing: OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc'; accepted: http/protobuf; there are no spans",
        ),
    ],
)
def test_there_are_no_spans_unless_opentelemetry_is_set_up(environ: dict[str, str], warning: str | None) -> None:
    warnings: list[str] = []
    assert open_spans("tested", lambda *_: None, warnings.append, environ) is None
    assert warnings == [warning][: warning is not None]


@pytest.mark.parametrize(
    ("setup", "environ", "said"),
    [
        (
            "sys.modules['opentelemetry'] = None",
            ENDPOINT,
            "tracing: opentelemetry.exporter is not installed; pip install 'tested[otel]'; there are no spans",
        ),
        ("", {**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "tracing: OTEL_BSP_MAX_QUEUE_SIZE: 'many'"),
        ("", {}, "no spans, nothing imported"),
    ],
)
def test_what_keeps_spans_from_being_made_is_one_line(setup: str, environ: dict[str, str], said: str) -> None:
    program = f"""
import sys
{setup}
from rwkv_tts.tracing import open_spans
assert open_spans("tested", lambda *_: None, print) is None
if "rwkv_tts.spans" not in sys.modules:
    print("no spans, nothing imported")
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(said)
    assert done.stderr == ""
