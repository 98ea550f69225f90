"""Parts that are joined: the pause is what was asked for, nothing is lost, nothing clicks."""

import numpy as np
import numpy.typing as npt
import pytest

from worker.delivery.joining import SILENT, Joiner
from worker.delivery.loudness import loudness, matched

RATE = 16_000
Wave = npt.NDArray[np.float32]


def speech(seconds: float, peak: float = 0.5, seed: int = 0) -> Wave:
    """Noise that is nowhere silent for long, and loud from its first sample to its last."""
    wave: Wave = np.random.default_rng(seed).uniform(-peak, peak, round(seconds * RATE)).astype(np.float32)
    wave[[0, -1]] = peak
    return wave


def silence(seconds: float) -> Wave:
    return np.random.default_rng(9).uniform(-SILENT / 2, SILENT / 2, round(seconds * RATE)).astype(np.float32)


def joined(*parts: Wave, pauses: list[float], size: int = 10**9, cut: bool = False) -> Wave:
    joiner, given = Joiner(RATE), []
    for number, part in enumerate(parts):
        joiner.begin(pauses[number - 1] if number else None)
        given += [joiner.feed(part[begin : begin + size]) for begin in range(0, len(part), size)]
        if cut:
            joiner.cut()
    return np.concatenate([*given, joiner.finish()])


def longest_silence(wave: Wave) -> float:
    """Seconds between the two loud samples that are farthest from each other without one between them."""
    loud = np.flatnonzero(np.abs(wave) > SILENT)
    return float(np.diff(loud).max() - 1) / RATE


@pytest.mark.parametrize("size", [1, 79, 80, 81, 333, 10**9])
def test_a_lone_part_stays_as_it_is(size: int) -> None:
    for wave in (
        speech(0.1),
        np.concatenate((silence(0.05), speech(0.05), silence(0.07), speech(0.02), silence(0.1))),
        silence(0.03),
    ):
        np.testing.assert_array_equal(joined(wave, pauses=[], size=size), wave)


@pytest.mark.parametrize("size", [160, 1000, 10**9])
@pytest.mark.parametrize("pause", [0.02, 0.15, 0.35, 0.7, 3.0])
@pytest.mark.parametrize("carried", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.4), (0.2, 0.1), (1.0, 1.0)])
def test_the_silence_between_two_parts_is_the_pause(carried: tuple[float, float], pause: float, size: int) -> None:
    first = np.concatenate((speech(0.3), silence(carried[0])))
    second = np.concatenate((silence(carried[1]), speech(0.3, seed=1)))
    whole = joined(first, second, pauses=[pause], size=size)
    assert longest_silence(whole) == pytest.approx(pause, abs=0.002)
    np.testing.assert_array_equal(whole[: round(0.29 * RATE)], first[: round(0.29 * RATE)])
    np.testing.assert_array_equal(whole[-round(0.29 * RATE) :], second[-round(0.29 * RATE) :])


def test_pieces_make_no_difference() -> None:
    parts = [np.concatenate((silence(0.1 * i), speech(0.2, seed=i), silence(0.3 - 0.1 * i))) for i in range(4)]
    parts.insert(2, silence(0.2))
    whole = joined(*parts, pauses=[0.15, 0.0, 0.7, 0.35])
    for size in (1, 37, 500):
        np.testing.assert_array_equal(joined(*parts, pauses=[0.15, 0.0, 0.7, 0.35], size=size), whole)


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_no_join_is_a_step(pause: float) -> None:
    """Constant level on both sides, so that every step in between comes from the joins."""
    level = np.full(RATE // 5, 0.8, np.float32)
    whole = joined(level, -level, level, pauses=[pause, pause], cut=True)
    assert np.abs(np.diff(whole)).max() <= 0.011
    assert abs(whole[-1]) <= 0.01


def test_what_was_cut_off_fades_within_5_ms() -> None:
    wave = np.full(RATE, 0.5, np.float32)
    cut = joined(wave, pauses=[], cut=True)
    np.testing.assert_array_equal(cut[: -RATE // 200], wave[: -RATE // 200])
    assert np.abs(np.diff(cut)).max() < 0.01
    assert cut[-1] == 0


def test_where_speech_begins_and_ends_is_told() -> None:
    joiner = Joiner(RATE)
    joiner.begin(None)
    joiner.feed(np.concatenate((silence(0.1), speech(0.5), silence(0.2))))
    assert (joiner.begun_at, joiner.ended_at) == (RATE // 10, 6 * RATE // 10)
    joiner.begin(0.35)
    joiner.feed(np.concatenate((silence(0.25), speech(1.0))))
    assert (joiner.begun_at, joiner.ended_at) == (round(0.95 * RATE), round(1.95 * RATE))


@pytest.mark.parametrize("factor", [0.3, 0.8, 1.0, 1.9])
def test_parts_are_brought_to_one_loudness(factor: float) -> None:
    """Whatever pauses they have."""
    first = np.concatenate((speech(1.0, 0.2), silence(0.5), speech(0.7, 0.2, 1)))
    second = np.concatenate((silence(1.0), speech(2.1, 0.2 * factor, 2), silence(0.2)))
    target = loudness(first, RATE)
    assert abs(10 * np.log10(loudness(matched(second, RATE, target), RATE) / target)) < 0.5
    assert np.abs(matched(speech(1.0, 0.9), RATE, 1.0)).max() <= 1


def test_silence_has_no_loudness_and_stays_silent() -> None:
    nothing = np.zeros(RATE, np.float32)
    assert loudness(nothing, RATE) == 0
    np.testing.assert_array_equal(matched(nothing, RATE, 0.1), nothing)
