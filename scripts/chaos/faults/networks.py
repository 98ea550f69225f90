"""Faults of the networks of a worker and a producer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from chaos.faults.kind import Scene
from chaos.network import Trouble

Act = Callable[[Scene], AbstractContextManager[None]]


def disturbed(trouble: Trouble) -> Act:
    """All of their bytes are refused, lost or late."""

    @contextmanager
    def disturb(scene: Scene) -> Iterator[None]:
        for network in scene.networks:
            network.disturb(trouble)
        yield
        for network in scene.networks:
            network.mend()

    return disturb


@contextmanager
def half_open(scene: Scene) -> Iterator[None]:
    """Connections are dead without a word; new ones work."""
    for network in scene.networks:
        network.forget()
    yield


def dropping(percent: int) -> Act:
    """Some of the packets are dropped, or all."""

    @contextmanager
    def drop(scene: Scene) -> Iterator[None]:
        spaces = [network.namespace for network in scene.networks if network.namespace is not None]
        for space in spaces:
            space.drop(percent)
        yield
        for space in spaces:
            space.pass_all()

    return drop
