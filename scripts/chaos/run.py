"""A chaos run: the clock, and what each fault of the plan does."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue
from rq.serializers import JSONSerializer

from chaos.fleet import QUEUE, Fleet, Slot, end
from chaos.network import Proxy
from chaos.plan import CUTS, FAULT_POINTS, OF_THE_SERVER, Fault, Kind, Options
from chaos.recovery import Tracker
from chaos.server import Server

TICK_SECONDS = 0.05
LOOK_SECONDS = 0.1
TRY_AGAIN_SECONDS = 0.5
STUCK_SECONDS = 120.0


class Run:
    """Follows a plan of faults while producers submit and workers work."""

    def __init__(self, options: Options, folder: Path, server: Server) -> None:
        self.options, self.server = options, server
        self.connection = Redis.from_url(server.url, socket_timeout=1.0)
        self.queue = Queue(QUEUE, connection=self.connection, serializer=JSONSerializer)
        self.tracker = Tracker(self.queue.started_job_registry.key)
        self.fleet = Fleet(options, folder, server.socket, self.tracker)
        self._complete = False
        self._down_since: float | None = None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._next_look = 0.0

    def follow(self, plan: Sequence[Fault]) -> tuple[list[Path], float]:
        """Follow the plan until all jobs have ended; returns the ledgers and the seconds it took."""
        start = time.monotonic()
        producers = self.fleet.start_producers()
        try:
            for fault in plan:
                self._at(start + fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
            while self._agenda or any(process.poll() is None for process, _ in producers):
                self._tick()
            self._drain()
            self._complete = True
        finally:
            for process, _ in producers:
                end(process)
        if any(process.returncode for process, _ in producers):
            raise SystemExit(f"a producer failed: {self.fleet.log_end()}")
        return [ledger for _, ledger in producers], time.monotonic() - start

    def close(self) -> None:
        """End all processes but the server: gently after a whole run, at once after an interrupt."""
        if self._down_since is not None:
            with suppress(ProcessLookupError):
                os.kill(self.server.pid, signal.SIGCONT)
        self.fleet.close(gently=self._complete)

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        heappush(self._agenda, (moment, next(self._order), act))

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, act)

    def _tick(self) -> None:
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            heappop(self._agenda)[2]()
        self.fleet.read_events()
        self.fleet.revive()
        if self._down_since is None and time.monotonic() >= self._next_look:
            try:
                self.tracker.look(self.connection, time.monotonic())
            except RedisError:
                self.connection.connection_pool.disconnect()
            self._next_look = time.monotonic() + LOOK_SECONDS
        time.sleep(TICK_SECONDS)

    def _drain(self) -> None:
        """Wait for the rest; give up when nothing has ended for a long time."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            self._tick()
            left = self._left()
            if left == 0 and not self.tracker.open:
                return
            if left != before:
                before, since = left, time.monotonic()

    def _left(self) -> int:
        q = self.queue
        with self.connection.pipeline() as pipeline:
            pipeline.llen(q.key)
            pipeline.zcard(q.started_job_registry.key)
            pipeline.zcard(q.scheduled_job_registry.key)
            return sum(pipeline.execute())

    # Faults.

    def _strike(self, fault: Fault) -> None:
        if fault.kind in OF_THE_SERVER:
            self._hit_server(fault)
        elif free := self.fleet.free():
            slots = len(self.fleet.slots)
            self._hit_worker(min(free, key=lambda slot: (slot.number - fault.worker) % slots), fault)
        else:
            self._in(TRY_AGAIN_SECONDS, lambda: self._strike(fault))

    def _hit_worker(self, slot: Slot, fault: Fault) -> None:
        if fault.kind in FAULT_POINTS:
            slot.busy = fault.kind
            slot.order(fault.kind)
            return
        self.fleet.hit(slot, fault.kind)
        if fault.kind is Kind.KILL:
            slot.process.kill()
        elif fault.kind is Kind.ZOMBIE:
            slot.process.send_signal(signal.SIGSTOP)
            self._in(fault.seconds, lambda: _wake(slot))
        elif fault.kind in CUTS:
            producers = self.fleet.producer_networks
            cut = [slot.proxy, producers[fault.worker % len(producers)]]
            for proxy in cut:
                proxy.cut(fault.kind)
            self._in(fault.seconds, lambda: _mend(slot, cut))

    def _hit_server(self, fault: Fault) -> None:
        self.fleet.happened[fault.kind] += 1
        self._down_since = time.monotonic()
        if fault.kind is Kind.PAUSE:
            os.kill(self.server.pid, signal.SIGSTOP)
            self._in(fault.seconds, self._resume_server)
        else:
            self.server.stop(gently=fault.kind is Kind.RESTART)
            self._in(fault.seconds, self._start_server)

    def _resume_server(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)
        self._is_back()

    def _start_server(self) -> None:
        self.server.start()
        self._is_back()

    def _is_back(self) -> None:
        assert self._down_since is not None
        self.tracker.away.append((self._down_since, time.monotonic()))
        self._down_since = None


def _wake(slot: Slot) -> None:
    slot.process.send_signal(signal.SIGCONT)
    slot.busy = None


def _mend(slot: Slot, cut: Sequence[Proxy]) -> None:
    for proxy in cut:
        proxy.mend()
    slot.busy = None
