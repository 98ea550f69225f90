"""The images are built, and the services of docker-compose.yml run as containers; podman stands in for Docker."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from composed import free_ports
from containers import Containers, declared
from engine import engine, missing
from rwkv_tts.client import TTSClient
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.skipif(bool(missing()), reason=missing())]

pytest.importorskip("podman_compose", reason="no podman-compose: pip install podman-compose")

NAMES = ("redis", "worker-cpu", "gateway", "dashboard")
ENDED_BY_SIGTERM = 128 + signal.SIGTERM


@pytest.fixture
def ports() -> dict[str, int]:
    return free_ports("gateway:8000", "dashboard:9181")


@pytest.fixture
def containers(tmp_path: Path, ports: dict[str, int]) -> Iterator[Containers]:
    with engine() as podman:
        services = Containers(podman, tmp_path, ports)
        services.build_redis()
        services.build("gateway", "worker-cpu")
        with services.running():
            yield services


def test_the_images_run_as_the_compose_file_says(containers: Containers, ports: dict[str, int]) -> None:
    for name in NAMES:
        containers.start(name)
        assert containers.writable(name) == declared(name)
    client = TTSClient(containers.connect("producer"))
    speech = client.result(client.submit("Hello.", seed=1, format="flac"), timeout=60)
    assert speech.audio.startswith(b"fLaC")
    assert json.loads(containers.do("worker-cpu", "rwkv-tts", "load"))["workers"] == 1
    _speaks(f"http://127.0.0.1:{ports['gateway:8000']}", containers.secret("gateway_key"))
    _asks_for_a_login(f"http://127.0.0.1:{ports['dashboard:9181']}", containers.secret("dashboard_login"))

    long = client.submit(100 * "One two three four. ", seed=1)  # for seconds
    admin = containers.connect("admin")
    until(lambda: admin.zcard("rq:wip:tts") == 1)
    assert containers.stop("worker-cpu") == 0
    assert client.result(long, timeout=5).result.seconds > 10  # SIGTERM came first
    assert "WARNING" not in containers.log("worker-cpu")
    assert [entry["object"] for entry in admin.acl_log()] == []
    assert containers.stop("gateway") == containers.stop("dashboard") == ENDED_BY_SIGTERM
    assert containers.stop("redis") == 0


def _speaks(gateway: str, key: str) -> None:
    """A keyed caller gets audio, whole and while it is made; others do not."""
    with httpx.Client(base_url=gateway, headers={"authorization": f"Bearer {key}"}, timeout=60) as server:
        for audio_format in ("mp3", "wav"):
            answer = server.post("/v1/audio/speech", json={"input": "Hello.", "response_format": audio_format})
            assert (answer.status_code, len(answer.content) > 1000) == (200, True)
        assert server.post("/v1/audio/speech", json={}, headers={"authorization": "Bearer x"}).status_code == 401


def _asks_for_a_login(dashboard: str, password: str) -> None:
    for login, status in ((None, 401), (("admin", "wrong"), 401), (("admin", password), 200)):
        assert httpx.get(dashboard, auth=login).status_code == status
