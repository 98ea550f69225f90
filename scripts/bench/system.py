"""Measure the whole system: Redis, a worker process, and clients that submit jobs and wait for audio files.

    python scripts/bench [--quick] [--only single,closed,sequential,open,drain,chunks,stability] [--plot]
    python scripts/bench --only sequential              # batched against one row: one ratio
    python scripts/bench --only drain --jobs 512        # a full queue, and which stage worked how long
    python scripts/bench --device cuda --max-rows 512 --concurrency 1,8,64,512
    python scripts/bench --quick | tail -n 1 > old.json; python scripts/bench --quick --compare old.json

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

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from bench.arguments import at_least, command_line, numbers
from bench.comparison import judge
from bench.curves import draw
from bench.figures import NoAudioError
from bench.run import Run, RunError, measure, read_run
from bench.scenarios import SCENARIOS
from bench.stations import QUICK, Plan
from bench.tables import show
from worker.cli.console import errors
from worker.cli.local import WorkerDiedError
from worker.settings import DEFAULT_MODEL, Settings
from worker.speech.engines import EngineName, read_threads

WIDTH = 120
DOCS = Path(__file__).parents[2] / "docs"


def scenario_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - SCENARIOS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; accepted: {', '.join(SCENARIOS)}")
    return [name for name in SCENARIOS if name in names]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_line("system", __doc__)
    add = parser.add_argument
    add("--only", type=scenario_names, default=list(SCENARIOS), help="scenarios, separated by commas")
    add("--quick", action="store_true", help="fewer jobs: under ten minutes on two cores")
    add("--model", type=Path, default=DEFAULT_MODEL, help="model directory")
    add("--redis", help="Redis URL; else REDIS_URL, else an embedded server")
    add("--device", default="cpu", help="torch device of the workers")
    add("--engine", choices=get_args(EngineName), help="as the worker's; so are the next three")
    add("--max-rows", type=at_least(1))
    add("--token-chunk-size", type=at_least(1))
    add("--threads", type=read_threads)
    add("--concurrency", type=numbers(int), default=[1, 2, 4, 8], help="clients of the closed loops")
    add("--rates", type=numbers(float), default=[], help="arrivals per second; default: shares of the capacity")
    add("--turns", type=at_least(1), help="measurements of each condition")
    add("--jobs", type=at_least(1), help="jobs of each turn under load")
    add("--stability-jobs", type=at_least(10), help="jobs of the stability scenario")
    add("--minutes", type=at_least(0.0), default=0.0, help="length of the stability scenario instead")
    add("--seed", type=at_least(0), default=0)
    add("--plot", action="store_true", help="draw the curves into docs/")
    add("--compare", type=Path, help="an older run's output")
    add("--noise", type=at_least(0.0), default=0.15, help="share by which a figure may be worse")
    add("--from", dest="saved", type=Path, help="show a run's output instead of measuring")
    return parser.parse_args(arguments)


def given(**options: Any) -> dict[str, Any]:
    """The options that are set."""
    return {name: value for name, value in options.items() if value is not None}


def plan_of(options: argparse.Namespace) -> Plan:
    jobs = options.jobs
    return replace(
        QUICK if options.quick else Plan(),
        **given(turns=options.turns, load=jobs, chunks=jobs, stability=options.stability_jobs),
        minutes=options.minutes,
        concurrency=tuple(options.concurrency),
        rates=tuple(options.rates),
        seed=options.seed,
    )


def settings_of(options: argparse.Namespace) -> Settings:
    names = ("redis", "engine", "max_rows", "token_chunk_size", "threads")
    chosen = given(**{name: getattr(options, name) for name in names})
    return Settings(model=options.model, device=options.device, **chosen)


def report(run: Run, old: Run | None, options: argparse.Namespace) -> int:
    """Show the run, compare it, draw it; the exit code."""
    console = Console(width=WIDTH)
    show(run, console)
    failed = any(figures["failed"] for conditions in run["scenarios"].values() for figures in conditions.values())
    code = int(failed) if old is None else judge(old, run, options.noise, console) or int(failed)
    for path in draw(run, DOCS) if options.plot else []:
        errors.print(f"wrote {path}", highlight=False)
    print(json.dumps(run))
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that workers are stopped
    try:
        old = None if options.compare is None else read_run(options.compare)
        if options.saved is not None:
            run = read_run(options.saved)
        else:
            run = measure(options.only, plan_of(options), settings_of(options))
    except (RunError, WorkerDiedError, NoAudioError) as error:
        errors.print(f"[red]error:[/] {error}", highlight=False)
        return 2
    return report(run, old, options)
