"""A request followed from its producer through gateway and worker; a collector that is away or silent."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from rq.job import Job
from rq.serializers import JSONSerializer
from websockets.sync.client import connect

from otlp import Collector, Span, collecting
from recordings import reference
from rwkv_tts import JobFailedError, TTSClient
from rwkv_tts.keys import chunks_key
from waiting import until

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SENTENCE = "One sentence of a text. "
STAGES = ["queued", "prefill", "decode", "vocode", "encode", "deliver"]
SKEW = 0.01
"""Between the clock's readings of two processes of one machine, and rounding."""


@dataclass
class Program:
    """A process.

    Attributes:
        ended: How long it took from SIGTERM to its end, once it has.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    ended: float = 0.0

    def find(self, pattern: str) -> str:
        """What the first group is in the log, as soon as it is there."""
        until(lambda: re.search(pattern, self.log.read_text()), timeout=60)
        found = re.search(pattern, self.log.read_text())
        assert found
        return found[1]


@contextmanager
def running(log: Path, *command: str, **environ: str) -> Iterator[Program]:
    """A command for the length of a block; with few spans at a time, and at the end those that wait."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "REDIS_URL"))}
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-m", *command], env=clean | environ, stderr=errors)
    program = Program(process, log)
    try:
        yield program
    finally:
        begin = time.monotonic()
        process.terminate()
        process.wait(timeout=60)
        program.ended = time.monotonic() - begin


def worker(
    folder: Path, url: str, model: Path, queue: str, endpoint: str, **environ: str
) -> AbstractContextManager[Program]:
    options = ("--quiet", f"--model={model}", f"--queue={queue}", "--log-format=json", "--log-level=INFO")
    environ = {"RWKV_TTS_REDIS": url, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environ}
    return running(folder / f"{queue}.log", "worker.cli", "worker", *options, **environ)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def read_lines(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.log.read_text().splitlines()]


def one(collector: Collector, job_id: str) -> Span:
    """The span of a job."""
    (span,) = (span for span in collector.spans if span.attributes.get("messaging.message.id") == job_id)
    return span


def test_a_request_is_followed_from_its_producer_to_the_end_of_its_jobs(
    tmp_path: Path, redis_url: str, random_model: Path, collector: Collector
) -> None:
    client = TTSClient(redis_url, "followed")
    ancient = client.submit("Hello.", max_seconds=0.4)
    client.connection.hset(Job.key_for(ancient), "enqueued_at", "0001-01-01T00:00:00.000000Z")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "RWKV_TTS_REDIS": redis_url}
    with (
        worker(tmp_path, redis_url, random_model, "followed", collector.endpoint) as process,
        running(
            tmp_path / "gateway.log",
            "gateway",
            "--port=0",
            "--queue=followed",
            OTEL_SERVICE_NAME="door",
            **environ,
        ) as gateway,
    ):
        until(lambda: client.busyness().workers, timeout=60)
        url = gateway.find(r"on (http://\S+)")
        began = time.time()
        body = {"input": "Hello.", "max_seconds": 0.4, "voice": "alloy"}
        for headers in ({"traceparent": TRACEPARENT}, {"traceparent": "00-" + "x" * 500}, {}):
            httpx.post(f"{url}/v1/audio/speech", json=body, headers=headers, timeout=30).raise_for_status()
        lines = "\n".join(
            json.dumps({"custom_id": str(at), "input": "Hello.", "max_seconds": 0.4}) for at in (1, 2)
        )
        for trace in (TRACE, "a" * 32):  # the same lines belong to the trace that has queued them
            headers = {"traceparent": f"00-{trace}-{PARENT}-01"}
            httpx.post(f"{url}/v1/batches?id=b", content=lines, headers=headers).raise_for_status()
        with connect(
            url.replace("http", "ws") + "/v1/audio/speech/stream", additional_headers={"traceparent": TRACEPARENT}
        ) as agent:
            agent.send(json.dumps({"type": "start", "id": "1", "voice": "alloy", "max_seconds": 0.4}))
            agent.send(json.dumps({"type": "text", "id": "1", "text": "One. Two. "}))
            agent.send(json.dumps({"type": "end", "id": "1"}))
            while isinstance(message := agent.recv(timeout=30), bytes) or json.loads(message)["type"] != "done":
                pass
        httpx.get(f"{url}/healthz")
        metadata = {"traceparent": TRACEPARENT, "note": "mine"}
        plain = client.result(
            client.submit(f"Hello.\n\n{SENTENCE * 20}", seed=1, metadata=metadata), timeout=60
        ).result
        cloned = client.result(client.submit("Hello.", reference=reference(1), max_seconds=0.4), timeout=60).result
        hostile = client.submit("Hello.", voice="nobody", metadata={"traceparent": "00-" + "y" * 500})
        with pytest.raises(JobFailedError):
            client.result(hostile, timeout=60)
        late = time.time()
    assert plain.metadata == metadata
    assert {span.service for span in collector.spans} == {"door", "rwkv-tts-worker"}

    first, second, third = collector.named("POST /v1/audio/speech")
    assert (first.trace, first.parent, first.kind) == (TRACE, PARENT, "SPAN_KIND_SERVER")
    assert first.attributes["http.response.status_code"] == 200
    assert 0 < first.attributes["rwkv_tts.first_seconds"] <= first.end - first.begin + SKEW
    assert len({TRACE, second.trace, third.trace}) == 3
    assert second.parent == third.parent == ""
    for request in (first, second, third):
        (job,) = collector.below(request)
        assert (job.trace, job.kind) == (request.trace, "SPAN_KIND_CONSUMER")
        assert began - SKEW < request.begin <= job.begin + SKEW
    assert "GET /healthz" not in {span.name for span in collector.spans}

    batches = collector.named("POST /v1/batches")
    assert sorted(len(collector.below(batch)) for batch in batches) == [0, 2]
    (talk,) = collector.named("WS /v1/audio/speech/stream")
    assert (talk.trace, talk.parent, len(collector.below(talk))) == (TRACE, PARENT, 2)

    job = one(collector, plain.job_id)
    assert (job.trace, job.parent, job.failed) == (TRACE, PARENT, None)
    stages = collector.below(job)
    assert [stage.name for stage in stages] == STAGES  # of however many parts, one each
    spans = {stage.name: stage for stage in stages}
    assert all(began - SKEW < stage.begin <= stage.end < late + SKEW for stage in stages)
    assert abs(job.begin - spans["queued"].begin) < SKEW
    assert abs(job.end - spans["deliver"].end) < SKEW
    for name in ("prefill", "decode"):
        assert abs(spans[name].end - spans[name].begin - getattr(plain.timings, name)) < SKEW
    assert spans["decode"].attributes["rwkv_tts.parts"] == 6
    assert spans["decode"].attributes["rwkv_tts.tokens"] == plain.tokens.semantic
    # The first part, a short one, is vocoded while others are decoded.
    assert spans["vocode"].begin < spans["decode"].end
    assert spans["vocode"].attributes["rwkv_tts.audio_seconds"] == plain.seconds

    assert [stage.name for stage in collector.below(one(collector, cloned.job_id))] == [
        *("queued", "clone", "prefill", "decode", "vocode", "encode", "deliver")
    ]
    assert one(collector, ancient).begin == 0  # the least that OpenTelemetry knows
    refused = one(collector, hostile)
    assert refused.parent == ""
    assert (refused.failed or "").startswith("voice: unknown voice 'nobody'")
    assert [stage.name for stage in collector.below(refused)] == ["queued"]
    (ignored,) = (line["message"] for line in read_lines(process) if "is ignored" in line["message"])
    assert ignored == (
        f"job {hostile}: metadata.traceparent: '00-{'y' * 77}' is ignored; "
        "accepted: the traceparent of W3C Trace Context"
    )
    (ignored,) = (line for line in gateway.log.read_text().splitlines() if "is ignored" in line)
    assert f"traceparent: '00-{'x' * 77}' is ignored" in ignored


def test_a_job_that_ends_early_shows_how_far_it_came(
    tmp_path: Path, redis_url: str, slow_model: Path, collector: Collector
) -> None:
    client = TTSClient(redis_url, "abandoned")
    with worker(tmp_path, redis_url, slow_model, "abandoned", collector.endpoint) as process:
        until(lambda: client.busyness().workers, timeout=60)
        metadata = {"traceparent": TRACEPARENT}
        stopped, deleted = (client.submit("x" * 340, metadata=metadata, stream=True) for _ in range(2))
        until(lambda: client.connection.exists(chunks_key(stopped), chunks_key(deleted)) == 2, timeout=60)
        client.cancel(stopped)
        Job.fetch(deleted, client.connection, JSONSerializer).delete()
        until(lambda: {'"stopped"', '"lost"'} <= set(re.findall(r'"\w+"', process.log.read_text())))
    lines = {line["job"]: line for line in read_lines(process) if line["event"] == "job"}
    for job_id, fate in ((stopped, "stopped"), (deleted, "lost")):
        job, line = one(collector, job_id), lines[job_id]
        assert (job.trace, job.parent, job.attributes["rwkv_tts.fate"]) == (TRACE, PARENT, fate)
        assert [stage.name for stage in collector.below(job)] == ["queued", "prefill", "decode", "vocode"]
        assert (line["traceparent"], line["queue"], line["fate"]) == (TRACEPARENT, "abandoned", fate)


def test_a_collector_that_is_silent_or_away_holds_nothing(
    tmp_path: Path, redis_url: str, random_model: Path, collector: Collector
) -> None:
    collector.silent.set()
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
    away = {"RWKV_TTS_REDIS": redis_url, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **few}
    client = TTSClient(redis_url, "unheard")
    with (
        worker(tmp_path, redis_url, random_model, "unheard", collector.endpoint, **few) as silenced,
        running(tmp_path / "gateway.log", "gateway", "--port=0", "--queue=unheard", **away) as gateway,
    ):
        until(lambda: client.busyness().workers, timeout=60)
        url = gateway.find(r"on (http://\S+)")
        body = {"input": "Hello.", "max_seconds": 0.4}
        for _ in range(25):
            httpx.post(f"{url}/v1/audio/speech", json=body, timeout=30).raise_for_status()
    assert collector.asked
    assert (silenced.process.returncode, gateway.process.returncode) == (0, -signal.SIGTERM)
    for program, count in ((silenced, 25 * (1 + len(STAGES))), (gateway, 25)):
        assert program.ended < 30  # of which the last try has one
        lost = [int(spans) for spans in re.findall(r"tracing: (\d+) spans lost: ", program.log.read_text())]
        assert sum(lost) == count
        assert len(lost) <= 2, "one line when it begins, one at the end"
