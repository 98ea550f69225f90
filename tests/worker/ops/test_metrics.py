"""What a worker shows: readings that agree with what they read, probes that tell the truth, a first word."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from redis import Redis

from batching.row import Row
from make_random_model import RandomModel, write_random_model
from rwkv_tts.client import TTSClient
from rwkv_tts.schema import SynthesisResult, Timings
from sampler.decoding import Decoding, Phase
from scraping import Samples, ask, scrape, shown
from worker.backend import SpeechBackend
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.lease import Lease
from worker.broker.rules import Rules
from worker.cli.embedded import embedded_redis
from worker.ops.health import AddressError, Health, HealthServer
from worker.ops.metrics import Metrics
from worker.ops.readings import DeviceReadings, EngineReadings, MemoryReadings, QueueReadings
from worker.settings import Settings
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel


def result(**changes: object) -> SynthesisResult:
    """A result whose stages all differ."""
    times = Timings(queued=7, clone=0.3, prefill=0.02, decode=2, vocode=0.6, encode=0.007, first_audio=3, total=3)
    return SynthesisResult.model_validate(
        {
            "job_id": "job", "audio_key": "key", "format": "wav", "mode": "attributes", "sample_rate": 16000,
            "seconds": 12, "seed": 1, "finish_reason": "eos", "tokens": {"globals": 32, "semantic": 600},
            "trace_sha256": "", "timings": times, "mean_batch": 1.0, "rtf": 0.25, "warnings": [], "metadata": {},
            **changes,
        }
    )  # fmt: skip


def test_a_result_is_counted_stage_by_stage() -> None:
    metrics = Metrics()
    metrics.spoken(result())
    metrics.spoken(result(mode="reference"))
    found = shown(metrics.registry)

    def total(stage: str) -> tuple[float, float]:
        labels = f'{{stage="{stage}"}}'
        return found[f"rwkv_tts_stage_seconds_count{labels}"], found[f"rwkv_tts_stage_seconds_sum{labels}"]

    stages = {"queue": 7, "prefill": 0.02, "decode": 2, "vocode": 0.6, "encode": 0.007, "total": 3}
    assert {stage: total(stage) for stage in stages} == {stage: (2, 2 * each) for stage, each in stages.items()}
    assert total("clone") == (1, 0.3)
    assert found["rwkv_tts_first_audio_seconds_sum"] == 2 * (7 + 3)
    assert found["rwkv_tts_audio_seconds_total"] == 24
    assert found["rwkv_tts_rtf_ratio_sum"] == 0.5
    assert found['rwkv_tts_rtf_ratio_bucket{le="0.2"}'] == 0
    assert found['rwkv_tts_rtf_ratio_bucket{le="0.3"}'] == 2


def test_workers_in_one_process_keep_apart() -> None:
    first, second = Metrics(), Metrics()
    first.claimed(3)
    first.spoken(result())
    assert shown(first.registry)["rwkv_tts_jobs_claimed_total"] == 3
    assert shown(second.registry)["rwkv_tts_jobs_claimed_total"] == 0
    assert shown(second.registry)["rwkv_tts_rtf_ratio_count"] == 0


def read(collector: Collector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return shown(registry)


def test_the_engines_numbers_become_histograms(random_model: Path) -> None:
    speech = open_model(random_model)
    engine = speech.compute.engine(6, 64, lambda: None)
    stats, scheduler = engine.stats, engine.scheduler
    for rows, seconds in ((1, 0.001), (2, 0.003), (3, 0.003), (6, 0.1), (6, 9.0)):
        stats.count(rows, seconds)
    stats.tokens[Phase.GLOBAL] += 5
    for key, voice in (("a", ()), ("b", ()), ("c", [1] * 32)):
        scheduler.add(Row(key, Decoding(speech.layout, prompt=[1, 2, 3], voice=voice)))
    for row in list(scheduler.admit())[1:]:
        row.decoding.take(3)
    scheduler.max_rows = 3
    found = read(EngineReadings(engine))

    assert [found[f'rwkv_tts_rows{{phase="{phase}"}}'] for phase in ("prefill", "global", "semantic")] == [1, 1, 1]
    assert found["rwkv_tts_rows_limit"] == 3
    steps = [found[f'rwkv_tts_batch_rows_bucket{{le="{bound}"}}'] for bound in ("1.0", "2.0", "4.0", "+Inf")]
    assert steps == [1, 2, 3, 5]
    assert (found["rwkv_tts_batch_rows_count"], found["rwkv_tts_batch_rows_sum"]) == (5, 18)
    times = [
        found[f'rwkv_tts_step_seconds_bucket{{le="{bound}"}}'] for bound in ("0.001", "0.004", "4.096", "+Inf")
    ]
    assert times == [1, 3, 4, 5]
    assert found["rwkv_tts_step_seconds_sum"] == found["rwkv_tts_engine_busy_seconds_total"] == stats.busy_seconds
    assert found['rwkv_tts_tokens_total{phase="global"}'] == 5


def test_depth_and_wait_are_what_producers_are_told(redis_url: str) -> None:
    names = [f"read-{uuid4().hex}" for _ in range(3)]
    clients = [TTSClient(redis_url, name) for name in names]
    for _ in range(4):
        clients[0].submit("hello")
    connection = clients[0].connection
    with connection.pipeline() as pipeline:
        Lease(names[0], 60).renew({"max_queue": None, "running": 0, "jobs_per_second": 0.5}, pipeline)
        pipeline.sadd(f"rq:workers:{names[0]}", f"rq:worker:{names[0]}")
        pipeline.execute()
    connection.set(f"rq:queue:{names[2]}", "no list")
    found = read(QueueReadings(worker_connection(redis_url, 5), names))
    load = clients[0].load()
    assert load.estimated_wait == 8
    assert found == {
        "rwkv_tts_redis_up": 1,
        f'rwkv_tts_queue_depth{{queue="{names[0]}"}}': 4,
        f'rwkv_tts_queue_depth{{queue="{names[1]}"}}': 0,
        f'rwkv_tts_queue_wait_seconds{{queue="{names[0]}"}}': 8,
    }


def test_the_memory_of_redis_is_shown_with_its_limit_if_it_may_be_asked() -> None:
    with embedded_redis() as url:
        readings, connection = MemoryReadings(worker_connection(url, 5)), Redis.from_url(url)
        assert read(readings)["rwkv_tts_redis_memory_limit_bytes"] == 0
        connection.config_set("maxmemory", 50_000_000)
        connection.set("a", bytes(10_000_000))
        found = read(readings)
        assert found["rwkv_tts_redis_memory_limit_bytes"] == 50_000_000
        assert 10_000_000 < found["rwkv_tts_redis_memory_bytes"] < 40_000_000
        connection.execute_command("ACL", "SETUSER", "default", "-info")  # type: ignore[no-untyped-call]
        assert read(readings) == {}
        connection.execute_command("ACL", "SETUSER", "default", "+info")  # type: ignore[no-untyped-call]
    assert read(readings) == {}


def test_a_redis_that_is_away_or_hangs_does_not_hold_a_scrape() -> None:
    with embedded_redis() as url:
        readings = QueueReadings(worker_connection(url, 1), ["tts"])
        assert read(readings)["rwkv_tts_redis_up"] == 1
    assert read(readings) == {"rwkv_tts_redis_up": 0}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        port = silent.getsockname()[1]
        readings = QueueReadings(worker_connection(f"redis://127.0.0.1:{port}", 0.1), ["tts", "more"])
        assert read(readings) == {"rwkv_tts_redis_up": 0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_and_allocations_of_the_device_are_shown(random_model: Path) -> None:
    engine = open_model(random_model, "cuda", engine="reference").compute.engine(1, 64, lambda: None)
    held = torch.empty(1 << 20, device="cuda")
    before = read(DeviceReadings(engine))
    more = torch.empty(1 << 20, device="cuda")
    after = read(DeviceReadings(engine))
    allocated = 'rwkv_tts_device_memory_bytes{kind="allocated"}'
    assert after[allocated] - before[allocated] == more.nbytes == held.nbytes
    assert after['rwkv_tts_device_memory_bytes{kind="reserved"}'] >= after[allocated]
    assert after["rwkv_tts_device_allocations_total"] - before["rwkv_tts_device_allocations_total"] == 1


def test_other_devices_show_no_memory(random_model: Path) -> None:
    assert read(DeviceReadings(open_model(random_model).compute.engine(1, 64, lambda: None))) == {}


# Health.


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[HealthServer]:
    metrics = Metrics()
    metrics.show_ready(lambda: health.obstacle() is None)
    with HealthServer("127.0.0.1", 0, metrics.registry, health) as server:
        yield server


@pytest.fixture
def worker(redis_url: str) -> BatchWorker:
    rules = Rules(queue=(f"health-{uuid4().hex}",))
    return BatchWorker(worker_connection(redis_url), lambda *_: None, rules, max_jobs=1)  # type: ignore[arg-type]


def test_probes_follow_the_worker_through_its_life(
    server: HealthServer, health: Health, worker: BatchWorker
) -> None:
    def probes() -> tuple[tuple[int, str], tuple[int, str], float]:
        return ask(server.port, "/livez"), ask(server.port, "/readyz"), scrape(server.port)["rwkv_tts_ready"]

    fine = (200, "ok\n")
    assert probes() == (fine, (503, "the model is being loaded\n"), 0)
    health.starting = "the model is warming up"
    assert probes() == (fine, (503, "the model is warming up\n"), 0)
    health.worker = worker
    assert probes() == (fine, (503, "the worker is being registered\n"), 0)
    worker.turned_at = time.monotonic()
    assert probes() == (fine, fine, 1)
    worker.turned_at -= 1000
    live, ready, shown_as = probes()
    assert live[0] == ready[0] == 503
    assert re.fullmatch(r"the intake loop has been stuck for 10\d\d s\n", live[1])
    assert re.fullmatch(r"the intake loop has been stuck for 10\d\d s\n", ready[1])
    assert shown_as == 0
    worker.turned_at = time.monotonic()
    worker.request_stop()
    assert probes() == (fine, (503, "draining\n"), 0)


def test_only_three_pages_are_read_and_nothing_is_written(server: HealthServer) -> None:
    for path in ("/", "/metricsx", "/livez/", "/../etc/passwd"):
        assert ask(server.port, path) == (404, "accepted: /metrics, /livez, /readyz\n")
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert ask(server.port, "/livez", method)[0] == 501
    assert ask(server.port, "/livez?verbose")[0] == 200


def test_a_slow_client_holds_nobody_else(server: HealthServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        for one in slow:
            one.sendall(b"GET /metrics HTTP/1.1\r\nX-Unfinished: ")
        assert ask(server.port, "/livez") == (200, "ok\n")
    finally:
        for one in slow:
            one.close()


def test_prometheus_gets_openmetrics_when_it_asks(server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n")
        with client.makefile("rb") as answer:
            page = answer.read()
    assert b"Content-Type: application/openmetrics-text" in page
    assert page.endswith(b"# EOF\n")


def test_an_address_that_is_taken_is_an_error(server: HealthServer, health: Health) -> None:
    with pytest.raises(AddressError, match="in use"):
        HealthServer("127.0.0.1", server.port, CollectorRegistry(), health)


# Warm-up.


def backend(speech: SpeechModel) -> SpeechBackend:
    def refuse(*_: object) -> None:
        raise AssertionError("the warm-up is no job")

    return SpeechBackend(speech, Settings(max_rows=4), refuse, lambda: None, refuse)


@pytest.mark.parametrize("eos_logit", [-30.0, 30.0])
def test_warm_up_speaks_with_any_model_and_is_not_counted(tmp_path: Path, eos_logit: float) -> None:
    write_random_model(tmp_path, RandomModel(layers=2, tokenizer="bytes", eos_logit=eos_logit))
    one = backend(open_model(tmp_path))
    one.warm_up()
    one.close()
    assert one.progress() is None
    stats = one.pipeline.engine.stats
    assert (stats.sizes, stats.tokens, stats.busy_seconds) == ([0] * 5, [0, 0, 0], 0)
