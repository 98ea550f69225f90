"""What is taken for speech in a recording, by what sounds like it: its timbre changes several times a second."""

import numpy as np
import pytest
from numpy.typing import NDArray

from codec.activity import activity, speech_spans
from codec.faults import ends_in_speech, faults
from codec.recording import DEFAULT_LIMITS, recorded

RATE = 16_000
Audio = NDArray[np.float64]


def babble(seconds: float, seed: int = 0) -> Audio:
    """Sounds of 50 ms, each of overtones of its own, with a breath between every ten."""
    rng, time = np.random.default_rng(seed), np.arange(RATE // 20) / RATE
    syllables = []
    for number in range(round(seconds * 20)):
        strengths = rng.uniform(-2, 0, 30) * (number % 10 > 0) - 9 * (number % 10 == 0)
        tones = [10**s * np.sin(2 * np.pi * 120 * n * time) for n, s in enumerate(strengths, 1)]
        syllables.append(np.sum(tones, axis=0))
    sound = np.concatenate(syllables)
    scaled: Audio = 0.3 * sound / np.abs(sound).max()
    return scaled


def room(seconds: float, level: float = 3e-4) -> Audio:
    return np.random.default_rng(9).normal(0, level, round(seconds * RATE))


def organ(seconds: float) -> Audio:
    time = np.arange(round(seconds * RATE)) / RATE
    sound: Audio = 0.05 * np.sum([np.sin(2 * np.pi * hertz * time) for hertz in (262, 330, 392, 523)], axis=0)
    return sound


CLICK = np.where(np.arange(320) < 40, 0.9, 0.0)


def spans(audio: Audio) -> list[tuple[float, float]]:
    found = speech_spans(activity(audio, RATE).spoken, RATE)
    return [(begin / RATE, min(end, len(audio)) / RATE) for begin, end in found]


def test_speech_with_its_pauses_is_one_span() -> None:
    ((begin, end),) = spans(babble(5))
    assert begin == 0
    assert end > 4.8


@pytest.mark.parametrize(
    "before",
    [
        room(3),
        np.concatenate((CLICK, room(1))),
        np.concatenate((CLICK, room(1), CLICK, room(4))),
        organ(4),
        room(3, 0.02),
    ],
)
def test_what_comes_before_speech_is_none(before: Audio) -> None:
    begins = [begin for begin, _ in spans(np.concatenate((before, room(0.4), babble(5))))]
    assert begins == pytest.approx([len(before) / RATE + 0.4], abs=0.3)


def test_a_long_silence_divides_speech_and_a_short_one_does_not() -> None:
    assert len(spans(np.concatenate((babble(2), room(0.8), babble(2, 1))))) == 1
    (_, end), (begin, _) = spans(np.concatenate((babble(2), room(4), babble(2, 1))))
    assert end == pytest.approx(2, abs=0.4)
    assert begin == pytest.approx(6, abs=0.4)


@pytest.mark.parametrize("audio", [organ(3), room(3, 0.1), np.full(RATE, 0.5) + room(1)])
def test_where_nothing_is_like_speech_all_that_is_heard_counts(audio: Audio) -> None:
    assert len(recorded(audio, DEFAULT_LIMITS, RATE).speech) > 0.9 * len(audio)


def test_a_lone_click_is_a_recording_too_if_there_is_nothing_else() -> None:
    audio = np.concatenate((room(1), organ(0.15), room(1)))
    assert len(recorded(audio, DEFAULT_LIMITS, RATE).speech) >= 0.1 * RATE


def test_a_recording_that_is_all_speech_stays_as_it_is() -> None:
    audio = babble(5)
    whole = recorded(audio, DEFAULT_LIMITS, RATE).speech
    clicked = recorded(np.concatenate((CLICK, room(2), audio)), DEFAULT_LIMITS, RATE).speech
    assert abs(len(whole) - len(clicked)) < 0.05 * RATE


@pytest.mark.parametrize(
    ("audio", "told"),
    [
        (babble(4), []),
        (babble(1), ["0.9 s of speech"]),
        (np.clip(10 * babble(4), -1, 1), ["it is clipped"]),
        (0.5 * np.clip(20 * babble(4), -1, 1), ["it is clipped"]),
        (np.concatenate((babble(4), 0.1 * babble(4, 1))), ["its loudness changes by "]),
    ],
)
def test_faults_are_told(audio: Audio, told: list[str]) -> None:
    found = list(faults(audio, activity(audio, RATE)))
    assert len(found) == len(told), found
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True)), found


def test_a_recording_that_was_cut_ends_in_speech() -> None:
    audio = babble(4)
    assert ends_in_speech(activity(audio[: 3 * RATE - 800], RATE))
    assert not ends_in_speech(activity(np.concatenate((audio, room(0.2))), RATE))
