"""The compiled functions: where they lie, and for which processors."""

import ctypes
import platform
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch

COMPILED = "_compiled"
"""The file beside this one, less its suffix."""
NUMBERS = ctypes.c_void_p
"""Where a tensor's numbers lie."""

_VECTORS = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}
"""Of processors with x86-64, by what torch uses of them; the best first."""

Function = Any
"""Of ctypes; a call lets other threads run."""


class UnavailableError(ValueError):
    """There is no compiled code for this machine or this model; the message says why, in half a sentence."""


def supported() -> tuple[str, ...]:
    """The vectors that this processor has, the best first.

    Raises:
        UnavailableError: None that anything was written for.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return ("neon",)
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _VECTORS:
        raise UnavailableError(f"there is none for a processor like this one ({platform.machine()}, {capability})")
    return _VECTORS[capability]


def function(name: str, arguments: str, result: Any = None) -> Function:
    """A compiled function.

    Args:
        name: With the vectors of ``supported()`` that end it, where it is there for each.
        arguments: A letter for each, p for a pointer and n for a number.
        result: The type of what it returns, if anything.

    Raises:
        UnavailableError: Nothing was compiled.
    """
    found = ctypes.CDLL(str(_path()))[name]
    found.argtypes = [ctypes.c_void_p if letter == "p" else ctypes.c_int64 for letter in arguments]
    found.restype = result
    return found


def _path() -> Path:
    stem = Path(__file__).with_name(COMPILED)
    for suffix in EXTENSION_SUFFIXES:
        if (path := stem.with_suffix(suffix)).exists():
            return path
    raise UnavailableError("it was not compiled when this was installed, which needs a C compiler such as gcc")
