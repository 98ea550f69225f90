"""What the compiled wave generator is passed, as native/waves.c has it."""

import ctypes

from native.library import NUMBERS

HALO = 27
"""Rows of zeros before and after."""
CELLS = 24576
"""Numbers that go through a residual unit at once, about."""
LEAST_CHUNK = 64
"""Rows at once, at least."""
COLUMNS = (64, 32, 16)
"""Of panels."""
MOST_RATE = 16
"""Phases of a transposed convolution, at most."""


class Convolution(ctypes.Structure):
    """Weights in panels."""

    _fields_ = (
        *((name, NUMBERS) for name in ("panels", "bias")),
        *((n, ctypes.c_int64) for n in ("taps", "in", "out")),
    )


class Snake(ctypes.Structure):
    """The activation."""

    _fields_ = (("alpha", NUMBERS), ("inverse", NUMBERS))


class Unit(ctypes.Structure):
    """A residual unit."""

    _fields_ = (
        *(("before", Snake), ("between", Snake)),
        *(("mix", Convolution), ("project", Convolution), ("dilation", ctypes.c_int64)),
    )


class Stage(ctypes.Structure):
    """A decoder block."""

    _fields_ = (
        ("before", Snake),
        ("phases", Convolution * MOST_RATE),
        ("first", ctypes.c_int64 * MOST_RATE),
        ("rate", ctypes.c_int64),
        ("units", Unit * 3),
    )


class Generator(ctypes.Structure):
    """All of it."""

    _fields_ = (
        *(("begin", Convolution), ("end", Convolution), ("before_end", Snake)),
        *(("stages", ctypes.POINTER(Stage)), ("depth", ctypes.c_int64)),
    )


class Room(ctypes.Structure):
    """Where it works, and the team that helps."""

    _fields_ = (
        *((name, NUMBERS) for name in ("here", "there", "active", "mixed")),
        *(("seat", ctypes.c_int64), ("team", ctypes.c_void_p)),
    )
