"""Row plans: as they pad rows, a row's product depends neither on the number of rows nor on its place."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model.invariance import ANY_ROWS, RowPlan, Trial, row_plan

SHAPES = [(64, 64), (128, 128), (128, 32), (32, 128), (128, 512), (512, 128), (128, 8193)]

Kernel = Callable[[int], Tensor]
"""Which of a library's kernels computes each of n rows."""


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
    plan = row_plan([Trial(lambda x: x @ matrix, shape[0])])
    assert plan
    x = torch.randn(200, shape[0], generator=generator)
    alone = torch.cat([multiplied(row[None], matrix, plan) for row in x])
    for count in (1, 2, 3, 5, 8, 16, 17, 64, 100, 200):
        index = torch.randperm(200, generator=generator)[:count]
        assert torch.equal(multiplied(x[index], matrix, plan), alone[index])


def multiplied(x: Tensor, matrix: Tensor, plan: RowPlan) -> Tensor:
    padded = torch.nn.functional.pad(x, (0, 0, 0, plan.padding(len(x))))
    return torch.cat([part @ matrix for part in torch.split(padded, plan.block)])[: len(x)]


def library(kernel: Kernel) -> Trial:
    """Products of a library whose kernels give different results."""
    return Trial(lambda x: x + kernel(len(x))[:, None], 2)


def by_size(odd: Callable[[int], bool]) -> Kernel:
    """One kernel for all rows of a size, another where the size is odd."""
    return lambda n: torch.full((n,), float(odd(n)))


def left_over(n: int) -> Tensor:
    """One kernel for eight rows at once, others for what is left over."""
    return torch.where(torch.arange(n) < n - n % 8, 0.0, float(n % 8))


def left_over_of_blocks(n: int) -> Tensor:
    """Six rows at once within blocks of 120, and another kernel for what is left over if it is one row or two."""
    last = n % 120 % 6
    return torch.where(torch.arange(n) < n - last, 0.0, float(last in (1, 2)))


def kernels_of(kernel: Kernel, plan: RowPlan, rows: int) -> set[float]:
    """The kernels that compute rows which are multiplied by the plan."""
    parts = torch.split(torch.arange(plan.padded(rows)), plan.block)
    return set(torch.cat([kernel(len(part)) for part in parts])[:rows].tolist())


@pytest.mark.parametrize(
    ("kernel", "one", "block"),
    [
        (by_size(lambda _: False), 1, 512),
        (by_size(lambda n: n == 1), 2, 512),
        (left_over, 8, 512),
        (by_size(lambda n: n == 5), 1, 512),
        (by_size(lambda n: n > 400), 1, 128),
        (by_size(lambda n: n > 100), 1, 64),
        (by_size(lambda n: n > 48), 1, 32),
        (left_over_of_blocks, 3, 64),
        (lambda n: (torch.arange(n) > 30).float(), 1, 30),
    ],
    ids=["any", "not 1", "eights", "not 5", "few", "fewer", "fewest", "sixes", "by place"],
)
def test_the_cheapest_sizes_that_agree(kernel: Kernel, one: int, block: int) -> None:
    plan = row_plan([library(kernel)])
    assert plan
    assert (plan.padded(1), plan.block) == (one, block)
    usual = kernels_of(kernel, plan, 1)
    assert len(usual) == 1
    assert all(kernels_of(kernel, plan, n) == usual for n in range(1, 1200))


def test_a_plan_suits_all_products() -> None:
    plan = row_plan([library(by_size(lambda n: n == 1)), library(by_size(lambda n: n in (2, 9)))])
    assert plan
    assert [plan.padded(n) for n in (1, 2, 3, 8, 9, 10)] == [3, 3, 3, 8, 10, 10]


def test_no_plan_where_every_size_is_another() -> None:
    assert row_plan([library(by_size(lambda _: False)), Trial(lambda x: x + len(x), 2)]) is None


def test_no_padding_where_all_agree() -> None:
    assert row_plan([library(by_size(lambda _: False))]) == ANY_ROWS
    assert all(ANY_ROWS.padded(n) == n for n in range(1200))


@pytest.mark.parametrize("sizes", [{4}, {2, 3, 4, 5}, {3, 4, 5, 6, 8}, set(range(1, 65))])
def test_more_rows_are_never_fewer_and_end_in_a_size_that_agrees(sizes: set[int]) -> None:
    plan = RowPlan.of(sizes, 512)
    padded = [plan.padded(n) for n in range(1200)]
    assert padded == sorted(padded)
    assert all(n <= size < n + max(sizes) for n, size in enumerate(padded))
    assert {size % plan.block % max(sizes) for size in padded} <= {0, *sizes}


def test_a_plan_in_words() -> None:
    assert str(ANY_ROWS) == "rows not padded"
    assert str(RowPlan.of({3, 4, 6}, 6)) == "rows padded from 1-2 to 3, 5 to 6, in blocks of 6"
    assert str(RowPlan.of({4}, 512)) == "rows padded from 1-3 to 4 of every 4, in blocks of 512"
