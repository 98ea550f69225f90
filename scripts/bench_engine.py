"""Measure the language model's engine: decode steps, prefill, chunk sizes, and both at once.

    python scripts/bench_engine.py [--device cuda] [--engine reference] [--batch 1,8,64] [--vs eager,compile]
    python scripts/bench_engine.py --device cpu [--vs rwkv]

The weights are random, of the 0.4B shape on a GPU (24 x 1024) and of the 0.1B shape on a CPU (12 x 768). Sampling
is part of every step. On a GPU, milliseconds are the device's, medians of steps that follow one another; ``wall``
is that of the whole engine, host included. The floor is what reading weights and states takes at the copy
bandwidth, or the products at the matrix rate, whichever is more. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from batching.engine import Engine
from batching.row import Row
from bench_engine_vs import compiled_step, eager_step, package_decode
from make_random_model import RandomModel, random_checkpoint
from model.checkpoint import Checkpoint, Sizes
from model.rwkv7 import RWKV7
from sampler.decoding import Decoding, Phase

TOKENS_PER_SECOND = 50
BYTES_PER_SECOND = 4.3e12
FLOPS_PER_SECOND = 790e12
WARM_UP = 10
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


class Endless(Decoding):
    """A decoding that EOS does not end."""

    def accept(self, token: int) -> None:
        super().accept(min(token, self.layout.eos - 1))


def random_model(layers: int, width: int) -> tuple[RandomModel, Checkpoint]:
    options = RandomModel(layers=layers, width=width, ranks=(64, 64, 32, 128), dtype="fp16")
    raw = random_checkpoint(options.sizes(), options.seed)
    flat = {n: t.flatten() if t.ndim == 3 or n.endswith("r_k") else t for n, t in raw.items()}
    return options, Checkpoint({name: t.half().float() for name, t in flat.items()}, options.sizes())


def endless_rows(options: RandomModel, count: int, prompt: int, tokens: int) -> list[Row]:
    layout = options.layout()
    voice = range(layout.globals_per_voice)
    return [
        Row(
            str(seed),
            Endless(layout, [(7919 * seed + i) % 1000 for i in range(prompt)], voice, seed, tokens, tokens + 1),
        )
        for seed in range(count)
    ]


def floor_milliseconds(sizes: Sizes, parameters: int, rows: int, tokens: int, draws: int) -> float:
    """What one step takes at least, in float16."""
    weights = parameters - sizes.vocabulary * sizes.width
    head = sizes.head_rows * sizes.width
    state = sizes.layers * (sizes.width * 64 + 2 * sizes.width)
    bytes_ = 2 * weights + 2 * 2 * rows * state + 4 * draws * sizes.head_rows
    flops = 2 * ((weights - head) * tokens + head * draws)
    return 1000 * max(bytes_ / BYTES_PER_SECOND, flops / FLOPS_PER_SECOND)


def median_milliseconds(step: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Of steps that follow one another without a pause; by the device's clock on a GPU."""
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        step()
    if device.type != "cuda":
        begins = [time.perf_counter()]
        for _ in range(repeats):
            step()
            begins.append(time.perf_counter())
        return 1000 * statistics.median(b - a for a, b in pairwise(begins))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]  # type: ignore[no-untyped-call]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize(device)
    return float(statistics.median(a.elapsed_time(b) for a, b in pairwise(marks)))


class DeviceBench:
    """Times single steps of the fast engine, as its graphs or without one."""

    def __init__(self, model: Any, slots: int, chunk: int) -> None:
        from batching.steps import Steps

        begin = time.perf_counter()
        self.steps = Steps(model, slots, chunk)
        self.capture_seconds = time.perf_counter() - begin
        self._model = model

    def milliseconds(self, lengths: Sequence[int], draws: int, repeats: int) -> float:
        """Of a step of rows with these numbers of tokens, the first ``draws`` of which draw."""
        from batching.steps import batch_shape

        shape = batch_shape(lengths, self.steps.state.scratch)
        host = self.steps.staging(shape)
        self._write(host, shape, lengths, draws)
        with self.steps.on_stream():
            return median_milliseconds(lambda: self.steps.compute(host, shape), repeats, self._model.device)

    def profile(self, rows: int, repeats: int = 20) -> dict[str, tuple[float, float]]:
        """Kernels of a decode step: how often each runs, and microseconds of all its runs."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
            self.milliseconds([1] * rows, rows, repeats)
        steps = repeats + WARM_UP
        return {
            event.key: (event.count / steps, event.self_device_time_total / steps)
            for event in recorded.key_averages()
            if event.self_device_time_total > 0
        }

    def _write(self, host: Tensor, shape: Any, lengths: Sequence[int], draws: int) -> None:
        """Rows in the first slots, with different tokens and seeds and the usual sampling."""
        from batching.steps import views

        batch, parameters = views(host, shape)
        count, n = len(lengths), sum(lengths)
        sizes = torch.tensor(lengths)
        host.zero_()
        batch.tokens[:n] = torch.arange(n) % 8192
        batch.owners[:n] = torch.arange(count).repeat_interleave(sizes)
        batch.owners[n:] = torch.arange(count, shape.tokens - n + count) if shape.single else shape.rows
        if shape.single:
            batch.starts.copy_(torch.arange(shape.rows + 1))
        batch.lengths.fill_(int(shape.single))
        batch.starts[:count], batch.lengths[:count] = sizes.cumsum(0) - sizes, sizes
        batch.starts[-1], batch.lengths[-1] = n, 1
        batch.slots.fill_(self.steps.state.scratch)
        batch.slots[:count] = torch.arange(count)
        parameters.allowed[:draws] = self._model.sizes.head_rows
        parameters.top_k.fill_(80)
        parameters.seeds_low.copy_(torch.arange(shape.rows))
        parameters.temperatures.fill_(1.0)
        parameters.top_ps.fill_(0.95)


def engine_decode(
    engine: Engine, options: RandomModel, rows: int, steps: int, device: torch.device
) -> tuple[float, float]:
    """Wall-clock milliseconds of a decode step of the whole engine, and device allocations in one."""
    work = endless_rows(options, rows, prompt=4, tokens=steps + 3 * WARM_UP)
    prefill(engine, work)
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        engine.step()
    before = allocations(device)
    begin = time.perf_counter()
    for _ in range(steps):
        engine.step()
    wall = time.perf_counter() - begin
    made = allocations(device) - before
    drain(engine)
    return 1000 * wall / steps, made / steps


def prefill(engine: Engine, rows: Sequence[Row]) -> int:
    """Feed all prompts; the number of steps."""
    for row in rows:
        engine.add(row)
    steps = 0
    while any(row.decoding.phase is Phase.PREFILL for row in rows):
        engine.step()
        steps += 1
    return steps


def drain(engine: Engine) -> None:
    for row in list(engine.scheduler.running):
        engine.scheduler.cancel(row.key)
    while len(engine.scheduler):
        engine.step()


def allocations(device: torch.device) -> int:
    return int(torch.cuda.memory_stats(device)["allocation.all.allocated"]) if device.type == "cuda" else 0


def engine_chunk(engine: Engine, options: RandomModel, chunk: int, rows: int, prompt: int) -> float:
    """Wall-clock milliseconds of prefilling ``rows`` prompts, for each step."""
    engine.scheduler.token_chunk_size = chunk
    begin = time.perf_counter()
    steps = prefill(engine, endless_rows(options, rows, prompt, tokens=2))
    drain(engine)
    return 1000 * (time.perf_counter() - begin) / steps


def measure_cuda(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    from model.fast.forward import FastRWKV7

    options, checkpoint = random_model(arguments.layers, arguments.width)
    model = FastRWKV7(checkpoint, device, checkpoint.sizes.head_rows)
    slots = max([*arguments.batch, MIXED_ROWS + 1])
    bench = DeviceBench(model, slots, max(CHUNKS))

    def floor(rows: int, tokens: int, draws: int) -> float:
        return floor_milliseconds(model.sizes, model.parameters, rows, tokens, draws)

    points = []
    for rows in arguments.batch:
        points.append(Point("decode", rows, rows, bench.milliseconds([1] * rows, rows, arguments.repeats)))
        points[-1] = replace(points[-1], floor=floor(rows, rows, rows) / points[-1].milliseconds)
    for rows, length in PREFILLS:
        taken = bench.milliseconds([length] * rows, rows, max(10, arguments.repeats // 3))
        points.append(Point("prefill", rows, rows * length, taken, floor=floor(rows, rows * length, rows) / taken))
    for chunk in CHUNKS:
        lengths = [1] * MIXED_ROWS + [chunk]
        taken = bench.milliseconds(lengths, MIXED_ROWS, max(10, arguments.repeats // 3))
        points.append(Point("mixed", MIXED_ROWS, MIXED_ROWS + chunk, taken))
    measured = {
        "capture_seconds": bench.capture_seconds,
        "profile": {rows: bench.profile(rows) for rows in arguments.profile},
        "checkpoint": checkpoint,
    }
    del bench
    torch.cuda.empty_cache()
    engine = Engine(model, options.layout(), slots, max(CHUNKS))
    points = [with_engine(p, engine, options, arguments.repeats, device) for p in points]
    points += [Point("chunk", 64, c, engine_chunk(engine, options, c, rows=64, prompt=128)) for c in CHUNKS]
    return measured | {"points": points}


def with_engine(point: Point, engine: Engine, options: RandomModel, repeats: int, device: torch.device) -> Point:
    """The same with the whole engine's wall clock, for a decode point."""
    if point.kind != "decode":
        return point
    wall, made = engine_decode(engine, options, point.rows, repeats, device)
    return replace(point, wall=wall, allocations=made)


def measure_reference(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    options, checkpoint = random_model(arguments.layers, arguments.width)
    engine = Engine(RWKV7(checkpoint, device), options.layout(), max(arguments.batch), 256)
    points = []
    for rows in arguments.batch:
        wall, made = engine_decode(engine, options, rows, arguments.repeats, device)
        points.append(Point("decode", rows, rows, wall, wall=wall, allocations=made))
    chunks = [chunk for chunk in CHUNKS if chunk <= arguments.longest_chunk]
    points += [Point("chunk", 1, c, engine_chunk(engine, options, c, rows=1, prompt=256)) for c in chunks]
    return {"capture_seconds": 0.0, "profile": {}, "points": points, "checkpoint": checkpoint}


def compare(arguments: argparse.Namespace, checkpoint: Checkpoint, device: torch.device) -> list[dict[str, Any]]:
    """The same decode steps by other means: milliseconds, or why there are none."""
    found: list[dict[str, Any]] = []
    for name in arguments.vs:
        for rows in arguments.vs_batch:
            try:
                taken = other_milliseconds(name, checkpoint, rows, arguments.repeats, device)
            except (RuntimeError, ImportError, TypeError, AttributeError) as error:
                found.append({"name": name, "rows": rows, "error": str(error).splitlines()[0][:200]})
                continue
            found.append({"name": name, "rows": rows, "milliseconds": taken})
    return found


def other_milliseconds(name: str, checkpoint: Checkpoint, rows: int, repeats: int, device: torch.device) -> float:
    if name == "rwkv":
        with TemporaryDirectory() as folder:
            return median_milliseconds(package_decode(checkpoint, Path(folder), rows), repeats, device)
    step = {"eager": eager_step, "compile": compiled_step}[name](RWKV7(checkpoint, device), rows)
    return median_milliseconds(step, min(repeats, 20), device)


def show(points: Sequence[Point], others: Sequence[dict[str, Any]]) -> None:
    table = Table(*("kind", "rows", "tokens", "ms", "tokens/s", "audio s/s", "% floor", "wall ms", "allocations"))
    for p in points:
        table.add_row(
            p.kind, str(p.rows), str(p.tokens), f"{p.milliseconds:.3f}", f"{p.rate:,.0f}",
            f"{p.rate / TOKENS_PER_SECOND:,.0f}" if p.kind == "decode" else "",
            "" if p.floor is None else f"{100 * p.floor:.0f}", "" if p.wall is None else f"{p.wall:.3f}",
            "" if p.allocations is None else f"{p.allocations:.1f}",
        )  # fmt: skip
    console = Console(width=110)
    console.print(table)
    ours = {p.rows: p.milliseconds for p in points if p.kind == "decode"}
    for other in others:
        ratio = f", {other['milliseconds'] / ours[other['rows']]:.2f} x ours" if "milliseconds" in other else ""
        console.print(f"{other['name']}, {other['rows']} rows: {other.get('milliseconds', other)} ms{ratio}")


def show_profile(profile: dict[int, dict[str, tuple[float, float]]]) -> None:
    for rows, kernels in profile.items():
        total = sum(taken for _, taken in kernels.values())
        print(f"decode step of {rows} rows: {total:.0f} us in kernels")
        for name, (count, taken) in sorted(kernels.items(), key=lambda item: -item[1][1]):
            print(f"  {taken:8.1f} us  {count:6.1f} x {taken / count:6.2f} us  {name[:80]}")


def numbers(text: str) -> list[int]:
    found = [int(number) for number in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("must be at least 1 each")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    parser.add_argument("--engine", choices=("cuda", "reference"), help="reference on a CPU, else cuda")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch", type=numbers)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--longest-chunk", type=int, default=256, help="of those that the reference prefills with")
    parser.add_argument("--profile", type=numbers, default=[], help="rows whose decode step is listed by kernel")
    parser.add_argument("--vs", type=lambda text: text.split(","), default=[], help="of eager, compile, rwkv")
    parser.add_argument("--vs-batch", type=numbers)
    options = parser.parse_args(arguments)
    gpu = torch.device(options.device).type == "cuda"
    options.engine = options.engine or ("cuda" if gpu else "reference")
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
    with torch.inference_mode():
        measured = (measure_cuda if options.engine == "cuda" else measure_reference)(options, device)
        others = compare(options, measured["checkpoint"], device)
    show(measured["points"], others)
    show_profile(measured["profile"])
    machine = {"device": str(device), "torch": torch.__version__, "cores": os.cpu_count()}
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    line = {
        "machine": machine,
        "model": {"layers": options.layers, "width": options.width, "engine": options.engine},
        "capture_seconds": measured["capture_seconds"],
        "profile": measured["profile"],
        "points": [asdict(point) | {"tokens_per_second": point.rate} for point in measured["points"]],
        "vs": others,
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
