"""How a product of rows with a matrix is cut into blocks: the one table to edit after a profile.

A GPU is full when every multiprocessor has a block. A decode step has few rows, so the columns are cut fine, and a
product whose result is a sum anyway is cut along its depth too: the kernel that reads the parts adds them up.
"""

from dataclasses import dataclass
from functools import cache

ENOUGH_BLOCKS = 100
"""Fewer leave multiprocessors idle: an H200 has 132."""
MOST_SPLITS = 4


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
def tile(n: int, columns: int, depth: int, *, splits: int = 1, within: int = 0) -> Tile:
    """The tile for ``n`` rows, a matrix [columns, depth], and at most ``splits`` parts of the sum.

    Args:
        n, columns, depth: Sizes of the product; columns is a multiple of 32, depth of 64.
        splits: 1 where the result must be whole.
        within: Blocks must not cross multiples of this many columns; 0 for none.
    """
    rows = 16 if n <= 16 else 32 if n <= 32 else 64 if n <= 64 else 128
    widths = [w for w in (128, 64, 32) if columns % w == 0 and (within or columns) % w == 0]
    most = max(s for s in (1, 2, MOST_SPLITS) if s <= splits and depth % (s * 64) == 0)
    width = next((w for w in widths if columns // w * -(-n // rows) * most >= ENOUGH_BLOCKS), widths[-1])
    blocks = columns // width * -(-n // rows)
    parts = next((s for s in (1, 2, MOST_SPLITS) if s >= most or blocks * s >= ENOUGH_BLOCKS), most)
    deep = rows <= 64 and depth // parts % 128 == 0
    large = rows == 128 and width == 128
    return Tile(rows, width, 128 if deep else 64, parts, 8 if large else 4, 4 if deep or not large else 3)
