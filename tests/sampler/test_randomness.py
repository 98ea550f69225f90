"""Philox against its published vectors, and what a draw depends on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from sampler.randomness import Draws, philox4x32, uniform

WORD = 0xFFFFFFFF


def philox(counter: list[int], key: list[int]) -> list[int]:
    c0, c1, c2, c3 = (np.array([word], dtype=np.uint64) for word in counter)
    k0, k1 = (np.array([word], dtype=np.uint64) for word in key)
    return [int(word[0]) for word in philox4x32((c0, c1, c2, c3), (k0, k1))]


def draw(seed: int, phase: int, step: int) -> float:
    return float(uniform([seed], [phase], [step])[0])


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([WORD] * 4, [WORD] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_random123_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    assert philox(counter, key) == expected


def test_a_draw_is_the_first_word_of_its_counter() -> None:
    seed = 0x299F31D0_A4093822
    expected = philox([7, 2, 0, 0], [0xA4093822, 0x299F31D0])[0] >> 8
    assert draw(seed, 2, 7) == expected / 2**24


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 300), max_size=30))
def test_draws_in_blocks_are_the_single_ones(seed: int, steps: list[int]) -> None:
    """In whatever order the steps are asked for."""
    draws = Draws(seed, 2)
    assert [draws.at(step) for step in [*steps, *range(130)]] == [draw(seed, 2, s) for s in [*steps, *range(130)]]


def test_draws_are_uniform() -> None:
    steps = np.arange(50_000)
    draws = uniform(np.full(50_000, 42), np.full(50_000, 2), steps)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert kstest(draws, "uniform").pvalue > 0.01


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from([1, 2]), st.integers(0, 4095))
def test_seeds_phases_and_steps_each_change_the_draw(seed: int, other: int, phase: int, step: int) -> None:
    """Four neighbouring draws of equal value by chance: 2**-96."""
    steps = range(step, step + 4)
    here = [draw(seed, phase, s) for s in steps]
    assert here == [draw(seed, phase, s) for s in steps]
    assert here != [draw(seed, 3 - phase, s) for s in steps]
    assert here != [draw(seed, phase, s + 1) for s in steps]
    assert (here == [draw(other, phase, s) for s in steps]) == (seed == other)


@pytest.mark.parametrize("bit", [31, 32, 33, 62, 63])
def test_every_bit_of_a_seed_counts(bit: int) -> None:
    assert draw(5, 1, 0) != draw(5 | 1 << bit, 1, 0)


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    seeds = np.array([3, 2**63, 2**64 - 1], dtype=np.uint64)
    together = uniform(seeds, [1, 2, 1], [0, 9, 31])
    assert together.tolist() == [draw(int(s), p, t) for s, p, t in zip(seeds, [1, 2, 1], [0, 9, 31], strict=True)]
