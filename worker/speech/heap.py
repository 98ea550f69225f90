"""The C library's heap, in which tensors and waves lie: what is free in it still counts as the worker's memory."""

import ctypes

_LIBC = ctypes.CDLL(None)
_M_ARENA_MAX = -8
"""Of glibc's ``malloc.h``."""


def share_heap() -> None:
    """Have all threads that begin from now on use one heap, where the C library is glibc.

    Else each of the pipeline's keeps what its largest work needed, though they seldom need it at the same time.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Give back what is free between things that are in use, where the C library is glibc; takes milliseconds."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
