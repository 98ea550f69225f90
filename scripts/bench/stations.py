"""What the scenarios measure on: worker processes with queues of their own, and how often each is measured."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from bench.figures import Turn
from bench.load import Outcome, Producer
from bench.stages import busy
from bench.timing import there_and_back
from bench.usage import Watch
from bench.workload import Request, Workload
from worker.cli.console import errors
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings

CLIENTS = 8
"""Clients of the scenarios that do not vary their number."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        turns: Measurements of each condition, forwards and backwards.
        single: Jobs of each length and mode, or alone, in a turn.
        load: Jobs of each concurrency, rate, burst or kind of worker in a turn; at least three for each client.
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

    def burst(self, jobs: Sequence[Request]) -> Turn:
        """All jobs at once."""
        return self._watched(lambda: self._producer.burst(jobs))

    def offered(self, clients: int) -> int:
        """Rows that so many clients can keep busy."""
        return min(self._settings.max_rows, clients)

    def _watched(self, work: Callable[[], list[Outcome]]) -> Turn:
        before = self._busy()
        with Watch(self._worker.pid, self._settings.device) as watch:
            outcomes = work()
        after = self._busy()
        return Turn(outcomes, watch.usage, {stage: after[stage] - before[stage] for stage in after})

    def _busy(self) -> dict[str, float]:
        """Seconds that the stages have worked, of a worker whose metrics can be read."""
        port = self._settings.metrics_port
        return {} if port is None else busy(port)


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
        begin = time.perf_counter()
        with local_worker(settings, self.url) as worker:
            worker.wait_until_ready()
            errors.print(f"  a worker was ready after {time.perf_counter() - begin:.1f} s", highlight=False)
            most = max(self.plan.jobs_under_load, CLIENTS)
            with closing(Producer(self.url, queue, worker, clients=most)) as producer:
                producer.closed_loop(self.workload.warm_up(), clients=CLIENTS)
                yield Station(settings, worker, producer)

    def in_turns(self, conditions: Mapping[str, Callable[[], Turn]]) -> dict[str, list[Turn]]:
        """Measure each condition as often as planned, forwards and backwards."""
        measured: dict[str, list[Turn]] = {name: [] for name in conditions}
        for name in there_and_back(list(conditions), self.plan.turns):
            turn = conditions[name]()
            measured[name].append(turn)
            errors.print(f"  {name}: {len(turn.outcomes)} jobs in {turn.wall:.1f} s", highlight=False)
        return measured
