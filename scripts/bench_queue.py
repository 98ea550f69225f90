"""Drain a queue: jobs of 5 to 10 s of speech through a real Redis, from the first enqueue to the last audio byte.

    python scripts/bench_queue.py [--device cuda] [--jobs 512] [--max-rows 512] [--model DIR] [--single 5]

Without a model directory, one of random weights is written, of the 0.4B shape with the full-size codec on a GPU
(noise, but the same work), and its utterances end at the length that each job names. Producer, Redis and worker
are processes of one machine. The breakdown says how long each stage of the worker was busy; stages overlap. Alone,
requests go one after another. The last line is JSON.
"""

import argparse
import json
import random
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import torch
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from bench_workload import LENGTHS, Workload
from make_random_model import RandomModel, write_random_model
from rwkv_tts.client import TTSClient
from rwkv_tts.results import Speech
from worker.cli.local import LocalWorker, local_worker, redis_server, wait
from worker.settings import Settings

SECONDS = (5.0, 10.0)
NO_EOS = -1000.0
STAGES = {
    "engine": "engine_busy_seconds_total",
    "engine idle": "engine_idle_seconds_total",
    "vocoder": 'stage_busy_seconds_total{stage="vocoder"}',
    "encoder": 'stage_busy_seconds_total{stage="encoder"}',
    "delivery": "delivery_seconds_total",
}


def jobs(count: int, voices: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Requests in both modes, each for a length of its own."""
    rng = random.Random(seed)  # noqa: S311 - lengths, not secrets
    texts = Workload(voices, seed).jobs(count, lengths=tuple(LENGTHS)[1:])
    return [job | {"max_seconds": round(rng.uniform(*SECONDS), 2)} for job in texts]


@contextmanager
def model_directory(given: Path | None, device: str) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with TemporaryDirectory() as folder:
        gpu = torch.device(device).type == "cuda"
        small = RandomModel(eos_logit=NO_EOS)
        published = replace(small, layers=24, width=1024, ranks=(64, 64, 32, 128), full_codec=True)
        write_random_model(Path(folder), published if gpu else small)
        yield Path(folder)


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


def drain(
    client: TTSClient, worker: LocalWorker, requests: Sequence[Mapping[str, Any]]
) -> tuple[float, list[Speech]]:
    """Enqueue all, take all; the seconds from the first to the last."""
    begin = time.perf_counter()
    ids = [client.submit(**request) for request in requests]
    spoken = [wait(client, job_id, worker) for job_id in ids]
    wall = time.perf_counter() - begin
    failed = [speech for speech in spoken if isinstance(speech, str)]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(spoken)} jobs failed, the first: {failed[0]}")
    return wall, [speech for speech in spoken if isinstance(speech, Speech)]


def measure(options: argparse.Namespace, model: Path, url: str) -> dict[str, Any]:
    settings = Settings(
        model=model, device=options.device, engine=options.engine, max_rows=options.max_rows,
        token_chunk_size=options.token_chunk_size, metrics_port=free_port(), result_ttl=600,
    )  # fmt: skip
    client = TTSClient(url, settings.queue[0])
    voices = sorted(path.name.removesuffix(".raf.json") for path in (model / "voices").glob("*.raf.json"))
    begin = time.perf_counter()
    with local_worker(settings, url) as worker:
        worker.wait_until_ready()
        ready = time.perf_counter() - begin
        runs = []
        for turn in range(options.turns + 1):  # the first is the warm-up
            before = busy(settings.metrics_port or 0)
            wall, spoken = drain(client, worker, jobs(options.jobs, voices, seed=turn))
            after = busy(settings.metrics_port or 0)
            audio = sum(speech.result.seconds for speech in spoken)
            runs.append({
                "wall": wall, "audio_seconds": audio, "audio_seconds_per_second": audio / wall,
                "bytes": sum(len(speech.audio) for speech in spoken),
                "mean_batch": statistics.mean(speech.result.mean_batch for speech in spoken),
                "busy": {stage: after[stage] - before[stage] for stage in STAGES},
            })  # fmt: skip
        alone = []
        for request in jobs(options.single, voices, seed=1000):
            wall, (speech,) = drain(client, worker, [request])
            alone.append({
                "seconds": speech.result.seconds, "rtf": wall / speech.result.seconds,
                "timings": speech.result.timings.model_dump(),
            })  # fmt: skip
    return {"ready_seconds": ready, "warm_up": runs[0], "runs": runs[1:], "alone": alone}


def show(found: Mapping[str, Any]) -> None:
    console = Console(width=110)
    console.print(f"ready after {found['ready_seconds']:.1f} s")
    table = Table("run", "audio s", "wall s", "audio s/s", "mean batch", *(f"{stage} s" for stage in STAGES))
    for name, run in [("warm-up", found["warm_up"]), *((str(i + 1), run) for i, run in enumerate(found["runs"]))]:
        table.add_row(
            name, f"{run['audio_seconds']:,.0f}", f"{run['wall']:.2f}", f"{run['audio_seconds_per_second']:,.0f}",
            f"{run['mean_batch']:.0f}", *(f"{run['busy'][stage]:.2f}" for stage in STAGES),
        )  # fmt: skip
    console.print(table)
    if found["alone"]:
        factors = [one["rtf"] for one in found["alone"]]
        console.print(
            f"one request alone, RTF from enqueue to audio bytes: median {statistics.median(factors):.4f}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--jobs", type=int, default=512)
    parser.add_argument("--max-rows", type=int, default=512)
    parser.add_argument("--token-chunk-size", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--single", type=int, default=5, help="requests that are measured alone")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        model = stack.enter_context(model_directory(options.model, options.device))
        url = stack.enter_context(redis_server(Settings()))
        found = measure(options, model, url)
    show(found)
    gpu = torch.cuda.get_device_name(options.device) if torch.device(options.device).type == "cuda" else None
    shown = {name: str(value) for name, value in vars(options).items()}
    print(json.dumps({"options": shown, "gpu": gpu, "torch": torch.__version__, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
