"""The row multiple: on it, a row's product depends neither on the number of rows nor on its place."""

from collections.abc import Iterator

import pytest
import torch

from model import invariance
from model.invariance import RowPlan, row_plan

SHAPES = [(64, 64), (128, 128), (128, 32), (32, 128), (128, 512), (512, 128), (128, 8193)]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_round_alike(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(shape, generator=generator)
    multiple = row_plan([shape]).multiple
    x = torch.randn(200, shape[0], generator=generator)
    alone = torch.cat([padded(row[None], multiple) @ matrix for row in x]).view(200, multiple, -1)[:, 0]
    for count in (1, 2, 3, 5, 8, 16, 17, 64, 100, 200):
        index = torch.randperm(200, generator=generator)[:count]
        assert torch.equal((padded(x[index], multiple) @ matrix)[:count], alone[index])


def padded(x: torch.Tensor, multiple: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % multiple))


def test_the_cheapest_plan_that_suits_all(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {32: 1, 64: 8, 96: 4}
    monkeypatch.setattr(invariance, "_is_consistent", lambda shape, plan: plan.multiple % needs[shape[0]] == 0)
    assert row_plan([(size, 1) for size in needs]) == RowPlan(8, 512)
    assert row_plan([(32, 1)]) == RowPlan(1, 512)


def test_a_machine_that_blocks_many_rows_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariance, "_is_consistent", lambda _, plan: plan.block <= 64 and plan.multiple >= 4)
    assert row_plan([(32, 1)]) == RowPlan(4, 64)


def test_a_machine_that_has_none_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariance, "_is_consistent", lambda *_: False)
    with pytest.warns(RuntimeWarning, match="may depend on what runs beside it"):
        assert row_plan([(64, 64)]) == RowPlan(32, 32)
