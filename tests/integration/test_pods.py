"""The pods of deploy/kubernetes by hand: probes say what they should, and each ends in the time that it has."""

import signal
from pathlib import Path

import httpx
import pytest
from redis import Redis

from composed import Composed, free_ports
from gateway.keys import new_key
from pods import Pod
from rwkv_tts import TTSClient
from waiting import until

pytestmark = pytest.mark.slow

OK, AWAY = 200, 503
TEXT = "This is one of many sentences, and none of them is short. " * 48
"""Three minutes, which are not spoken before anybody looks, and are within the time to end."""


@pytest.fixture
def composed(tmp_path: Path) -> Composed:
    """The Redis of the compose file, which stands for one outside the cluster."""
    return Composed(tmp_path, free_ports("redis:6379"))


def secret(composed: Composed, role: str) -> dict[str, str]:
    """Of a role, as docs/kubernetes.md makes it."""
    _, _, where = composed.redis_url(role).partition("@")
    return {"url": f"redis://{role}@{where}", "password": composed.secret(f"redis_{role}")}


def test_a_worker_is_ready_while_it_takes_jobs_and_finishes_what_runs(composed: Composed, tmp_path: Path) -> None:
    ports = {9100: free_ports("worker:9100")["worker:9100"]}
    pod = Pod("rwkv-tts-worker", tmp_path, {"redis-worker": secret(composed, "worker")}, ports)
    assert pod.probe("startup") == 0
    with pod.run() as process:
        with composed.run_redis():
            until(lambda: process.poll() is not None or pod.probe("startup") == OK, 120)
            assert process.poll() is None, pod.log.read_text()
            until(lambda: process.poll() is not None or pod.probe("readiness") == OK, 90)
        until(lambda: pod.probe("readiness") == AWAY)
        until(lambda: pod.probe("liveness") == OK)
        with composed.run_redis():
            client = TTSClient(composed.connect("producer"))
            until(lambda: pod.probe("readiness") == OK)
            job_id = client.submit(TEXT)
            until(lambda: status(client.connection, job_id) == b"started")
            process.send_signal(signal.SIGTERM)
            until(lambda: process.poll() is not None or pod.probe("readiness") == AWAY)
            until(lambda: process.poll() is not None or pod.probe("liveness") == OK)
            assert process.poll() is None, "it had a job to finish"
            assert process.wait(timeout=pod.grace) == 0
            assert status(client.connection, job_id) in (b"finished", b"queued")
            assert client.connection.zcard("rq:started:tts") == 0
            assert [entry["object"] for entry in composed.connect("admin").acl_log()] == []


def status(connection: Redis, job_id: str) -> bytes | None:
    found: bytes | None = connection.hget(f"rq:job:{job_id}", "status")  # type: ignore[assignment]
    return found


def test_a_gateway_answers_its_probes_without_a_worker_and_ends_in_time(
    composed: Composed, tmp_path: Path
) -> None:
    ports = free_ports("8000", "9100")
    key, line = new_key("first", voices=False)
    secrets = {"redis-voices": secret(composed, "voices"), "gateway-keys": {"keys": f"{line}\n"}}
    pod = Pod("rwkv-tts-gateway", tmp_path, secrets, {int(name): port for name, port in ports.items()})
    with composed.run_redis(), pod.run() as process:
        until(lambda: process.poll() is not None or pod.probe("startup") == OK, 60)
        assert process.poll() is None, pod.log.read_text()
        until(lambda: (pod.probe("liveness"), pod.probe("readiness")) == (OK, OK))
        server = httpx.Client(base_url=f"http://127.0.0.1:{ports['8000']}", timeout=30)
        headers = {"authorization": f"Bearer {key}"}
        assert server.post("/v1/audio/speech", json={"input": "Hello."}).status_code == 401
        assert server.get("/v1/voices", headers=headers).status_code == 200
        assert server.get("/readyz", headers=headers).status_code == AWAY
        assert httpx.get(f"http://127.0.0.1:{ports['9100']}/metrics").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=pod.grace) in (0, -signal.SIGTERM)
