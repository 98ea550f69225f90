"""How a product of rows with a matrix is cut into blocks; the numbers were measured on an H200.

A GPU is full when every multiprocessor has a block, and blocks of a second wave cost as much as those of a full
one. A decode step has few rows, so the columns are cut fine, and a product whose result is a sum anyway is cut
along its depth too: the kernel that reads the parts adds them up.
"""

from dataclasses import dataclass
from functools import cache

ENOUGH_BLOCKS = 100
"""Fewer leave multiprocessors idle: an H200 has 132."""
MOST_SPLITS = 8
MOST_TOKENS_EARLY = 512
"""Kernels of longer steps do not start early: waiting programs would take the place of working ones."""
WKV_WARPS = 2
SEQUENCE_WARPS = 1

_ENOUGH_OF_FEW_ROWS = 60
_LEAST_PART = 256
_FEW_ROWS, _MANY_ROWS = 64, 1024
ROOM = 100_000
"""16-bit numbers in the shared memory of a program on an H200, with some bytes left."""


@dataclass(frozen=True)
class Tile:
    """``rows`` x ``columns`` of the result, ``depth`` of the sum at a time; ``splits`` parts of the sum."""

    rows: int
    columns: int
    depth: int
    splits: int
    warps: int
    stages: int


@cache
def tile(n: int, columns: int, depth: int, *, within: int = 0, room: int = ROOM) -> Tile:
    """The tile of a whole product of ``n`` rows with a matrix [columns, depth].

    Args:
        n, columns, depth: Sizes of the product; columns is a multiple of 32, depth of 64.
        within: Blocks must not cross multiples of this many columns; 0 for none.
        room: Numbers that a program may have in shared memory.
    """
    rows, enough = _rows(n), _ENOUGH_OF_FEW_ROWS if n <= _FEW_ROWS else ENOUGH_BLOCKS
    widths = [w for w in (128, 64, 32) if columns % w == 0 and (within or columns) % w == 0]
    width = next((w for w in widths if columns // w * -(-n // rows) >= enough), widths[-1])
    return _tile(n, rows, width, depth, 1, room)


@cache
def summed_tile(n: int, columns: int, depth: int, *, room: int = ROOM) -> Tile:
    """The same for a product that may be left in up to ``MOST_SPLITS`` parts."""
    rows = _rows(n)
    most = max(
        s for s in (1, 2, 4, MOST_SPLITS) if s == 1 or (depth % (s * 64) == 0 and depth // s >= _LEAST_PART)
    )
    widths = [w for w in (128 if n > _MANY_ROWS else 64, 64, 32) if columns % w == 0]
    width = next((w for w in widths if columns // w * -(-n // rows) * most >= ENOUGH_BLOCKS), widths[-1])
    blocks = columns // width * -(-n // rows)
    splits = next((s for s in (1, 2, 4) if s >= most or blocks * s >= ENOUGH_BLOCKS), most)
    return _tile(n, rows, width, depth, splits, room)


@cache
def gate_tile(n: int, columns: int, depth: int, *, room: int = ROOM) -> Tile:
    """The same for the LoRA outputs: four products of little depth in one launch."""
    width = 16 if n <= 16 else 32 if n <= _FEW_ROWS else 128 if columns % 128 == 0 else 64
    return _tile(n, 128 if n > _MANY_ROWS else min(64, _rows(n)), width, depth, 1, room)


def sequence_values(rows: int, n: int) -> int:
    """Values of a head's state that a program of ``wkv_sequence`` keeps: fewer where that must fill the GPU."""
    return 64 if n > 4 * _MANY_ROWS else 8 if rows <= 128 else 16


def _rows(n: int) -> int:
    return next(rows for rows, most in ((16, 16), (32, 32), (64, 64), (128, _MANY_ROWS), (256, n)) if n <= most)


def _tile(n: int, rows: int, width: int, depth: int, splits: int, room: int) -> Tile:
    line = rows + width
    deep = 64 if rows * width >= 128 * 128 or depth // splits % 128 or line * 256 > room else 128
    stages = max(1, min(5 if n <= _FEW_ROWS else 4, room // (line * deep)))
    return Tile(rows, width, deep, splits, 8 if rows * width >= 64 * 128 else 4, stages)
