"""Tiles cover a product exactly: the kernels have no masks for columns and depth."""

from collections.abc import Callable

import pytest

from model.fast.tiles import ENOUGH_BLOCKS, MOST_SPLITS, ROOM, Tile, gate_tile, summed_tile, tile

SIZES = [(1024, 1024), (4096, 1024), (1024, 4096), (3584, 1024), (8320, 1024), (192, 192), (192, 640), (640, 192)]
ROWS = (1, 16, 17, 64, 65, 128, 512, 1024, 8192)


@pytest.mark.parametrize(("columns", "depth"), SIZES)
@pytest.mark.parametrize("cut", [tile, summed_tile])
@pytest.mark.parametrize("room", [ROOM, ROOM // 2, 43_000], ids=["16 bits", "32 bits", "99 KB"])
def test_tiles_divide_columns_and_depth_and_fit_a_multiprocessor(
    columns: int, depth: int, cut: Callable[..., Tile], room: int
) -> None:
    for n in ROWS:
        t = cut(n, columns, depth, room=room)
        assert columns % t.columns == 0
        assert depth % (t.depth * t.splits) == 0
        assert 1 <= t.splits <= MOST_SPLITS
        assert t.stages >= 1
        assert (t.rows + t.columns) * t.depth * t.stages <= room


def test_no_block_crosses_a_border() -> None:
    for n in ROWS:
        assert 64 % tile(n, 3 * 192 + 4 * 64, 192, within=64).columns == 0


@pytest.mark.parametrize("width", [192, 256, 768, 1024])
def test_the_tiles_of_the_lora_outputs_divide_the_width(width: int) -> None:
    for n in ROWS:
        t = gate_tile(n, width, 128)
        assert width % t.columns == 0
        assert 128 % t.depth == 0


@pytest.mark.parametrize(("columns", "depth"), [(1024, 4096), (1024, 1024)])
@pytest.mark.parametrize("n", [1, 64, 128, 256, 512])
def test_a_decode_step_of_the_published_size_fills_the_device_once(n: int, columns: int, depth: int) -> None:
    t = summed_tile(n, columns, depth)
    assert ENOUGH_BLOCKS <= columns // t.columns * -(-n // t.rows) * t.splits <= 132


@pytest.mark.parametrize("rows", [(1, 16), (17, 32), (33, 64)])
def test_numbers_of_rows_of_one_class_share_a_tile(rows: tuple[int, int]) -> None:
    """Then a row's bits do not depend on how many there are."""
    for cut in (tile, summed_tile, gate_tile):
        assert len({cut(n, 1024, 4096) for n in range(rows[0], rows[1] + 1)}) == 1
