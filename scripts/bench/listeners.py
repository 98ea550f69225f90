"""Measure streams: how soon they are heard, and whether anybody who listens has to wait.

    python scripts/bench listeners [--rates 1,10,20] [--seconds 20] [--together 64] [--long 3000] [--beside 50]

Streams arrive at random (Poisson) at each rate for some seconds, in a stored voice and as PCM, each of at most
``--speech`` seconds; then ``--together`` of them at once. First audio is from submit to the first samples in the
client's hands. A listener who begins at once waits when all that has come is heard: a stream's worst gap is its
longest such wait, and C100 is the share of streams whose worst gap is at most 100 ms.

``--long``: a text of so many characters as one job, and its parts as jobs of their own, in turns: the ratio of the
wall times. ``--beside`` instead of all that: so many short jobs, one after another, then as many as there is time
for while a text of ``--long`` characters is spoken; the worker's memory meanwhile, and that of Redis. What a book
of a million characters needs is shown by a small model of random weights, which ``eos_guard`` makes speak:

    python scripts/make_random_model.py FAST --layers 1 --width 64 --ffn 64 --ranks 8 8 8 8 --eos-logit 20
    python scripts/bench listeners --model FAST --long 1000000 --beside 500

Every stream has a thread of its own here, on the machine of the worker. The last line is JSON.
"""

import argparse
import json
import random
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.arguments import at_least, command_line, numbers
from bench.figures import percentiles
from bench.machine import machine, told
from bench.usage import MEGABYTE, Watch, gpu_name
from bench.workload import SENTENCES, Workload
from rwkv_tts import TTSClient
from worker.cli.local import local_worker, redis_server
from worker.settings import DEFAULT_MODEL, Settings

_BYTES_PER_SECOND = 32_000
_C_SECONDS = 0.1
_PARAGRAPH = 8
"""Sentences."""


@dataclass
class Heard:
    """What a listener saw of one stream; seconds."""

    first: float = 0.0
    worst_gap: float = 0.0
    between: tuple[float, ...] = ()
    audio: float = 0.0
    error: str = ""


def listen(client: TTSClient, request: dict[str, Any]) -> Heard:
    """Hear one stream as somebody would who plays it at once."""
    start = time.perf_counter()
    came, sizes = [], []
    try:
        with client.stream(**request) as pieces:
            for piece in pieces:
                came.append(time.perf_counter())
                sizes.append(len(piece) / _BYTES_PER_SECOND)
    except Exception as error:  # noqa: BLE001 - it is one of the figures
        return Heard(error=f"{type(error).__name__}: {error}")
    dry, gaps = came[0], [0.0]
    for moment, seconds in zip(came, sizes, strict=True):
        gaps.append(max(0.0, moment - dry))
        dry = max(dry, moment) + seconds
    between = tuple(later - earlier for earlier, later in pairwise(came))
    return Heard(came[0] - start, max(gaps), between, sum(sizes))


def figures(heard: Sequence[Heard]) -> dict[str, Any]:
    """Milliseconds of first audio and of the worst gaps, and the share of streams without a wait."""
    good = [one for one in heard if not one.error]
    first, gaps = [1000 * one.first for one in good], [1000 * one.worst_gap for one in good]
    between = [1000 * step for one in good for step in one.between] or [0.0]
    return {
        "streams": len(heard),
        "failed": len(heard) - len(good),
        "first_ms": percentiles(first),
        "between_ms": percentiles(between),
        "worst_gap_ms": percentiles(gaps),
        "c100": round(sum(gap <= 1000 * _C_SECONDS for gap in gaps) / max(1, len(gaps)), 4),
        "audio_s": round(sum(one.audio for one in good), 1),
    }


def arrivals(client: TTSClient, requests: Sequence[dict[str, Any]], rate: float | None) -> list[Heard]:
    """All streams: at random at a rate, all at once for a rate of None, or one after another for a rate of 0."""
    if rate == 0:
        return [listen(client, request) for request in requests]
    chance, heard, threads = random.Random(0), [Heard() for _ in requests], []  # noqa: S311 - arrivals

    def hear(number: int) -> None:
        heard[number] = listen(client, requests[number])

    for number in range(len(requests)):
        threads.append(threading.Thread(target=hear, args=(number,)))
        threads[-1].start()
        if rate is not None:
            time.sleep(chance.expovariate(rate))
    for thread in threads:
        thread.join()
    return heard


def long_text(characters: int) -> str:
    """About so many characters, in paragraphs."""
    count = characters * len(SENTENCES) // sum(len(sentence) + 1 for sentence in SENTENCES)
    sentences = [SENTENCES[i % len(SENTENCES)] for i in range(count)]
    return "\n\n".join(" ".join(sentences[i : i + _PARAGRAPH]) for i in range(0, count, _PARAGRAPH))


def beside(client: TTSClient, voice: str, characters: int, count: int, watch: Watch) -> dict[str, Any]:
    """Short jobs one after another: alone, and beside a long text."""
    request: dict[str, Any] = {"voice": voice, "eos_guard": "rwkv-tts-rs"}

    def wait(number: int) -> float:
        start = time.perf_counter()
        client.result(client.submit(SENTENCES[0], seed=number, **request), keep=False)
        return 1000 * (time.perf_counter() - start)

    alone = [wait(number) for number in range(count)]
    text, times, redis = long_text(characters), list[float](), list[float]()
    with ThreadPoolExecutor(1) as pool, watch:
        start = time.perf_counter()
        job = client.submit(text, seed=1, format="opus", timestamps=True, **request)
        spoken = pool.submit(client.result, job, keep=False)
        while not spoken.done():
            times.append(wait(len(times)))
            redis.append(client.connection.info("memory")["used_memory"] / MEGABYTE)
        wall = time.perf_counter() - start
    memory, result = [megabytes for _, megabytes in watch.usage.memory], spoken.result().result
    return {
        "characters": len(text),
        "parts": len(result.parts or ()),
        "audio_s": round(result.seconds, 1),
        "file_mb": round(len(spoken.result().audio) / MEGABYTE, 1),
        "wall_s": round(wall, 1),
        "short": len(times),
        "short_alone_ms": percentiles(alone),
        "short_beside_ms": percentiles(times),
        "short_beside_by_quarters_ms": [percentiles(list(quarter)) for quarter in np.array_split(times, 4)],
        "memory_mb": [round(memory[i * (len(memory) - 1) // 8]) for i in range(9)],
        "memory_most_mb": round(max(memory)),
        "redis_most_mb": round(max(redis)),
    }


def book(client: TTSClient, characters: int, seed: int) -> dict[str, float]:
    """A long text as one job, and its parts as jobs of their own."""
    text = long_text(characters)
    ratios, walls = [], []
    for _ in range(2):
        start = time.perf_counter()
        result = client.result(client.submit(text, seed=seed, timestamps=True, gender="female"), keep=False).result
        whole = time.perf_counter() - start
        parts = [text[slice(*part.text)] for part in result.parts or ()]
        start = time.perf_counter()
        seconds = sum(
            client.result(job, keep=False).result.seconds
            for job in [client.submit(part, seed=seed, gender="female") for part in parts]
        )
        ratios.append((whole / result.seconds) / ((time.perf_counter() - start) / seconds))
        walls.append(whole)
    return {
        "characters": len(text),
        "parts": len(parts),
        "audio_s": round(result.seconds, 1),
        "wall_s": round(statistics.median(walls), 2),
        "wall_per_audio_beside_separate_jobs": round(statistics.median(ratios), 3),
    }


def streams(client: TTSClient, workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """All that is asked for of listeners."""
    found: dict[str, Any] = {}

    def requests(count: int) -> list[dict[str, Any]]:
        jobs = workload.jobs(count, lengths=("medium",), modes=("zero-shot",))
        return [{**job, "format": "pcm", "max_seconds": options.speech} for job in jobs]

    arrivals(client, requests(4), 0)
    found["alone"] = figures(arrivals(client, requests(options.alone), 0))
    print(f"alone: {found['alone']}")
    for rate in options.rates:
        count = max(1, round(rate * options.seconds))
        found[f"rate {rate:g}"] = figures(arrivals(client, requests(count), rate))
        print(f"rate {rate:g}/s: {found[f'rate {rate:g}']}")
    for count in options.together:
        found[f"together {count}"] = figures(arrivals(client, requests(count), None))
        print(f"{count} at once: {found[f'together {count}']}")
    if options.long:
        found["long"] = book(client, options.long, 1)
        print(f"long text: {found['long']}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("listeners", __doc__)
    add = parser.add_argument
    add("--model", type=Path, default=DEFAULT_MODEL, help="model directory")
    add("--device", default="cpu", help="torch device of the worker")
    add("--max-rows", type=at_least(1))
    add("--rates", type=numbers(float), default=[0.5], help="streams a second")
    add("--seconds", type=at_least(0.1), default=20.0, help="of arrivals at each rate")
    add("--speech", type=at_least(0.1), default=4.0, help="seconds of each stream at most")
    add("--alone", type=at_least(1), default=12, help="streams one after another")
    add("--together", type=numbers(int), default=[2], help="streams that begin at once")
    add("--long", type=at_least(0), default=0, help="characters of a long text")
    add("--beside", type=at_least(0), default=0, help="short jobs alone, then beside the long text; no streams")
    options = parser.parse_args(arguments)
    rows = {} if options.max_rows is None else {"max_rows": options.max_rows}
    settings = Settings(model=options.model, device=options.device, log_level="WARNING", **rows)
    voices = sorted(path.name.removesuffix(".raf.json") for path in (settings.model / "voices").glob("*.raf.json"))
    about = machine(gpu_name(settings.device))
    print(told(about))
    found: dict[str, Any] = {"machine": about, "speech": options.speech}

    with redis_server(settings) as url, local_worker(settings, url) as worker:
        worker.wait_until_ready()
        client = TTSClient(url, settings.queue[0])
        if options.beside:
            watch = Watch(worker.pid, settings.device)
            found["beside"] = beside(client, voices[0], options.long, options.beside, watch)
            print(f"short jobs beside a long text: {found['beside']}")
        else:
            found |= streams(client, Workload(voices, 0), options)
    print(json.dumps(found))
    return 0
