"""An utterance that is decoded span by span while its tokens come: the samples of the whole one."""

import json
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from codec.bicodec import BiCodec
from codec.config import VocosConfig
from codec.streaming import Span, prenet_field, reach, settled
from codec.vocoder import Vocoder

DEMO_VOICE = Path(__file__).parents[2] / "assets" / "demo-voice"
SCHEDULES = ([10, 20, 40, 80], [1, 3, 7], [33])
EXACT = 100.0
"""Decibels; float32 in another order is at 110 and more."""

Samples = np.typing.NDArray[np.float32]


def decibels(found: Samples, expected: Samples) -> float:
    noise = np.square(found.astype(float) - expected).sum()
    return float(10 * np.log10(np.square(expected.astype(float)).sum() / max(noise, 1e-30)))


def spans(length: int, sizes: list[int], lookahead: int) -> Iterator[tuple[int, Span]]:
    """What a caller asks for, and how many tokens there are by then; sizes of chunks grow to the last one's."""
    done = 0
    for size in chain(sizes, repeat(sizes[-1])):
        known = min(length, done + size + lookahead)
        yield known, (span := Span(done, settled(known, ended=known == length, lookahead=lookahead)))
        if (done := span.end) == length:
            return


def streamed(vocoder: Vocoder, tokens: list[int], voice: list[int], sizes: list[int], lookahead: int) -> Samples:
    asked = spans(len(tokens), sizes, lookahead)
    return np.concatenate([vocoder([tokens[:known]], [voice], [span], lookahead)[0] for known, span in asked])


def random_tokens(codec: BiCodec, length: int) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(length)
    voice = rng.integers(codec.global_size, size=codec.globals_per_voice)
    return rng.integers(codec.semantic_size, size=length).tolist(), voice.tolist()


@pytest.fixture(scope="module")
def demo() -> BiCodec:
    return BiCodec.load(DEMO_VOICE / "bicodec")


def demo_tokens(name: str) -> tuple[list[int], list[int]]:
    voice = json.loads((DEMO_VOICE / "voices" / f"{name}.raf.json").read_text(encoding="utf-8"))
    return voice["semantic_tokens"], voice["global_tokens"]


@pytest.mark.parametrize("sizes", SCHEDULES)
def test_with_the_whole_reach_streamed_is_whole(codec: BiCodec, sizes: list[int]) -> None:
    tokens, voice = random_tokens(codec, 170)
    vocoder = Vocoder(codec)
    (whole,) = vocoder([tokens], [voice])
    found = streamed(vocoder, tokens, voice, sizes, reach(codec.config))
    assert found.shape == whole.shape
    assert decibels(found, whole) > EXACT


@pytest.mark.parametrize(("lookahead", "least"), [(18, 85.0), (20, EXACT)])
@pytest.mark.parametrize("name", ["slt", "awb"])
def test_the_demo_voice_needs_less(demo: BiCodec, name: str, lookahead: int, least: float) -> None:
    tokens, voice = demo_tokens(name)
    vocoder = Vocoder(demo)
    (whole,) = vocoder([tokens], [voice])
    assert decibels(streamed(vocoder, tokens, voice, SCHEDULES[0], lookahead), whole) >= least


def test_without_lookahead_it_would_be_heard(demo: BiCodec) -> None:
    tokens, voice = demo_tokens("slt")
    vocoder = Vocoder(demo)
    (whole,) = vocoder([tokens], [voice])
    assert decibels(streamed(vocoder, tokens, voice, SCHEDULES[0], 0), whole) < 30


def test_spans_of_several_rows_at_once_are_each_its_own(codec: BiCodec) -> None:
    vocoder = Vocoder(codec)
    rows = [random_tokens(codec, length) for length in (150, 12, 90)]
    asked = [Span(80, 100), Span(0, 12), Span(89, 90)]
    semantic, voices = [tokens for tokens, _ in rows], [voice for _, voice in rows]
    for wave, whole, (begin, end) in zip(
        vocoder(semantic, voices, asked), vocoder(semantic, voices), asked, strict=True
    ):
        assert len(wave) == (end - begin) * codec.hop
        assert decibels(wave, whole[begin * codec.hop : end * codec.hop]) > EXACT


def test_what_lies_beyond_the_reach_is_not_read(codec: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a stream would cost more and more."""
    seen: list[int] = []

    def note(semantic: list[torch.Tensor], *_: object) -> list[torch.Tensor]:
        seen.extend(map(len, semantic))
        return [torch.zeros(1)]

    monkeypatch.setattr(codec, "faster", note)
    tokens, voice = random_tokens(codec, 1000)
    Vocoder(codec)([tokens], [voice], [Span(500, 520)])
    assert seen == [20 + 2 * reach(codec.config)]


def test_the_published_prenet_reaches_57_tokens() -> None:
    published = VocosConfig(
        input_channels=1, vocos_dim=1, vocos_intermediate_dim=1, vocos_num_layers=12, out_channels=1
    )
    assert prenet_field(published) == 57, "measured by spoiling tokens"


def test_no_span_is_settled_before_there_are_tokens_to_look_ahead_to() -> None:
    assert settled(10, ended=False, lookahead=24) == 0
    assert settled(30, ended=False, lookahead=24) == 6
    assert settled(30, ended=True, lookahead=24) == 30


@pytest.mark.parametrize("span", [Span(0, 0), Span(3, 2), Span(-1, 2), Span(0, 6)])
def test_a_span_that_is_none_is_refused(codec: BiCodec, span: Span) -> None:
    with pytest.raises(ValueError, match=r"spans\[0\]: got tokens .* expected at least one within 0 to 5"):
        Vocoder(codec)([[1, 2, 3, 4, 5]], [[0] * codec.globals_per_voice], [span])


def test_there_is_a_span_for_each_row(codec: BiCodec) -> None:
    with pytest.raises(ValueError, match="spans: got 2, expected 1"):
        Vocoder(codec)([[1, 2]], [[0] * codec.globals_per_voice], [Span(0, 1), Span(1, 2)])
