"""The compiled forward in all the ways that this processor can run it."""

import pytest

from model.checkpoint import Checkpoint
from model.native.forward import NativeRWKV7
from native.library import UnavailableError, supported


def _vectors() -> tuple[str, ...]:
    try:
        return supported()
    except UnavailableError:
        return ()


COMPILED = _vectors()


def compiled(checkpoint: Checkpoint, vectors: str | None = None) -> NativeRWKV7:
    """One; without a compiler, where it was not made, the test skips."""
    try:
        return NativeRWKV7(checkpoint, vectors=vectors)
    except UnavailableError as error:
        pytest.skip(str(error))
