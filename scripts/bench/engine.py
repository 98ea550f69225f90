"""Measure the language model's engine: decode steps, prefill, chunk sizes, and both at once.

    python scripts/bench engine [--device cuda] [--engine reference] [--batch 1,8,64] [--vs eager,compile]
    python scripts/bench engine --device cpu [--engine reference] [--vs rwkv]
    python scripts/bench engine --device cpu --model assets/demo-voice --batch 1,2,4,8,16,32 --repeats 50

The weights are random, of the 0.4B shape on a GPU (24 x 1024) and of the 0.1B shape on a CPU (12 x 768), or those
of a model directory. Sampling is part of every step. On a GPU, milliseconds are the device's, medians of steps
that follow one another; ``wall`` is that of the whole engine, host included, and on a CPU there is nothing else.
For it the numbers of rows take turns, forwards and backwards, and the best turn of each is taken, so that other
load hits all alike; neither prefill nor the end of a row counts. ``gain`` is the throughput over that of the first
number of rows. The floor is what reading weights and states takes at the copy bandwidth, or the products at the
matrix rate, whichever is more. The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from batching.engine import Engine
from batching.row import Row
from bench.arguments import at_least, command_line, numbers
from bench.decoding import Subject, endless_rows, random_subject, stored_subject
from bench.device import DeviceBench, floor_milliseconds
from bench.machine import machine, told
from bench.rivals import compare
from bench.timing import WARM_UP, there_and_back, warm_up_steps
from model.native.forward import NativeRWKV7
from model.rwkv7 import RWKV7
from sampler.decoding import Phase
from sampler.layout import TokenLayout
from worker.speech.config import ModelError

TOKENS_PER_SECOND = 50
PREFILLS = ((1, 256), (8, 128), (64, 128))
CHUNKS = (32, 64, 128, 256, 512, 1024)
MIXED_ROWS = 64


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        kind: decode, prefill, chunk or mixed.
        rows: That decode, or are prefilled.
        tokens: Fed in a step.
        milliseconds: Of a step.
        wall: Of a step of the engine, milliseconds; None where it was not measured.
        floor: Share of the milliseconds that the device cannot do without; None on a CPU.
        allocations: On the device, in a step of the engine.
    """

    kind: str
    rows: int
    tokens: int
    milliseconds: float
    wall: float | None = None
    floor: float | None = None
    allocations: float | None = None

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return 1000 * self.tokens / self.milliseconds


class EngineBench:
    """Times steps of the whole engine on the wall clock."""

    def __init__(self, engine: Engine, layout: TokenLayout, device: torch.device) -> None:
        self._engine, self._layout, self._device = engine, layout, device

    def decodes(self, batches: Sequence[int], repeats: int, turns: int) -> dict[int, tuple[float, float]]:
        """For each number of rows, milliseconds of a step in the best turn, and device allocations in one."""
        best = dict.fromkeys(batches, (float("inf"), 0.0))
        for rows in there_and_back(batches, turns):
            best[rows] = min(best[rows], self._decode(rows, repeats))
        return best

    def chunk(self, size: int, rows: int, prompt: int) -> Point:
        """Steps that prefill ``rows`` prompts by so many tokens."""
        self._engine.scheduler.token_chunk_size = size
        begin = time.perf_counter()
        steps = self._prefill(endless_rows(self._layout, rows, prompt, tokens=2))
        self._drain()
        return Point("chunk", rows, size, 1000 * (time.perf_counter() - begin) / steps)

    def _decode(self, rows: int, steps: int) -> tuple[float, float]:
        warm_up = warm_up_steps(self._device)
        self._prefill(endless_rows(self._layout, rows, prompt=4, tokens=steps + 3 * WARM_UP))
        for _ in range(warm_up):
            self._engine.step()
        before = self._allocations()
        begin = time.perf_counter()
        for _ in range(steps):
            self._engine.step()
        wall = time.perf_counter() - begin
        made = self._allocations() - before
        self._drain()
        return 1000 * wall / steps, made / steps

    def _prefill(self, rows: Sequence[Row]) -> int:
        """Feed all prompts; the number of steps."""
        for row in rows:
            self._engine.add(row)
        steps = 0
        while any(row.decoding.phase is Phase.PREFILL for row in rows):
            self._engine.step()
            steps += 1
        return steps

    def _drain(self) -> None:
        for row in list(self._engine.scheduler.running):
            self._engine.scheduler.cancel(row.key)
        while len(self._engine.scheduler):
            self._engine.step()

    def _allocations(self) -> int:
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.memory_stats(self._device)["allocation.all.allocated"])


def measure_cuda(options: argparse.Namespace, subject: Subject, device: torch.device) -> dict[str, Any]:
    from model.fast.forward import FastRWKV7

    model = FastRWKV7(subject.checkpoint, device, subject.layout.head_size)
    slots = max([*options.batch, MIXED_ROWS + 1])
    bench = DeviceBench(model, slots, max(CHUNKS))
    points = device_points(bench, options.batch, options.repeats)
    measured = {
        "capture_seconds": bench.capture_seconds,
        "profile": {rows: bench.profile(rows) for rows in options.profile},
    }
    del bench
    torch.cuda.empty_cache()
    whole = EngineBench(Engine(model, subject.layout, slots, max(CHUNKS)), subject.layout, device)
    walls = whole.decodes(options.batch, options.repeats, options.turns)
    for i, p in enumerate(points):
        draws = p.rows if p.kind != "mixed" else 0
        least = floor_milliseconds(model.sizes, model.parameters, p.rows, p.tokens, draws)
        points[i] = replace(p, floor=least / p.milliseconds if draws else None)
        if p.kind == "decode":
            wall, made = walls[p.rows]
            points[i] = replace(points[i], wall=wall, allocations=made)
    return measured | {"points": points + [whole.chunk(size, rows=64, prompt=128) for size in CHUNKS]}


def device_points(bench: DeviceBench, batches: Sequence[int], repeats: int) -> list[Point]:
    """Steps that decode, prefill, and do both, by the device's clock."""
    fewer = max(10, repeats // 3)
    points = [Point("decode", rows, rows, bench.milliseconds([1] * rows, rows, repeats)) for rows in batches]
    points += [
        Point("prefill", rows, rows * length, bench.milliseconds([length] * rows, rows, fewer))
        for rows, length in PREFILLS
    ]
    for chunk in CHUNKS:
        taken = bench.milliseconds([1] * MIXED_ROWS + [chunk], MIXED_ROWS, fewer)
        points.append(Point("mixed", MIXED_ROWS, MIXED_ROWS + chunk, taken))
    return points


def plain_model(options: argparse.Namespace, subject: Subject, device: torch.device) -> RWKV7 | NativeRWKV7:
    """A forward whose steps are there when it returns."""
    if options.engine == "native":
        model = NativeRWKV7(subject.checkpoint, subject.layout.head_size)
        model.use(options.threads)
        return model
    return RWKV7(subject.checkpoint, device, subject.layout.head_size, int8=options.engine == "int8")


def measure_plain(options: argparse.Namespace, subject: Subject, device: torch.device) -> dict[str, Any]:
    model = plain_model(options, subject, device)
    whole = EngineBench(Engine(model, subject.layout, max(options.batch), 256), subject.layout, device)
    walls = whole.decodes(options.batch, options.repeats, options.turns)
    points = [Point("decode", n, n, wall, wall=wall, allocations=made) for n, (wall, made) in walls.items()]
    chunks = [size for size in CHUNKS if size <= options.longest_chunk]
    points += [whole.chunk(size, rows=1, prompt=256) for size in chunks]
    return {"capture_seconds": 0.0, "profile": {}, "points": points}


def show(points: Sequence[Point], others: Sequence[dict[str, Any]]) -> None:
    heads = ("kind", "rows", "tokens", "ms", "tokens/s", "audio s/s", "gain", "% floor", "wall ms", "allocations")
    table = Table(*heads)
    for p in points:
        decodes = p.kind == "decode"
        table.add_row(
            p.kind, str(p.rows), str(p.tokens), f"{p.milliseconds:.3f}", f"{p.rate:,.0f}",
            f"{p.rate / TOKENS_PER_SECOND:,.1f}" if decodes else "",
            f"{p.rate / points[0].rate:.2f}" if decodes else "",
            "" if p.floor is None else f"{100 * p.floor:.0f}", "" if p.wall is None else f"{p.wall:.3f}",
            "" if p.allocations is None else f"{p.allocations:.1f}",
        )  # fmt: skip
    console = Console(width=110)
    console.print(table)
    ours = {p.rows: p.milliseconds for p in points if p.kind == "decode"}
    for other in others:
        shown = other.get("error", f"{other.get('milliseconds', 0):.2f} ms")
        ratio = f", {other['milliseconds'] / ours[other['rows']]:.2f} x ours" if "milliseconds" in other else ""
        console.print(f"{other['name']}, {other['rows']} rows: {shown}{ratio}", highlight=False)


def show_profile(profile: dict[int, dict[str, tuple[float, float]]]) -> None:
    for rows, kernels in profile.items():
        total = sum(taken for _, taken in kernels.values())
        print(f"decode step of {rows} rows: {total:.0f} us in kernels")
        for name, (count, taken) in sorted(kernels.items(), key=lambda item: -item[1][1]):
            print(f"  {taken:8.1f} us  {count:6.1f} x {taken / count:6.2f} us  {name[:80]}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_line("engine", __doc__)
    add = parser.add_argument
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--engine", choices=("cuda", "native", "reference", "int8"), help="native on a CPU, else cuda")
    add("--model", type=Path, help="a model directory, in place of random weights of the next two sizes")
    add("--layers", type=at_least(1))
    add("--width", type=at_least(64))
    add("--batch", type=numbers(int), help="rows that decode; the first is compared with")
    add("--repeats", type=at_least(1), help="steps of each measurement")
    add("--turns", type=at_least(1), default=3, help="measurements of the whole engine, of each number of rows")
    add("--threads", type=at_least(1), default=1, help="on a CPU")
    add("--longest-chunk", type=at_least(1), default=256, help="of those that the reference prefills with")
    add("--profile", type=numbers(int), default=[], help="rows whose decode step is listed by kernel")
    add("--vs", type=lambda text: text.split(","), default=[], help="of eager, compile, rwkv")
    add("--vs-batch", type=numbers(int))
    options = parser.parse_args(arguments)
    gpu = torch.device(options.device).type == "cuda"
    options.engine = options.engine or ("cuda" if gpu else "native")
    options.layers = options.layers or (24 if gpu else 12)
    options.width = options.width or (1024 if gpu else 768)
    options.batch = options.batch or ([1, 2, 4, 8, 16, 32, 64, 128, 256, 512] if gpu else [1, 8])
    options.repeats = options.repeats or (100 if gpu else 10)
    options.vs_batch = options.vs_batch or ([1, 64, 512] if gpu else [1, 8])
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        subject = stored_subject(options.model) if options.model else random_subject(options.layers, options.width)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with torch.inference_mode():
        measured = (measure_cuda if options.engine == "cuda" else measure_plain)(options, subject, device)
        others = compare(options.vs, subject.checkpoint, options.vs_batch, options.repeats, device)
    about = machine(torch.cuda.get_device_name(device) if device.type == "cuda" else None)
    about |= {"device": str(device), "threads": options.threads}
    sizes = subject.checkpoint.sizes
    print(f"{told(about)}; {sizes.layers} layers x {sizes.width}, engine {options.engine}")
    show(measured["points"], others)
    show_profile(measured["profile"])
    line = {
        "machine": about,
        "model": {"layers": sizes.layers, "width": sizes.width, "engine": options.engine},
        **measured,
        "points": [asdict(point) | {"tokens_per_second": point.rate} for point in measured["points"]],
        "vs": others,
    }
    print(json.dumps(line))
    return 0
