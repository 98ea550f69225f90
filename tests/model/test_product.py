"""Products with 16-bit matrices: right, alike in any company, not used where they cannot be trusted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import product
from model.product import Product, Products

SHAPES = [(256, 512), (64, 32), (32, 64), (256, 101)]
X86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"}
"""What makes the libraries do without newer instructions than AVX2."""


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Thousands of small products take long on several threads beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def halves() -> list[Tensor]:
    return [normal(*shape).half().float() for shape in SHAPES]


def multiplied(products: Products, multiply: Product, x: Tensor, out: Tensor | None = None) -> Tensor:
    """The product as a model has it: padded, in blocks, into a buffer if there is one."""
    padded = F.pad(x, (0, 0, 0, products.rows.padding(len(x))))
    if out is None:
        return multiply(padded)[: len(x)]
    multiply.into(padded, out[: len(padded)])
    return out[: len(x)]


def assert_alike(products: Products, matrix: Tensor) -> None:
    """That rows among up to 140, and around the ends of blocks, come out as they do alone."""
    block, multiply = products.rows.block, products.of(matrix)
    sizes = [*range(1, 141), *(blocks * block + n for blocks in (1, 2) for n in (-1, 0, 1, 2, 7))]
    x, repeats = normal(140, matrix.shape[0]), max(sizes) // 140 + 1
    alone = torch.cat([multiplied(products, multiply, row[None]) for row in x]).repeat(repeats, 1)
    torch.testing.assert_close(alone[:140].double(), x.double() @ matrix.double(), atol=1e-4, rtol=1e-4)
    x, buffer = x.repeat(repeats, 1), torch.empty(products.rows.padded(max(sizes)), matrix.shape[1])
    for n in sizes:
        assert torch.equal(multiplied(products, multiply, x[:n]), alone[:n])
    for n in sizes[::9]:
        assert torch.equal(multiplied(products, multiply, x[-n:], buffer), alone[-n:])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("matrices", [halves(), [normal(*shape) for shape in SHAPES]], ids=["half", "float"])
def test_a_row_is_alike_in_any_company(matrices: list[Tensor]) -> None:
    products = Products.measured(matrices)
    for matrix in matrices:
        assert_alike(products, matrix)


def test_bfloat16_fits_but_for_its_smallest_numbers_and_float32_does_not() -> None:
    small = normal(256, 512).mul(1e-3).bfloat16().float()
    assert (small.half() != small).any()
    assert product.fits_half(small)
    assert not product.fits_half(normal(256, 512))
    assert not product.fits_half(torch.full((2, 2), 65536.0))
    assert not product.fits_half(torch.full((2, 2), torch.nan))


def sizes_that_agree(matrix: Tensor) -> set[int]:
    """Up to 63 rows: the numbers of them that torch's 16-bit product rounds as it rounds them among 64."""
    try:
        packed = torch.fbgemm_pack_gemm_matrix_fp16(matrix.t().contiguous())
        x = normal(64, matrix.shape[0])
        whole = torch.fbgemm_linear_fp16_weight_fp32_activation(x, packed, None)
    except (AttributeError, RuntimeError):
        return set()
    parts = {n: torch.fbgemm_linear_fp16_weight_fp32_activation(x[:n], packed, None) for n in range(1, 64)}
    return {n for n, part in parts.items() if torch.equal(part, whole[:n])}


@pytest.mark.usefixtures("threads")
def test_16_bits_are_used_where_sizes_agree() -> None:
    products, agree = Products.measured(halves()), set.intersection(*map(sizes_that_agree, halves()))
    assert products.half == bool(agree)
    assert products.description.startswith("16 bits (FBGEMM), " if agree else "32 bits (BLAS; 16 would hold")
    if products.half:
        assert products.rows.padded(1) == min(agree)
        assert (", rows not padded; " in products.description) == (len(agree) == 63)


def test_32_bits_are_used_for_what_needs_them() -> None:
    products = Products.measured([*halves(), normal(64, 32)])
    assert not products.half
    assert products.description.startswith("32 bits (BLAS; which the weights need), ")
    assert products.description.endswith(f"; {torch.backends.cpu.get_cpu_capability()}")


@pytest.mark.skipif(not X86, reason="instructions of x86")
def test_a_processor_without_newer_instructions_than_avx2() -> None:
    """What this file and the model's ask of any machine, with kernels of which some sizes differ."""
    files = [__file__, str(Path(__file__).with_name("test_rwkv7.py"))]
    selected = ["-k", "company or 16_bits or ragged", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *files, *selected],
        cwd=Path(__file__).parents[2],
        env=os.environ | AVX2_ONLY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout


def one_by_one(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.cat([row[None] @ matrix for row in x])


def wrong(matrix: Tensor) -> product.Multiply:
    return lambda x, out: torch.add((x.bfloat16() @ matrix.bfloat16()).float(), 0, out=out)


def moody(matrix: Tensor) -> product.Multiply:
    """Another rounding for a few rows."""
    return lambda x, out: torch.add(one_by_one(x, matrix), 1e-6 if len(x) == 5 else 0, out=out)


def fickle(matrix: Tensor) -> product.Multiply:
    """Another rounding for every number of rows."""
    return lambda x, out: torch.add(one_by_one(x, matrix), 1e-5 * len(x), out=out)


def deaf(matrix: Tensor) -> product.Multiply:
    """Does not write where it is told to."""
    return lambda x, out: x @ matrix


def absent(_: Tensor) -> product.Multiply:
    raise AttributeError("module 'torch' has no attribute 'fbgemm_pack_gemm_matrix_fp16'")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("half", "reason"),
    [
        (wrong, "such products are wrong here"),
        (fickle, "such products round a row by its batch mates here"),
        (deaf, "such products are wrong here"),
        (absent, "this machine or build of torch has no such product"),
    ],
)
def test_what_cannot_be_trusted_is_not_used(
    monkeypatch: pytest.MonkeyPatch, half: product.Make, reason: str
) -> None:
    monkeypatch.setattr(product, "_half", half)
    products = Products.measured(halves())
    assert not products.half
    assert products.description.startswith(f"32 bits (BLAS; 16 would hold the weights, but {reason}), ")
    matrix, x = halves()[0], normal(products.rows.padded(1), SHAPES[0][0])
    assert torch.equal(products.of(matrix)(x), x @ matrix)


@pytest.mark.usefixtures("one_thread")
def test_a_product_that_differs_at_some_sizes_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_half", moody)
    products = Products.measured(halves())
    assert products.half
    assert [products.rows.padded(n) for n in (1, 4, 5, 6)] == [1, 4, 6, 6]
    assert products.description.startswith(
        "16 bits (FBGEMM), rows padded from 5 to 6 of every 64, in blocks of 512"
    )
    assert_alike(products, halves()[1])


@pytest.mark.usefixtures("one_thread")
def test_a_machine_on_which_nothing_is_alike_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_half", absent)
    monkeypatch.setattr(product, "_float", fickle)
    with pytest.warns(RuntimeWarning, match="may depend on what runs beside it"):
        products = Products.measured(halves())
    assert "in blocks of 32, which round by their batch mates all the same; " in products.description


def test_other_devices_take_rows_as_they_come() -> None:
    products = Products.measured([torch.empty(4, 4, device="meta")])
    assert products.rows.padded(3) == 3
    assert products.description == "32 bits; meta"


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
@pytest.mark.skipif(not X86, reason="FBGEMM is for x86")
def test_8_bits_are_close_and_alike_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_LEAST_INT8", 0)
    products = Products.measured(halves(), int8=True)
    assert products.description.startswith("8 bits, small matrices ")
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
