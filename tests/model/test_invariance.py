"""The row multiple: on it, a row's product depends neither on the number of rows nor on its place."""

from collections.abc import Iterator

import pytest
import torch

from model import invariance
from model.invariance import row_multiple

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
    multiple = row_multiple([matrix])
    x = torch.randn(200, shape[0], generator=generator)
    alone = torch.cat([padded(row[None], multiple) @ matrix for row in x]).view(200, multiple, -1)[:, 0]
    for count in (1, 2, 3, 5, 8, 16, 17, 64, 100, 200):
        index = torch.randperm(200, generator=generator)[:count]
        assert torch.equal((padded(x[index], multiple) @ matrix)[:count], alone[index])


def padded(x: torch.Tensor, multiple: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % multiple))


def test_the_smallest_multiple_that_suits_all(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {32: 1, 64: 8, 96: 4}
    monkeypatch.setattr(invariance, "_is_consistent", lambda m, multiple: multiple % needs[m.shape[0]] == 0)
    assert row_multiple([torch.empty(size, 1) for size in needs]) == 8
    assert row_multiple([torch.empty(32, 1)]) == 1


def test_a_machine_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariance, "_is_consistent", lambda *_: False)
    with pytest.raises(RuntimeError, match="depend on the batch"):
        row_multiple([torch.empty(64, 64)])
