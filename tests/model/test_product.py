"""Packed matrices: right, alike for every number of rows, and given up where the machine has none that is."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model import product
from model.invariance import RowPlan, row_plan
from model.product import Products

WIDE, SMALL, HEAD = (256, 512), (64, 32), (256, 100)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [WIDE, SMALL])
def test_a_row_is_alike_in_any_company(shape: tuple[int, int]) -> None:
    products = Products.measured([WIDE, SMALL], HEAD)
    multiply, multiple, x = products.of(normal(*shape)), products.rows.multiple, normal(640, shape[0])
    alone = torch.cat([multiply(x[i : i + multiple]) for i in range(0, 640, multiple)])
    torch.testing.assert_close(alone, x @ normal(*shape), atol=1e-4, rtol=1e-4)
    for rows in (multiple, 3 * multiple, 16 * multiple, 600 // multiple * multiple):
        assert torch.equal(multiply(x[:rows]), alone[:rows])


def wrong(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (x.bfloat16() @ matrix.bfloat16()).float()


def moody(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """Another rounding for a few rows."""
    return lambda x: x @ matrix + (1e-6 if len(x) == 5 else 0)


def absent(_: Tensor) -> Callable[[Tensor], Tensor]:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.mark.parametrize("packed", [wrong, moody, absent])
def test_what_cannot_be_trusted_is_not_used(
    monkeypatch: pytest.MonkeyPatch, packed: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> None:
    monkeypatch.setattr(product, "_packed_product", packed)
    products = Products.measured([WIDE, SMALL], HEAD)
    assert products == Products(row_plan([WIDE, SMALL, HEAD]))
    x = normal(products.rows.multiple, WIDE[0])
    assert torch.equal(products.of(normal(*WIDE))(x), x @ normal(*WIDE))


def test_large_matrices_are_packed_where_that_can_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_packed_product", lambda matrix: lambda x: torch.stack([r @ matrix for r in x]))
    monkeypatch.setattr(product, "rounds_alike", lambda *_: True)
    assert Products.measured([WIDE, SMALL], HEAD).packed == {WIDE}


def test_a_product_in_blocks() -> None:
    seen: list[int] = []
    x = normal(70, 3)
    found = RowPlan(1, 32).in_blocks(lambda part: seen.append(len(part)) or part * 2, x)  # type: ignore[func-returns-value]
    assert seen == [32, 32, 6]
    assert torch.equal(found, x * 2)


@pytest.mark.usefixtures("threads")
def test_a_state_meets_its_key_alike_in_any_company() -> None:
    """The recurrence's own product: one row with a matrix for each head."""
    keys, states = normal(40, 4, 1, 64), normal(40, 4, 64, 64)
    whole = keys @ states
    for rows in range(1, 40):
        assert torch.equal(keys[1 : 1 + rows] @ states[1 : 1 + rows], whole[1 : 1 + rows])
