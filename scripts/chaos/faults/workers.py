"""Faults of one worker process."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from chaos.clock import HOUR
from chaos.faults.kind import Scene
from chaos.points import FaultPoint


@contextmanager
def kill(scene: Scene) -> Iterator[None]:
    """SIGKILL, whatever it does."""
    scene.slot.process.kill()
    yield


def die_at(point: FaultPoint) -> Callable[[Scene], AbstractContextManager[None]]:
    """SIGKILL exactly where it has passed a point with jobs in its hands."""

    @contextmanager
    def order(scene: Scene) -> Iterator[None]:
        scene.slot.order(point)
        yield

    return order


@contextmanager
def freeze(scene: Scene) -> Iterator[None]:
    """SIGSTOP for longer than its lease."""
    scene.slot.process.send_signal(signal.SIGSTOP)
    yield
    scene.slot.process.send_signal(signal.SIGCONT)


@contextmanager
def step_clock(scene: Scene) -> Iterator[None]:
    """Its clock is an hour ahead, or behind, and then right again."""
    assert scene.slot.clock is not None
    scene.slot.clock.step(scene.random.choice((-HOUR, HOUR)))
    yield
    scene.slot.clock.step(0)
