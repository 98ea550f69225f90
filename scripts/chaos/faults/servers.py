"""Faults of the server: everybody is hit."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from chaos.clock import HOUR
from chaos.faults.kind import Scene


def restart(*, gently: bool) -> Callable[[Scene], AbstractContextManager[None]]:
    """SIGTERM or SIGKILL; it is away for some time."""

    @contextmanager
    def stop(scene: Scene) -> Iterator[None]:
        scene.server.stop(gently=gently)
        yield
        scene.server.start()

    return stop


@contextmanager
def freeze(scene: Scene) -> Iterator[None]:
    """SIGSTOP."""
    os.kill(scene.server.pid, signal.SIGSTOP)
    yield
    os.kill(scene.server.pid, signal.SIGCONT)


@contextmanager
def roll_back(scene: Scene) -> Iterator[None]:
    """The power fails, and up to a second of what was acknowledged was not on the disk."""
    scene.server.lose_power(scene.random.uniform(0.3, 1.0))
    yield
    scene.server.start()


@contextmanager
def step_clock(scene: Scene) -> Iterator[None]:
    """Its clock is an hour ahead, or behind, and then right again."""
    assert scene.server.clock is not None
    scene.server.clock.step(scene.random.choice((-HOUR, HOUR)))
    yield
    scene.server.clock.step(0)
