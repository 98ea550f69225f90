"""The services of docker-compose.yml by hand: a job goes through, and each ends as documented."""

import json
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from composed import REPOSITORY, Composed, free_ports, services
from gateway.keys import new_key
from recordings import recording
from rwkv_tts.client import TTSClient
from scraping import scrape
from waiting import until
from worker.cli.local import workers_on

pytestmark = pytest.mark.slow

pytest.importorskip("rq_dashboard", reason="no rq-dashboard: pip install -e '.[dashboard]'")

DRAINED = 0
ENDED_BY_SIGTERM = -signal.SIGTERM


def grace(name: str) -> float:
    """Seconds that Docker gives a service after SIGTERM."""
    return float(services()[name].get("stop_grace_period", "10s").removesuffix("s"))


def stop(process: "subprocess.Popen[bytes]", name: str) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=grace(name))


def answers(port: int, login: str | None = None) -> int:
    """The status with which the dashboard answers, 0 while nobody does."""
    headers = {} if login is None else {"Authorization": "Basic " + b64encode(login.encode()).decode()}
    server = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        server.request("GET", "/", headers=headers)
        return server.getresponse().status
    except ConnectionError:
        return 0
    finally:
        server.close()


def command(composed: Composed, name: str, *arguments: str) -> Any:
    """What ``rwkv-tts`` prints when it is run in the container of a service, as JSON."""
    line = [sys.executable, "-m", "worker.cli", *arguments]
    done = subprocess.run(line, env=composed.environment(name), capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture
def ports() -> dict[str, int]:
    return free_ports("redis:6379", "dashboard:9181", "worker-cpu:9100", "gateway:8000", "gateway:9100")


@pytest.fixture
def composed(tmp_path: Path, ports: dict[str, int]) -> Composed:
    return Composed(tmp_path, ports)


def test_a_job_goes_through_the_services_and_each_ends_in_time(composed: Composed, ports: dict[str, int]) -> None:
    page = ports["dashboard:9181"]
    with (
        composed.run_redis() as redis,
        composed.run("worker-cpu") as worker,
        composed.run("dashboard") as dashboard,
    ):
        admin = composed.connect("admin")
        until(lambda: worker.poll() is not None or bool(workers_on(admin, "tts")), timeout=90)
        assert worker.poll() is None, composed.log("worker-cpu").read_text()
        client = TTSClient(composed.connect("producer"))
        speech = client.result(client.submit("Hello.", seed=1, format="flac"), timeout=60)
        assert speech.audio.startswith(b"fLaC")
        assert speech.result.seconds > 0
        load = command(composed, "worker-cpu", "load")
        assert (load["workers"], load["depth"], load["estimated_wait_seconds"]) == (1, 0, 0.0)
        [tuned] = TTSClient(composed.connect("tuner")).tune(max_rows=3)
        assert (tuned.error, tuned.after and tuned.after.max_rows) == (None, 3)

        until(lambda: dashboard.poll() is not None or answers(page) != 0)
        login = composed.secret("dashboard_login")
        assert answers(page) == answers(page, "admin:wrong") == 401
        assert answers(page, f"admin:{login}") == 200
        assert composed.healthy("dashboard")

        assert stop(dashboard, "dashboard") == ENDED_BY_SIGTERM
        assert stop(worker, "worker-cpu") == DRAINED
        assert [entry["object"] for entry in admin.acl_log()] == []
        assert stop(redis, "redis") == 0
    assert not composed.healthy("dashboard")
    for name in ("redis", "worker-cpu", "dashboard"):
        written = composed.log(name).read_text()
        secrets = [composed.secret(path.name) for path in composed.secrets.iterdir()]
        assert not [secret for secret in secrets if secret in written or quote(secret, safe="") in written]


def test_a_worker_is_healthy_once_it_is_ready_and_says_what_keda_asks(
    composed: Composed, ports: dict[str, int]
) -> None:
    [series] = re.findall(
        r"query: max\((\w+)", (REPOSITORY / "deploy/kubernetes/keda/scaledobject.yaml").read_text()
    )
    assert not composed.image_healthy("worker-cpu")
    with composed.run_redis(), composed.run("worker-cpu") as worker:
        until(lambda: worker.poll() is not None or composed.image_healthy("worker-cpu"), timeout=90)
        assert worker.poll() is None, composed.log("worker-cpu").read_text()
        server = HTTPConnection("127.0.0.1", ports["worker-cpu:9100"], timeout=10)
        server.request("GET", "/metrics")
        assert f'\n{series}{{queue="tts"}} 0.0\n' in server.getresponse().read().decode()
        server.close()
        assert stop(worker, "worker-cpu") == DRAINED


def test_the_gateway_speaks_and_clones_for_whoever_has_a_key(composed: Composed, ports: dict[str, int]) -> None:
    key, line = new_key("first", voices=True)
    (composed.secrets / "gateway_keys").write_text(f"{line}\n")
    headers = {"authorization": f"Bearer {key}"}
    with composed.run_redis(), composed.run("worker-cpu") as worker, composed.run("gateway") as gateway:
        server = httpx.Client(base_url=f"http://127.0.0.1:{ports['gateway:8000']}", headers=headers, timeout=60)
        admin = composed.connect("admin")
        until(lambda: worker.poll() is not None or bool(workers_on(admin, "tts")), timeout=90)
        until(lambda: gateway.poll() is not None or composed.healthy("gateway"))
        assert gateway.poll() is None, composed.log("gateway").read_text()
        for audio_format in ("mp3", "wav"):  # while it is made, and whole
            body = {"input": "Hello.", "response_format": audio_format}
            assert server.post("/v1/audio/speech", json=body).status_code == 200
        form = {"name": "anna", "consent": "true"}
        assert server.post("/v1/voices", data=form, files={"recording": recording(1)}).status_code == 201
        assert server.delete("/v1/voices/anna").status_code == 200
        with server.stream("POST", "/v1/audio/speech", json={"input": 40 * "One two three. "}) as answer:
            assert answer.status_code == 200  # and goes away
        assert server.post("/v1/audio/speech", json={}, headers={"authorization": "Bearer x"}).status_code == 401
        until(lambda: scrape(ports["gateway:9100"])["rwkv_tts_gateway_first_audio_seconds_count"] >= 2)
        assert stop(gateway, "gateway") in (0, ENDED_BY_SIGTERM)
        assert [entry["object"] for entry in admin.acl_log()] == []
        assert stop(worker, "worker-cpu") == DRAINED
    assert key not in composed.log("gateway").read_text()


def test_jobs_outlive_the_server(composed: Composed) -> None:
    with composed.run_redis() as redis:
        job_id = TTSClient(composed.connect("producer")).submit("kept")
        time.sleep(1.1)  # appendfsync everysec
        redis.kill()
        redis.wait()
    with composed.run_redis() as redis:
        assert composed.connect("admin").lrange("rq:queue:tts", 0, -1) == [job_id.encode()]
        assert stop(redis, "redis") == 0


def test_a_role_without_a_password_does_not_start(composed: Composed) -> None:
    (composed.secrets / "redis_worker").write_text("")
    with composed.run("redis") as redis:
        assert redis.wait(timeout=10) != 0
    assert "redis_worker: empty" in composed.log("redis").read_text()


@pytest.mark.redis_cli
def test_the_health_check_of_redis_logs_in(composed: Composed) -> None:
    assert not composed.healthy("redis")
    with composed.run_redis():
        until(lambda: composed.healthy("redis"))
        (composed.secrets / "redis_admin").write_text("another\n")
        assert not composed.healthy("redis")
