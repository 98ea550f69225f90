"""Faults of the store of audio."""

from collections.abc import Iterator
from contextlib import contextmanager

from chaos.faults.kind import Scene


@contextmanager
def crash(scene: Scene) -> Iterator[None]:
    """SIGKILL; it is away for some time, with all that it had acknowledged."""
    assert scene.store is not None
    scene.store.kill()
    yield
    scene.store.start()
