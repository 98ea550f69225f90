"""How long each stage of a worker has worked, as its own metrics say."""

import socket
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

STAGES = {
    "engine": "engine_busy_seconds_total",
    "engine idle": "engine_idle_seconds_total",
    "vocoder": 'stage_busy_seconds_total{stage="vocoder"}',
    "encoder": 'stage_busy_seconds_total{stage="encoder"}',
    "delivery": "delivery_seconds_total",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def busy(port: int) -> dict[str, float]:
    """Seconds that each stage has worked until now."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        page = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name.removeprefix("rwkv_tts_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return {stage: found[name] for stage, name in STAGES.items()}
