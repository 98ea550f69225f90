"""A chaos run: the clock, and the faults of the plan as their time comes."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random

from redis.exceptions import RedisError
from rq.queue import Queue
from rq.serializers import JSONSerializer

from chaos.faults.kind import Scene, Target
from chaos.fleet import QUEUE, Fleet, Slot, end
from chaos.options import Options
from chaos.plan import Fault
from chaos.recovery import Case, Tracker
from chaos.server import Server
from chaos.surroundings import Site

TICK_SECONDS = 0.05
LOOK_SECONDS = 0.1
TRY_AGAIN_SECONDS = 0.5
STUCK_SECONDS = 120.0


class Run:
    """Follows a plan of faults while producers submit and workers work."""

    def __init__(self, options: Options, site: Site, server: Server) -> None:
        self.options, self.server, self._store = options, server, site.store
        self.queue = Queue(QUEUE, connection=server.admin, serializer=JSONSerializer)
        self.tracker = Tracker(self.queue.started_job_registry.key)
        self.fleet = Fleet(options, site.folder, self.tracker, site.clock, site.network, site.store)
        self.store_faults = 0
        self._complete = False
        self._lasting: list[AbstractContextManager[None]] = []
        self._server_is_hit = False
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
            while self._agenda:
                self._tick()
            for process, _ in producers:  # from now on nothing is forgotten any more
                assert process.stdin is not None
                process.stdin.close()
            while any(process.poll() is None for process, _ in producers):
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
        """End faults and all processes but the server: gently after a whole run, at once after an interrupt."""
        for act in self._lasting:
            with suppress(RedisError, OSError):
                act.__exit__(None, None, None)
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
        if not self._server_is_hit and time.monotonic() >= self._next_look:
            self._look()
            self._next_look = time.monotonic() + LOOK_SECONDS
        time.sleep(TICK_SECONDS)

    def _look(self) -> None:
        try:
            self.tracker.look(self.server.admin, time.monotonic())
        except RedisError:
            self.server.admin.connection_pool.disconnect()

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
        with self.server.admin.pipeline() as pipeline:
            pipeline.llen(q.key)
            pipeline.zcard(q.started_job_registry.key)
            pipeline.zcard(q.scheduled_job_registry.key)
            return sum(pipeline.execute())

    def _strike(self, fault: Fault) -> None:
        """Begin a fault, at the worker that the plan names or the next that is free; later when there is none."""
        of_all = fault.kind.target is Target.SERVER
        free = self.fleet.slots if fault.kind.target in (Target.SERVER, Target.STORE) else self.fleet.free()
        if not free or (of_all and self._server_is_hit):
            self._in(TRY_AGAIN_SECONDS, lambda: self._strike(fault))
            return
        number = len(self.fleet.slots)
        slot = min(free, key=lambda slot: (slot.number - fault.worker) % number)
        producer = fault.seed % len(self.fleet.producer_networks)
        act = fault.kind.act(self._scene(fault, slot, producer))
        if fault.kind.target is Target.STORE:
            self._hit_store(act, fault.seconds)
            return
        if fault.kind.told:
            slot.busy = True
            act.__enter__()
            return
        case = Case(fault.kind.name, None if of_all else slot.name, time.monotonic())
        case.network = producer if fault.kind.target is Target.NETWORK else None
        self._begin(act, case, slot, fault.seconds)

    def _hit_store(self, act: AbstractContextManager[None], seconds: float) -> None:
        """No job runs anew for it: there is nothing to recover."""
        self.store_faults += 1
        self._lasting.append(act)
        act.__enter__()
        self._in(seconds, lambda: self._end_quietly(act))

    def _end_quietly(self, act: AbstractContextManager[None]) -> None:
        self._lasting.remove(act)
        act.__exit__(None, None, None)

    def _scene(self, fault: Fault, slot: Slot, producer: int) -> Scene:
        networks = (slot.proxy, self.fleet.producer_networks[producer])
        return Scene(self.server, self._store, slot, networks, fault.seconds, Random(fault.seed))  # noqa: S311 - no secret

    def _begin(self, act: AbstractContextManager[None], case: Case, slot: Slot, seconds: float) -> None:
        self.tracker.add(case)
        if case.worker is None:
            self._look()  # at what runs now: while the fault lasts nobody may be able to tell
            self._server_is_hit = True
        else:
            slot.busy = True
        self._lasting.append(act)
        act.__enter__()
        self._in(seconds, lambda: self._end(act, case, slot))

    def _end(self, act: AbstractContextManager[None], case: Case, slot: Slot) -> None:
        self._end_quietly(act)
        case.until = time.monotonic()
        if case.worker is None:
            self._server_is_hit = False
        elif case.worker == slot.name:
            slot.busy = False
