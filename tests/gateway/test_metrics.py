"""The series of a gateway move as requests end, and dashboards ask for no others."""

import json
import re
import socket
from pathlib import Path

import httpx
import yaml

from gateways import serving
from rwkv_tts import TTSClient
from scraping import scrape
from waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
SHORT = {"input": "Hello.", "max_seconds": 0.2}


def test_requests_are_counted_by_path_and_status(redis_url: str, worker: TTSClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(redis_url, queue=worker.queue, metrics_port=port) as url:
        for body in (SHORT, {}):
            httpx.post(f"{url}/v1/audio/speech", json=body)
        httpx.get(f"{url}/v1/models/tts-1")
        httpx.get(f"{url}/nowhere")
        until(lambda: scrape(port)["rwkv_tts_gateway_open_requests"] == 0)  # answers are sent, then counted
        found = scrape(port)
    count = "rwkv_tts_gateway_requests_total"
    assert found[f'{count}{{path="/v1/audio/speech",status="200"}}'] == 1
    assert found[f'{count}{{path="/v1/audio/speech",status="400"}}'] == 1
    assert found[f'{count}{{path="/v1/models/{{model}}",status="200"}}'] == 1
    assert found[f'{count}{{path="other",status="404"}}'] == 1
    assert found["rwkv_tts_gateway_first_audio_seconds_count"] == 1
    board = json.loads((DEPLOY / "grafana/dashboards/gateway.json").read_text())
    asked = {name for panel in board["panels"] for target in panel["targets"] for name in _series(target["expr"])}
    shown = {name.partition("{")[0] for name in found}
    assert asked
    assert asked <= shown
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert "gateway" in [name for job in jobs for config in job["dns_sd_configs"] for name in config["names"]]


def _series(expression: str) -> list[str]:
    return re.findall(r"(?:rwkv_tts|process)_\w+", expression)
