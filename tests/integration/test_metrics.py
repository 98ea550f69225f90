"""A worker process that is scraped while it works: every series is there and moves, and the probes are right."""

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from redis import Redis
from rq import Retry
from rq.command import send_stop_job_command
from rq.job import JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.worker import Worker
from safetensors.torch import load_file, save_file

from make_random_model import RandomModel, write_random_model
from recordings import reference
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import lease_key
from scraping import Samples, ask, scrape
from waiting import until
from worker.broker.batch_worker import ExitCode
from worker.broker.claim import Claimer
from worker.cli.embedded import embedded_redis
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings
from worker.speech.config import checkpoint_path

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "worker.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
PROMTOOL = shutil.which("promtool")
LONG: dict[str, Any] = {"text": "x" * 340}
"""Runs for 2048 tokens where the model does not end by itself: for seconds, where it is slow."""

ON_CUDA = {"rwkv_tts_device_memory_bytes", "rwkv_tts_device_allocations_total"}
ROWS = 4
LABEL = '{{queue="{}"}}'
STAGES = ("queue", "clone", "prefill", "decode", "vocode", "encode", "total")
PHASES = ("prefill", "global", "semantic")
MOVING = {
    *(f'rwkv_tts_stage_seconds_count{{stage="{stage}"}}' for stage in STAGES),
    *(f'rwkv_tts_stage_seconds_sum{{stage="{stage}"}}' for stage in STAGES),
    *(f'rwkv_tts_tokens_total{{phase="{phase}"}}' for phase in PHASES),
    *(f"rwkv_tts_{name}_{part}" for name in ("rtf_ratio", "first_audio_seconds") for part in ("count", "sum")),
    *(f"rwkv_tts_{name}_{part}" for name in ("batch_rows", "step_seconds") for part in ("count", "sum")),
    "rwkv_tts_audio_seconds_total",
    "rwkv_tts_jobs_claimed_total",
    "rwkv_tts_jobs_finished_total",
    "rwkv_tts_jobs_lost_total",
    'rwkv_tts_jobs_failed_total{reason="invalid"}',
    'rwkv_tts_jobs_failed_total{reason="timeout"}',
    'rwkv_tts_jobs_failed_total{reason="cancelled"}',
    'rwkv_tts_jobs_retried_total{reason="timeout"}',
    'rwkv_tts_jobs_recovered_total{outcome="put_back"}',
    "rwkv_tts_engine_busy_seconds_total",
    "rwkv_tts_engine_idle_seconds_total",
    "rwkv_tts_sampling_seconds_total",
    "rwkv_tts_delivery_seconds_total",
    *(f'rwkv_tts_stage_busy_seconds_total{{stage="{stage}"}}' for stage in ("vocoder", "encoder")),
    "process_cpu_seconds_total",
}
"""What the load must have raised."""

FINE = 22
"""Jobs of the load that end well."""


class Watched:
    """A worker process and the port on which it tells how it is."""

    def __init__(self, local: LocalWorker, port: int, url: str, settings: Settings) -> None:
        self.local, self.port = local, port
        queue = settings.queue[0]
        self.client = TTSClient(url, queue, results=settings.results)
        self.queue = Queue(queue, connection=self.client.connection, serializer=JSONSerializer)

    def until_ready(self) -> list[tuple[int, str]]:
        """Ask until the worker is ready; what it answered."""
        answers: list[tuple[int, str]] = []

        def ready() -> bool:
            self.local.check()
            try:
                answers.append(ask(self.port, "/readyz"))
            except OSError:
                return False
            return answers[-1][0] == 200

        until(ready, timeout=60)
        return answers

    def status(self, job_id: str) -> JobStatus:
        job = self.queue.fetch_job(job_id)
        assert job is not None
        return job.get_status()


@contextmanager
def watched(url: str, queue: str, **settings: Any) -> Iterator[Watched]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    chosen = Settings(queue=(queue,), metrics_port=port, **settings)
    with local_worker(chosen, url) as local:
        yield Watched(local, port, url, chosen)


def claim_elsewhere(queue: Queue) -> str:
    """Claim the one job of a queue as another worker; the key of its lease."""
    name = "other-" + queue.name
    lease = lease_key(name)
    queue.connection.set(lease, "{}")
    claimer = Claimer(queue.connection, [queue], name, f"rq:worker:{name}", lease, payload_limit=1 << 20, deadly=9)
    assert len(claimer.claim(1).claimed) == 1
    return lease


@dataclass(frozen=True)
class Load:
    """Scrapes of one worker: idle, with a queue, idle again; and the last one as it is written."""

    before: Samples
    crowded: Samples
    after: Samples
    page: str


def all_ended(found: Samples) -> bool:
    """Whether each job that was claimed is counted at its end."""
    ends = ("finished", "put_back", "lost", "failed", "retried")
    counted = [
        value for name, value in found.items() if name.startswith(tuple(f"rwkv_tts_jobs_{end}" for end in ends))
    ]
    return found["rwkv_tts_jobs_finished_total"] == FINE and found["rwkv_tts_jobs_claimed_total"] == sum(counted)


@pytest.fixture(scope="module")
def loaded(redis_url: str, slow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A worker through which jobs went that ended in every way, with audio in a folder."""
    queue = "metrics-load"
    TTSClient(redis_url, queue).submit("left behind", max_seconds=0.2)
    lease = claim_elsewhere(Queue(queue, connection=Redis.from_url(redis_url), serializer=JSONSerializer))
    folder = f"file://{tmp_path_factory.mktemp('audio')}"
    with watched(redis_url, queue, model=slow_model, max_rows=ROWS, lease_timeout=0.5, results=folder) as one:
        one.until_ready()
        before = scrape(one.port)
        client = one.client
        client.connection.delete(lease)
        client.result(client.submit("cloned", reference=reference(1), max_seconds=0.2), timeout=60)
        late = client.submit(**LONG, job_options={"timeout": 1, "retry": Retry(max=1)})
        stopped, cancelled = client.submit(**LONG), client.submit(**LONG)
        bad = client.enqueue({"text": ""})
        until(lambda: {one.status(stopped), one.status(cancelled)} == {JobStatus.STARTED})
        more = [client.submit("more than there is room for", max_seconds=2.0) for _ in range(20)]
        crowded: list[Samples] = []

        def waits() -> bool:
            crowded.append(scrape(one.port))
            return "rwkv_tts_queue_wait_seconds" + LABEL.format(queue) in crowded[-1]

        until(waits)
        job = one.queue.fetch_job(cancelled)
        assert job is not None
        job.cancel()
        send_stop_job_command(client.connection, stopped)
        for job_id in more:
            client.result(job_id, timeout=60)
        until(lambda: {one.status(late), one.status(bad)} == {JobStatus.FAILED})
        until(lambda: not one.queue.started_job_registry.get_job_ids() and not one.queue.job_ids)
        until(lambda: all_ended(scrape(one.port)))  # they are recorded, then counted
        yield Load(before, crowded[-1], scrape(one.port), ask(one.port, "/metrics")[1])


def test_every_series_is_there_from_the_start_and_moves(loaded: Load) -> None:
    before, after = loaded.before, loaded.after
    assert before.keys() >= MOVING
    assert sorted(name for name in MOVING if not after[name] > before[name]) == []
    assert before.keys() == after.keys()
    assert [
        name for name in before if name.endswith(("_total", "_count", "_sum")) and after[name] < before[name]
    ] == []


def test_gauges_show_a_crowd_and_its_end(loaded: Load) -> None:
    before, crowded, after = loaded.before, loaded.crowded, loaded.after
    rows = [f'rwkv_tts_rows{{phase="{phase}"}}' for phase in PHASES]
    depth = "rwkv_tts_queue_depth" + LABEL.format("metrics-load")
    for idle in (before, after):
        assert idle["rwkv_tts_ready"] == idle["rwkv_tts_redis_up"] == 1
    assert [after[name] for name in rows] == [0, 0, 0]
    assert after[depth] == 0
    assert 0 < sum(crowded[name] for name in rows) <= ROWS == crowded["rwkv_tts_rows_limit"]
    assert crowded[depth] > 0
    assert after["process_resident_memory_bytes"] > 50e6


def test_sums_agree_with_each_other(loaded: Load) -> None:
    after = loaded.after
    jobs = {name: after[f"rwkv_tts_jobs_{name}_total"] for name in ("claimed", "finished", "put_back", "lost")}
    failed = sum(value for name, value in after.items() if name.startswith("rwkv_tts_jobs_failed_total"))
    retried = sum(value for name, value in after.items() if name.startswith("rwkv_tts_jobs_retried_total"))
    assert jobs["claimed"] == sum(jobs.values()) - jobs["claimed"] + failed + retried
    assert jobs["finished"] == FINE == after["rwkv_tts_rtf_ratio_count"]
    assert after["rwkv_tts_sampling_seconds_total"] < after["rwkv_tts_engine_busy_seconds_total"]
    assert after["rwkv_tts_batch_rows_bucket" + '{le="4.0"}'] == after["rwkv_tts_step_seconds_count"]


def expressions() -> Iterator[str]:
    """All that dashboard and alerts ask for."""
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"])


def test_dashboard_and_alerts_ask_for_what_there_is(loaded: Load) -> None:
    present = {name.partition("{")[0] for name in loaded.after} | ON_CUDA
    labels = {pair for name in loaded.after for pair in re.findall(r'(\w+="\w+")', name)}
    asked = set()
    for expression in expressions():
        names = set(re.findall(r"\b(?:rwkv_tts|process)_\w+", expression))
        assert names, expression
        asked |= names
        own = re.findall(r'((?:stage|phase|reason|outcome)="\w+")', expression)
        assert set(own) <= labels, expression
    assert sorted(asked - present) == []
    families = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in present if name.startswith("rwkv_tts")}
    shown = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in asked}
    assert sorted(families - shown) == []  # nothing is exported for nobody


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_the_dashboard_has_what_grafana_needs(name: str) -> None:
    text = DASHBOARD.with_stem(name).read_text()
    board = json.loads(text)
    assert board["uid"]
    assert board["title"]
    assert board["schemaVersion"] >= 30
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"].endswith(("?", ", over time?", ", each?"))
        assert panel["type"] in ("timeseries", "stat")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == {variable["name"] for variable in board["templating"]["list"]}


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "worker.yml").read_text())["providers"]
    variable = json.loads(DASHBOARD.read_text())["templating"]["list"][0]
    assert source["type"] == variable["query"] == "prometheus"
    assert source["uid"] == variable["current"]["value"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_prometheus_finds_every_worker() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    job, of_gateways = config["scrape_configs"]
    assert of_gateways["dns_sd_configs"][0]["names"] == ["gateway"]
    (discovery,) = job["dns_sd_configs"]
    assert (discovery["names"], discovery["type"], discovery["port"]) == (["worker"], "A", 9100)
    assert config["rule_files"] == [ALERTS.name]
    panels = {panel["title"]: panel["targets"] for panel in json.loads(DASHBOARD.read_text())["panels"]}
    assert f'job="{job["job_name"]}"' in panels["How much CPU?"][0]["expr"]


needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """Run it on what it must accept; what it says."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_configuration_rules_and_names(loaded: Load) -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert promtool("check", "metrics", stdin=loaded.page) == ""


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """Two workers that are well, and how each alert comes about."""
    healthy = {
        'rwkv_tts_ready{instance="a"}': "1x60",
        'rwkv_tts_ready{instance="b"}': "1x60",
        'rwkv_tts_redis_up{instance="a"}': "1x60",
        'rwkv_tts_redis_memory_bytes{instance="a"}': "500x60",
        'rwkv_tts_redis_memory_limit_bytes{instance="a"}': "1000x60",
        'rwkv_tts_queue_depth{instance="a",queue="tts"}': "5x60",
        'rwkv_tts_queue_wait_seconds{instance="a",queue="tts"}': "10x60",
        'rwkv_tts_jobs_claimed_total{instance="a"}': "0+100x60",
        'rwkv_tts_jobs_failed_total{instance="a",reason="internal"}': "0+1x60",
        'rwkv_tts_jobs_failed_total{instance="a",reason="invalid"}': "0+50x60",
        'rwkv_tts_jobs_recovered_total{instance="a",outcome="put_back"}': "0x60",
        'rwkv_tts_jobs_recovered_total{instance="a",outcome="abandoned"}': "0x60",
    }
    cases: dict[str, tuple[dict[str, str | None], set[str]]] = {
        "healthy": ({}, set()),
        "one worker starts": ({'rwkv_tts_ready{instance="b"}': "0x60"}, set()),
        "all workers start": (dict.fromkeys(list(healthy)[:2], "0x60"), {"NoWorkerReady"}),
        "no worker": (dict.fromkeys(healthy), {"NoWorkerReady"}),
        "redis": ({list(healthy)[2]: "0x60", list(healthy)[5]: None, list(healthy)[6]: None}, {"RedisAway"}),
        "filling up": ({list(healthy)[3]: "500x50 850x10"}, {"RedisFillsUp"}),
        "without a limit": ({list(healthy)[4]: "0x60"}, set()),
        "long": ({list(healthy)[6]: "90x60"}, {"LongWait"}),
        "stuck": ({list(healthy)[6]: None}, {"QueueStuck"}),
        "failures": ({list(healthy)[8]: "0+10x60"}, {"Failures"}),
        "death": ({list(healthy)[10]: "0x50 3x10"}, {"WorkerDied"}),
        "deadly job": ({list(healthy)[11]: "0x50 3x10"}, {"WorkerDied", "JobsAbandoned"}),
    }
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert {"RwkvTts" + name for _, fired in cases.values() for name in fired} == set(names)
    tests = []
    for changes, fired in cases.values():
        series = {name: values for name, values in (healthy | changes).items() if values is not None}
        # ALERTS has a sample for each alert that fires; labels of the series that made it fire are dropped.
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "58m",
                        "exp_samples": [
                            {"labels": f'{{alertname="RwkvTts{name}"}}', "value": 1} for name in sorted(fired)
                        ],
                    }
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def test_a_worker_is_ready_when_it_has_spoken_and_not_while_it_drains(redis_url: str, slow_model: Path) -> None:
    with watched(redis_url, "metrics-ready", model=slow_model, max_rows=2, drain_timeout=90) as one:
        answers = one.until_ready()
        assert answers[-1] == (200, "ok\n")
        assert {status for status, _ in answers[:-1]} == {503}
        assert {reason for _, reason in answers[:-1]} <= {
            "the model is being loaded\n",
            "the model is warming up\n",
            "the worker is being registered\n",
        }
        assert scrape(one.port)["rwkv_tts_step_seconds_count"] == 0  # the warm-up is not counted
        job_id = one.client.submit(**LONG)
        until(lambda: scrape(one.port)['rwkv_tts_rows{phase="semantic"}'] == 1)
        one.local.send(signal.SIGTERM)
        until(lambda: ask(one.port, "/readyz") == (503, "draining\n"))
        assert ask(one.port, "/livez") == (200, "ok\n")
        assert scrape(one.port)["rwkv_tts_ready"] == 0
        assert one.local.wait() == ExitCode.DRAINED
        assert one.status(job_id) == JobStatus.FINISHED


def test_a_scrape_is_answered_while_redis_is_away(random_model: Path) -> None:
    with ExitStack() as server:
        url = server.enter_context(embedded_redis())
        with watched(url, "tts", model=random_model, max_rows=2) as one:
            one.until_ready()
            assert scrape(one.port)["rwkv_tts_redis_up"] == 1
            server.close()
            found = scrape(one.port)
            assert found["rwkv_tts_redis_up"] == 0
            assert not any(name.startswith("rwkv_tts_queue") for name in found)
            assert found["rwkv_tts_rows_limit"] == 2
            assert ask(one.port, "/livez") == (200, "ok\n")


def broken_model(directory: Path) -> Path:
    """One whose logits are no numbers."""
    write_random_model(directory, RandomModel(layers=1, tokenizer="bytes", eos_logit=-30.0))
    path = checkpoint_path(directory)
    weights = load_file(path)
    weights["ln_out.weight"] = torch.full_like(weights["ln_out.weight"], torch.nan)
    path.unlink()  # it is mapped into memory
    save_file(weights, path)
    return directory


def start_in_vain(url: str, queue: str, **settings: Any) -> None:
    """Start a worker that must refuse, and must not have shown itself to RQ."""
    with local_worker(Settings(queue=(queue,), **settings), url) as local:
        assert local.wait() == ExitCode.UNUSABLE
    assert Worker.count(queue=Queue(queue, connection=Redis.from_url(url))) == 0


def test_a_model_that_cannot_speak_does_not_start(
    redis_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = TTSClient(redis_url, "metrics-broken")
    job_id = client.submit("hello")
    start_in_vain(redis_url, "metrics-broken", model=broken_model(tmp_path / "model"))
    assert capfd.readouterr().err == (
        "warm-up: model: it produced logits that are not finite; the row was ended\n"
    )
    assert client.connection.lrange("rq:queue:metrics-broken", 0, -1) == [job_id.encode()]


def test_a_port_that_is_taken_does_not_start(
    redis_url: str, random_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        start_in_vain(redis_url, "metrics-taken", model=random_model, metrics_port=port)
    assert capfd.readouterr().err == (
        f"settings: metrics_host 127.0.0.1, metrics_port {port}: Address already in use; "
        "accepted: an address of this machine and a free port\n"
    )
