"""The scenarios of the system's bench: each starts its workers, measures its conditions in turns, and sums up."""

import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from bench.figures import Figures, summarize, turn_slope
from bench.stages import free_port
from bench.stations import CLIENTS, Bench
from bench.workload import LENGTHS, MODES

CHUNK_SIZES = (32, 64, 128, 256, 512, 1024)
CAPACITY_SHARES = (0.5, 0.8, 1.1)
SOAK_ROUND = 200
"""Jobs between two looks at the clock."""

Conditions = dict[str, Figures]


def single(bench: Bench) -> Conditions:
    """One request at a time: each length in both modes."""
    with bench.stations({}) as (station,):
        conditions = {
            f"{length} {mode}": partial(
                station.closed, bench.workload.jobs(bench.plan.single, (length,), (mode,)), 1
            )
            for length in LENGTHS
            for mode in MODES
        }
        return {name: summarize(turns, offered=1) for name, turns in bench.in_turns(conditions).items()}


def closed(bench: Bench) -> Conditions:
    """Closed loops: the same jobs at every number of clients."""
    jobs = bench.workload.jobs(bench.plan.jobs_under_load)
    with bench.stations({}) as (station,):
        measured = bench.in_turns({str(n): partial(station.closed, jobs, n) for n in bench.plan.concurrency})
        return {n: summarize(turns, station.offered(int(n))) for n, turns in measured.items()}


def sequential(bench: Bench) -> Conditions:
    """What batching gains: the same jobs on a worker as it is set, and on one with a single row.

    With eight clients, the worker of one row still makes the audio of one job while it decodes the next; with
    one client it does one thing after the other, as the Rust system does.
    """
    jobs = bench.workload.jobs(bench.plan.jobs_under_load)
    clients = {"batched": CLIENTS, "one row": CLIENTS, "one at a time": 1}
    with bench.stations({}, {"max_rows": 1}) as (batched, one_row):
        stations = {"batched": batched, "one row": one_row, "one at a time": one_row}
        measured = bench.in_turns(
            {name: partial(station.closed, jobs, clients[name]) for name, station in stations.items()}
        )
        found = {name: summarize(turns, stations[name].offered(clients[name])) for name, turns in measured.items()}
    for name in ("one row", "one at a time"):
        pairs = zip(measured["batched"], measured[name], strict=True)
        found[name]["batched_over_this"] = statistics.median(other.wall / fast.wall for fast, other in pairs)
    return found


def open_loop(bench: Bench) -> Conditions:
    """Poisson arrivals at the planned rates, else at shares of what a closed loop has just reached."""
    jobs = bench.workload.jobs(bench.plan.jobs_under_load)
    with bench.stations({}) as (station,):
        rates = {f"{rate:g} per second": rate for rate in bench.plan.rates}
        if not rates:
            turn = station.closed(jobs, bench.plan.most_clients)
            rates = {f"{share:g} of capacity": share * len(jobs) / turn.wall for share in CAPACITY_SHARES}
        measured = bench.in_turns(
            {name: partial(station.open, jobs, rate, bench.plan.seed) for name, rate in rates.items()}
        )
    return {name: summarize(turns) | {"offered_per_s": rates[name]} for name, turns in measured.items()}


def chunks(bench: Bench) -> Conditions:
    """Sizes of ``token_chunk_size`` while long prompts are read beside rows that decode."""
    jobs = bench.workload.prefill_heavy(bench.plan.chunks)
    with bench.stations(*({"token_chunk_size": size} for size in CHUNK_SIZES)) as stations:
        measured = bench.in_turns(
            {
                str(size): partial(station.closed, jobs, CLIENTS)
                for size, station in zip(CHUNK_SIZES, stations, strict=True)
            }
        )
        return {size: summarize(turns, stations[0].offered(CLIENTS)) for size, turns in measured.items()}


def drain(bench: Bench) -> Conditions:
    """A full queue: all jobs at once, each cut at 5 to 10 s, and how long each stage worked; a few also alone."""
    jobs = bench.workload.limited(bench.plan.jobs_under_load)
    with bench.stations({"metrics_port": free_port()}) as (station,):
        station.burst(jobs)  # the first batch of so many rows is in no figure
        measured = bench.in_turns(
            {
                "at once": partial(station.burst, jobs),
                "alone": partial(station.closed, jobs[: bench.plan.single], 1),
            }
        )
        offered = {"at once": station.offered(len(jobs)), "alone": 1}
    return {name: summarize(turns, offered[name]) for name, turns in measured.items()}


def stability(bench: Bench) -> Conditions:
    """One long closed loop, and how the worker's memory grows in it."""
    plan, clients = bench.plan, bench.plan.most_clients
    with bench.stations({}) as (station,):
        if plan.minutes:
            turn = station.soak(bench.workload.jobs(SOAK_ROUND), clients, plan.minutes)
        else:
            turn = station.closed(bench.workload.jobs(plan.stability), clients)
        figures = summarize([turn], station.offered(clients))
    return {f"{clients} clients": figures | {"memory_slope": asdict(turn_slope(turn))}}


SCENARIOS: dict[str, Callable[[Bench], Conditions]] = {
    "single": single,
    "closed": closed,
    "sequential": sequential,
    "open": open_loop,
    "drain": drain,
    "chunks": chunks,
    "stability": stability,
}
