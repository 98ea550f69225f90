"""The series of a gateway move as requests end, and dashboards ask for no others."""

import asyncio
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from wyoming.client import AsyncTcpClient
from wyoming.event import Event

from gateway.keys import new_key
from gateways import serving
from rwkv_tts import TTSClient
from scraping import scrape
from waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"
IDLE = 2.0
SHORT = {"input": "Hello.", "max_seconds": 0.2}


def test_requests_are_counted_by_path_and_status(redis_url: str, worker: TTSClient) -> None:
    port = free_port()
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
    assert asked <= shown
    assert {_family(name) for name in shown if name.startswith("rwkv_tts")} == {
        _family(name) for name in asked if name.startswith("rwkv_tts")
    }
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert "gateway" in [name for job in jobs for config in job["dns_sd_configs"] for name in config["names"]]


def test_each_text_that_comes_in_pieces_counts_as_a_request(
    redis_url: str, worker: TTSClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway")
    keys, (key, line), port, wyoming = tmp_path / "keys", new_key("agent", voices=False), free_port(), free_port()
    keys.write_text(line)
    settings: dict[str, Any] = {"metrics_port": port, "wyoming": f"tcp://127.0.0.1:{wyoming}", "keys": keys}
    settings |= {"aliases": {"short": {"max_seconds": 0.2, "gender": "male"}}, "queue": worker.queue}
    with serving(redis_url, **settings) as url:
        url = f"{url.replace('http', 'ws')}/v1/audio/speech/stream"
        with pytest.raises(InvalidStatus) as refused:
            connect(url)
        assert refused.value.response.headers["x-request-id"]
        with connect(url, additional_headers={"authorization": f"Bearer {key}"}) as agent:
            for _ in range(2):
                say(agent, "start", voice="short")
                time.sleep(IDLE)  # of somebody who thinks
                say(agent, "text", text="One. Two.")
                say(agent, "end")
                hear(agent, "done")
            say(agent, "start", voice="nobody's", speed=7)
            hear(agent, "error")
            for last in ("cancel", None):
                say(agent, "start", voice="short")
                say(agent, "text", text="One. Two")
                hear(agent, "spoken")
                if last:
                    say(agent, last)
                    hear(agent, "done")
        asyncio.run(synthesize(wyoming))
        until(lambda: scrape(port)["rwkv_tts_gateway_open_requests"] == 0)
        found = scrape(port)
    count = "rwkv_tts_gateway_requests_total"
    counted = {name.removeprefix(count): value for name, value in found.items() if name.startswith(count)}
    stream = "/v1/audio/speech/stream"
    assert counted == {
        **{f'{{path="{stream}",status="{status}"}}': 1 for status in ("401", "400", "cancelled", "left")},
        f'{{path="{stream}",status="200"}}': 2,
        '{path="wyoming",status="200"}': 1,
        '{path="wyoming",status="400"}': 1,
    }
    assert found["rwkv_tts_gateway_first_audio_seconds_count"] == 3
    assert found["rwkv_tts_gateway_first_audio_seconds_sum"] < 2 * IDLE  # what is not there cannot be spoken
    lines = [record.getMessage() for record in caplog.records]
    written = [line.split()[1:4] for line in lines if "first after" in line]
    assert sorted(written) == sorted(
        [["WS", f"'{stream}'", f"{status},"] for status in ("401", "200", "200", "400", "cancelled", "left")]
        + [["TCP", "'wyoming'", f"{status},"] for status in ("200", "400")]
    )
    (spoken,) = (line for line in lines if "'wyoming' 200" in line)
    assert f", {2 * (2 * 4800) + 16_800} bytes, first after" in spoken


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def say(agent: ClientConnection, kind: str, **fields: Any) -> None:
    agent.send(json.dumps({"type": kind, "id": "1", **fields}))


def hear(agent: ClientConnection, kind: str) -> None:
    """Listen until a message of a type comes."""
    while isinstance(message := agent.recv(timeout=30), bytes) or json.loads(message)["type"] != kind:
        pass


async def synthesize(port: int) -> None:
    """Have a text spoken over Wyoming, and ask for something that is wrong."""
    for text in ("One. Two.", 7):
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Event("synthesize", {"text": text, "voice": {"name": "short"}}))
            while (event := await asyncio.wait_for(client.read_event(), 30)) is not None:
                if event.type in ("audio-stop", "error"):
                    break


def _family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum|total)$", "", name)


def _series(expression: str) -> list[str]:
    return re.findall(r"(?:rwkv_tts|process)_\w+", expression)
