"""The benchmark's scenarios: each starts its own workers, measures its conditions in turns, and sums them up."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from bench_figures import Figures, Turn, summarize, turn_slope
from bench_load import Outcome, Producer
from bench_usage import Watch
from bench_workload import LENGTHS, MODES, Request, Workload
from worker.cli.console import errors
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings

CHUNK_SIZES = (32, 64, 128, 256, 512, 1024)
CLIENTS = 8
"""Clients of the scenarios that do not vary their number."""

CAPACITY_SHARES = (0.5, 0.8, 1.1)
SOAK_ROUND = 200
"""Jobs between two looks at the clock."""

Conditions = dict[str, Figures]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        turns: Measurements of each condition, forwards and backwards.
        single: Jobs of each length and mode in a turn.
        load: Jobs of each concurrency, rate or kind of worker in a turn; at least three for each client.
        chunks: Jobs of each chunk size in a turn.
        stability: Jobs of the memory slope.
        minutes: Goes on with the memory slope for so long instead, where it is not 0.
        concurrency: Clients of the closed loops.
        rates: Arrivals per second of the open loop; shares of the measured capacity where there are none.
        seed: Of texts, voices, requests and arrivals.
    """

    turns: int = 4
    single: int = 10
    load: int = 64
    chunks: int = 32
    stability: int = 2000
    minutes: float = 0.0
    concurrency: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[float, ...] = ()
    seed: int = 0

    @property
    def most_clients(self) -> int:
        return max(self.concurrency)

    @property
    def jobs_under_load(self) -> int:
        """``load``, or more where there are many clients: each is to have several."""
        return max(self.load, 3 * self.most_clients)


QUICK = Plan(turns=2, single=3, load=24, chunks=12, stability=120)
"""Under ten minutes on two cores."""


class Station:
    """A worker process with a queue of its own, warmed up."""

    def __init__(self, settings: Settings, worker: LocalWorker, producer: Producer) -> None:
        self._settings, self._worker, self._producer = settings, worker, producer

    def closed(self, jobs: Sequence[Request], clients: int) -> Turn:
        """So many clients, each with one job at a time."""
        return self._watched(lambda: self._producer.closed_loop(jobs, clients))

    def open(self, jobs: Sequence[Request], rate: float, seed: int) -> Turn:
        """Poisson arrivals at ``rate`` jobs per second."""
        return self._watched(lambda: self._producer.open_loop(jobs, rate, seed))

    def soak(self, jobs: Sequence[Request], clients: int, minutes: float) -> Turn:
        """The closed loop over and over, until the minutes are over."""

        def rounds() -> list[Outcome]:
            outcomes: list[Outcome] = []
            end = time.monotonic() + 60 * minutes
            while time.monotonic() < end:
                outcomes += self._producer.closed_loop(jobs, clients)
            return outcomes

        return self._watched(rounds)

    def offered(self, clients: int) -> int:
        """Rows that so many clients can keep busy."""
        return min(self._settings.max_rows, clients)

    def _watched(self, work: Callable[[], list[Outcome]]) -> Turn:
        with Watch(self._worker.pid, self._settings.device) as watch:
            outcomes = work()
        return Turn(outcomes, watch.usage)


@dataclass(frozen=True)
class Bench:
    """What the scenarios share: a Redis, the settings of the worker, what to say and how often."""

    url: str
    settings: Settings
    workload: Workload
    plan: Plan

    @contextmanager
    def stations(self, *variants: Mapping[str, int]) -> Iterator[list[Station]]:
        """A worker for each variant of the settings; those that are not measured wait for jobs.

        Raises:
            WorkerDiedError: A worker cannot start; it has said why.
        """
        with ExitStack() as stack:
            yield [stack.enter_context(self._station(dict(variant))) for variant in variants]

    @contextmanager
    def _station(self, variant: Mapping[str, int]) -> Iterator[Station]:
        queue = f"bench-{secrets.token_hex(4)}"
        settings = self.settings.model_copy(update={**variant, "queue": (queue,)})
        with local_worker(settings, self.url) as worker:
            worker.wait_until_ready()
            most = max(self.plan.jobs_under_load, CLIENTS)
            with closing(Producer(self.url, queue, worker, clients=most)) as producer:
                producer.closed_loop(self.workload.warm_up(), clients=CLIENTS)
                yield Station(settings, worker, producer)

    def in_turns(self, conditions: Mapping[str, Callable[[], Turn]]) -> dict[str, list[Turn]]:
        """Measure each condition as often as planned, forwards and backwards."""
        measured: dict[str, list[Turn]] = {name: [] for name in conditions}
        for number in range(self.plan.turns):
            for name in list(conditions)[:: 1 if number % 2 == 0 else -1]:
                turn = conditions[name]()
                measured[name].append(turn)
                errors.print(f"  {name}: {len(turn.outcomes)} jobs in {turn.wall:.1f} s", highlight=False)
        return measured


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
    "chunks": chunks,
    "stability": stability,
}
