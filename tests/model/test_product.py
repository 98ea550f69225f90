"""Products with 16-bit matrices: right, alike for any number of rows, not used where they cannot be trusted."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model import product
from model.invariance import RowPlan, row_plan
from model.product import Product, Products

SHAPES = [(256, 512), (64, 32), (32, 64), (256, 101)]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def halves() -> list[Tensor]:
    return [normal(*shape).half().float() for shape in SHAPES]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("matrices", [halves(), [normal(*shape) for shape in SHAPES]], ids=["half", "float"])
def test_a_row_is_alike_in_any_company(matrices: list[Tensor]) -> None:
    products = Products.measured(matrices)
    multiple = products.rows.multiple
    for matrix in matrices:
        multiply, x = products.of(matrix), normal(640, matrix.shape[0])
        alone = torch.cat([multiply(x[i : i + multiple]) for i in range(0, 640, multiple)])
        torch.testing.assert_close(alone.double(), x.double() @ matrix.double(), atol=1e-4, rtol=1e-4)
        for rows in (multiple, 3 * multiple, 16 * multiple, 600 // multiple * multiple):
            assert torch.equal(multiply(x[:rows]), alone[:rows])
            multiply.into(x[:rows], out := torch.empty(rows, matrix.shape[1]))
            assert torch.equal(out, alone[:rows])


def test_bfloat16_fits_but_for_its_smallest_numbers_and_float32_does_not() -> None:
    small = normal(256, 512).mul(1e-3).bfloat16().float()
    assert (small.half() != small).any()
    assert product._fits_half(small)
    assert not product._fits_half(normal(256, 512))
    assert not product._fits_half(torch.full((2, 2), 65536.0))
    assert not product._fits_half(torch.full((2, 2), torch.nan))


@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="FBGEMM is for x86")
def test_half_is_used_for_what_fits_it() -> None:
    assert Products.measured(halves()) == Products(RowPlan(1, 512), half=True)
    assert not Products.measured([*halves(), normal(64, 32)]).half


def wrong(matrix: Tensor) -> product.Multiply:
    return lambda x, out: torch.add((x.bfloat16() @ matrix.bfloat16()).float(), 0, out=out)


def moody(matrix: Tensor) -> product.Multiply:
    """Another rounding for a few rows."""
    return lambda x, out: torch.add(x @ matrix, 1e-6 if len(x) == 5 else 0, out=out)


def deaf(matrix: Tensor) -> product.Multiply:
    """Does not write where it is told to."""
    return lambda x, out: x @ matrix


def absent(_: Tensor) -> product.Multiply:
    raise AttributeError("module 'torch' has no attribute 'fbgemm_pack_gemm_matrix_fp16'")


@pytest.mark.parametrize("half", [wrong, moody, deaf, absent])
def test_what_cannot_be_trusted_is_not_used(
    monkeypatch: pytest.MonkeyPatch, half: Callable[[Tensor], product.Multiply]
) -> None:
    monkeypatch.setattr(product, "_half", half)
    products = Products.measured(halves())
    assert products == Products(row_plan(SHAPES))
    matrix, x = halves()[0], normal(products.rows.multiple, SHAPES[0][0])
    assert torch.equal(products.of(matrix)(x), x @ matrix)


def test_a_product_in_blocks() -> None:
    seen: list[int] = []

    def double(x: Tensor, out: Tensor | None) -> Tensor:
        seen.append(len(x))
        return torch.mul(x, 2, out=out)

    x, written = normal(70, 3), torch.empty(70, 3)
    twice = Product(double, block=32)
    assert torch.equal(twice(x), x * 2)
    twice.into(x, written)
    assert torch.equal(written, x * 2)
    assert seen == [32, 32, 6] * 2


@pytest.mark.usefixtures("threads")
def test_a_state_meets_its_key_alike_in_any_company() -> None:
    """The recurrence's own product: one row with a matrix for each head."""
    keys, states = normal(40, 4, 1, 64), normal(40, 4, 64, 64)
    whole = keys @ states
    for rows in range(1, 40):
        assert torch.equal(keys[1 : 1 + rows] @ states[1 : 1 + rows], whole[1 : 1 + rows])


@pytest.mark.usefixtures("threads")
@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="FBGEMM is for x86")
def test_8_bits_are_close_and_alike_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_LEAST_INT8", 0)
    products = Products.measured(halves(), int8=True)
    for matrix in halves():
        multiply, x = products.of(matrix), normal(64, matrix.shape[0])
        x[3] *= 1e4  # another row's size must not matter
        x[4] = 0
        alone = torch.cat([multiply(row[None]) for row in x])
        errors = (alone - x @ matrix).norm(dim=1) / (x @ matrix).norm(dim=1).clamp_min(1e-9)
        assert 0 < errors.max() < 0.04
        assert torch.equal(multiply(x), alone)
        multiply.into(x, out := torch.empty(64, matrix.shape[1]))
        assert torch.equal(out, alone)


def test_small_matrices_keep_their_bits() -> None:
    small, x = halves()[0], normal(4, SHAPES[0][0])
    assert torch.equal(
        Products.measured(halves(), int8=True).of(small)(x), Products.measured(halves()).of(small)(x)
    )


def test_8_bits_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_int8", absent)
    monkeypatch.setattr(product, "_LEAST_INT8", 0)
    with pytest.raises(ValueError, match="int8 needs a CPU and a build of torch"):
        Products.measured(halves(), int8=True)
