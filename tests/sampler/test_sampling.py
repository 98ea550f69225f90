"""The sampler against a slow and obvious float64 one, and its promises to a batch."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from sampler.randomness import uniform
from sampler.sampling import SamplingRows, sample_

WideResults = Callable[[Tensor, int], AbstractContextManager[list[str]]]
Floats = npt.NDArray[np.float64]
INFINITY = float("inf")
DRAWS = 8000
LAST_DRAW = 1 - 2.0**-24
ALL = 10**6


@dataclass(frozen=True)
class Case:
    """One row."""

    logits: list[float]
    allowed: int = ALL
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = ALL
    draw: float = 0.5


def run(cases: list[Case]) -> tuple[list[int], Floats]:
    """The drawn ids, and each row's distribution as the sampler leaves it in the buffer."""
    width = len(cases[0].logits)
    logits = torch.tensor([case.logits for case in cases], dtype=torch.float32)
    rows = SamplingRows(
        columns=width,
        allowed=torch.tensor([min(case.allowed, width) for case in cases]),
        temperature=torch.tensor([case.temperature for case in cases]),
        top_p=torch.tensor([case.top_p for case in cases]),
        top_k=torch.tensor([min(case.top_k, width) for case in cases]),
    )
    ids = sample_(logits, rows, torch.tensor([case.draw for case in cases])).tolist()
    cumulative = logits.double().numpy()
    return ids, np.diff(cumulative / cumulative[:, -1:], prepend=0.0)


def reference(case: Case) -> Floats:
    """The reference's maths, step by step, in float64."""
    logits = np.array(case.logits, dtype=np.float64)[: case.allowed]
    weights = np.exp(logits - logits.max())
    probabilities = weights / weights.sum()
    order = sorted(range(len(logits)), key=lambda i: (-probabilities[i], i))
    result: Floats = np.zeros(len(case.logits))
    if case.temperature == 0:
        result[order[0]] = 1
        return result
    reached, cutoff = 0.0, 0.0
    for i in order:
        reached += probabilities[i]
        if reached >= case.top_p:
            cutoff = probabilities[i]
            break
    kept = [i for i in order[: case.top_k] if probabilities[i] >= cutoff]
    result[kept] = probabilities[kept] ** (1 / case.temperature)
    result /= result.sum()
    return result


def at_an_edge(case: Case) -> bool:
    """Whether rounding may decide which columns survive: the running sum all but equals top_p."""
    lower, upper = (replace(case, temperature=1.0, top_p=case.top_p + e) for e in (-1e-5, 1e-5))
    return not np.array_equal(reference(lower) > 0, reference(upper) > 0)


def draws(count: int, seed: int = 1) -> list[float]:
    found: list[float] = uniform(np.full(count, seed), np.full(count, 2), np.arange(count)).tolist()
    return found


columns = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=2, max_size=40)
"""Logits on a coarse grid: ties are exact, and what differs differs in float32 too."""


@settings(max_examples=300)
@given(columns, st.floats(0.05, 0.99), st.integers(1, 50), st.sampled_from([0.0, 0.7, 1.0, 1.6, 5.0]), st.data())
def test_distribution(
    logits: list[float], top_p: float, top_k: int, temperature: float, data: st.DataObject
) -> None:
    allowed = data.draw(st.integers(1, len(logits)))
    case = Case(logits, allowed, temperature, top_p, top_k, data.draw(st.sampled_from([0.0, 0.3, LAST_DRAW])))
    assume(not at_an_edge(case))
    expected = reference(case)
    ids, found = run([case])
    # A share below float32's resolution does not show in a running sum.
    visible = expected > 1e-6
    assert np.array_equal(found[0][visible] > 0, expected[visible] > 0)
    assert np.all(found[0][expected == 0] == 0)
    np.testing.assert_allclose(found[0], expected, atol=2e-6)
    assert expected[ids[0]] > 0
    below, above = expected[: ids[0]].sum(), expected[: ids[0] + 1].sum()
    assert below - 2e-6 <= case.draw <= above + 2e-6


@pytest.mark.parametrize(
    ("case", "survivors"),
    [
        pytest.param(Case([1.0] * 10, top_k=4), {0, 1, 2, 3}, id="ties at the top-k edge keep the lower id"),
        pytest.param(Case([0, 2, 1, 2, 1, 1.0], top_k=4), {1, 2, 3, 4}, id="only the edge's ties are dropped"),
        pytest.param(Case([1.0] * 10, top_p=0.25), set(range(10)), id="ties at the top-p edge stay"),
        pytest.param(Case([5, 1, 1, 1.0], top_p=0.95), {0, 1, 2, 3}, id="a tie just under top-p stays"),
        pytest.param(Case([9, 1, 1, 1.0], top_p=0.95), {0}, id="one survivor"),
        pytest.param(Case([1, 2, -INFINITY, 2.0]), {0, 1, 3}, id="minus infinity is never drawn"),
        pytest.param(Case([-INFINITY] * 3 + [0.0]), {3}, id="one finite column"),
        pytest.param(Case([3, 1, 2, 9, 9.0], allowed=3, top_k=2), {0, 2}, id="masked columns do not count"),
    ],
)
def test_survivors(case: Case, survivors: set[int]) -> None:
    _, found = run([case])
    assert set(np.flatnonzero(found[0])) == survivors
    assert set(np.flatnonzero(reference(case))) == survivors


@given(columns, st.floats(0, LAST_DRAW, width=32))
def test_greedy_is_argmax_with_ties_to_the_lowest_id(logits: list[float], draw: float) -> None:
    ids, _ = run([Case(logits, temperature=0.0, draw=draw)])
    assert ids == [int(np.argmax(logits))]


def histogram(case: Case) -> npt.NDArray[np.int64]:
    ids, _ = run([replace(case, draw=draw) for draw in draws(DRAWS)])
    return np.bincount(ids, minlength=len(case.logits))


@pytest.mark.parametrize(
    "case",
    [
        Case([0.5 * i for i in range(12)], top_p=0.9),
        Case([0.5 * i for i in range(12)], top_p=0.9, temperature=1.7),
        Case([0.5 * i for i in range(12)], top_k=5, temperature=0.6),
        Case([0.0] * 40, top_k=20),
    ],
)
def test_draws_follow_the_distribution(case: Case) -> None:
    counts, expected = histogram(case), reference(case)
    kept = expected > 0
    assert counts[~kept].sum() == 0
    assert chisquare(counts[kept], expected[kept] * counts.sum()).pvalue > 0.001


def test_the_end_is_not_drawn_too_often() -> None:
    """400 flat tokens and EOS at p = .0025: without renormalising after top_k, EOS is drawn at .80."""
    flat_and_eos = [0.0] * 400 + [1e-3]
    everything = histogram(Case(flat_and_eos))
    speech_and_end = [everything[:400].sum(), everything[400]]
    assert chisquare(speech_and_end, [DRAWS * 400 / 401, DRAWS / 401]).pvalue > 0.001
    cut = histogram(Case(flat_and_eos, top_k=80))
    assert chisquare(cut[cut > 0], np.full(80, DRAWS / 80)).pvalue > 0.001
    assert set(np.flatnonzero(cut)) == {*range(79), 400}


def model_like(rows: int, width: int = 8193) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(3)) * 3


def parameters(count: int) -> SamplingRows:
    """Rows of both phases with every kind of setting."""
    index = torch.arange(count)
    return SamplingRows(
        columns=8193,
        allowed=torch.where(index % 2 == 0, 4096, 8193),
        temperature=torch.tensor([1.0, 0.0, 0.7, 5.0, 0.01])[index % 5],
        top_p=torch.tensor([0.95, 1.0, 0.5])[index % 3],
        top_k=torch.tensor([20, 80, 8193, 1])[index % 4],
    )


def some(rows: SamplingRows, index: Tensor) -> SamplingRows:
    chosen = {name: getattr(rows, name)[index] for name in ("allowed", "temperature", "top_p", "top_k")}
    return SamplingRows(rows.columns, **chosen)


def test_a_row_does_not_depend_on_its_mates() -> None:
    logits, rows, numbers = model_like(60), parameters(60), torch.tensor(draws(60))

    def sampled(index: Tensor) -> list[int]:
        return sample_(logits[index].clone(), some(rows, index), numbers[index]).tolist()

    alone = [sampled(torch.tensor([i]))[0] for i in range(60)]
    assert sampled(torch.arange(60)) == alone
    for size in (2, 8, 31):
        index = torch.randperm(60, generator=torch.Generator().manual_seed(size))[:size]
        assert sampled(index) == [alone[i] for i in index.tolist()]


def test_ids_stay_below_allowed() -> None:
    logits, rows = model_like(60), parameters(60)
    logits[:, 4096:] += 30
    ids = sample_(logits, rows, torch.tensor(draws(60)))
    assert torch.all(ids < rows.allowed)
    assert torch.all(ids >= 0)
    assert torch.all(ids[rows.allowed > 4096] >= 4096)


@pytest.mark.parametrize("poison", [math.nan, INFINITY])
def test_a_row_that_is_not_finite_fails_alone(poison: float) -> None:
    logits, rows, numbers = model_like(8), parameters(8), torch.tensor(draws(8))
    expected = sample_(logits.clone(), rows, numbers).tolist()
    logits[3, 17] = poison
    logits[4] = -INFINITY
    expected[3] = expected[4] = -1
    assert sample_(logits, rows, numbers).tolist() == expected


def test_a_poisoned_column_that_is_masked_does_no_harm() -> None:
    assert run([Case([1.0, 2.0, math.nan], allowed=2, temperature=0.0)])[0] == [1]


@pytest.mark.parametrize("draw", [0.0, LAST_DRAW])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 5.0])
def test_extremes(draw: float, temperature: float) -> None:
    """The first and the last draw there is take the first and the last survivor."""
    wide = [-INFINITY, *np.linspace(-30, 30, 500).tolist(), -INFINITY]
    ids, found = run([Case(wide, temperature=temperature, draw=draw), Case([0.0] * 502, draw=draw)])
    survivors = np.flatnonzero(found[0])
    assert np.isfinite(found).all()
    assert ids == [survivors[0], 0] if draw == 0 else [survivors[-1], 501]
    assert 500 in survivors
    assert (len(survivors) > 300) == (temperature >= 1)


def test_the_buffer_is_worked_on_in_place(wide_results: WideResults) -> None:
    logits = model_like(4)
    rows = some(parameters(60), torch.tensor([0, 1, 4, 5]))
    pointer = logits.data_ptr()
    with wide_results(logits, 4096) as found:
        ids = sample_(logits, rows, torch.tensor(draws(4)))
    assert found == []
    assert logits.data_ptr() == pointer
    assert torch.all(logits.diff(dim=-1) >= 0)
    assert (ids.shape, ids.dtype) == ((4,), torch.int64)
