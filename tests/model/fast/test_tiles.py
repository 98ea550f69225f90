"""Tiles cover a product exactly: the kernels have no masks for columns and depth."""

import pytest

from model.fast.tiles import MOST_SPLITS, tile

SIZES = [(1024, 1024), (4096, 1024), (1024, 4096), (3584, 1024), (8320, 1024), (192, 192), (192, 640), (640, 192)]


@pytest.mark.parametrize(("columns", "depth"), SIZES)
@pytest.mark.parametrize("splits", [1, MOST_SPLITS])
def test_tiles_divide_columns_and_depth(columns: int, depth: int, splits: int) -> None:
    for n in (1, 16, 17, 64, 65, 128, 512, 8192):
        t = tile(n, columns, depth, splits=splits, within=64)
        assert columns % t.columns == 0
        assert 64 % t.columns == 0, "no block crosses a border"
        assert depth % (t.depth * t.splits) == 0
        assert t.splits <= splits


@pytest.mark.parametrize(("columns", "depth", "splits"), [(1024, 4096, 4), (1024, 1024, 4), (4096, 1024, 1)])
@pytest.mark.parametrize("n", [1, 64, 128, 256, 512])
def test_a_decode_step_of_the_published_size_fills_the_device(
    n: int, columns: int, depth: int, splits: int
) -> None:
    t = tile(n, columns, depth, splits=splits)
    assert columns // t.columns * -(-n // t.rows) * t.splits >= 100


@pytest.mark.parametrize("rows", [(1, 16), (17, 32), (33, 64)])
def test_numbers_of_rows_of_one_class_share_a_tile(rows: tuple[int, int]) -> None:
    """Then a row's bits do not depend on how many there are."""
    assert len({tile(n, 1024, 4096, splits=MOST_SPLITS) for n in range(rows[0], rows[1] + 1)}) == 1
