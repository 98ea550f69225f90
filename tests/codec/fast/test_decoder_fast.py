"""The fast decoder against the plain one, utterances of unequal length in company and alone."""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.streaming import Span
from fast_model import CUDA, DEVICE, needs_cuda, needs_triton
from random_bicodec import SMALL_CONFIG, write_random_bicodec

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]
LENGTHS = (3, 1, 7)
SPANS = [Span(2, 3), Span(0, 1), Span(1, 5)]
EXACT = 90.0
"""Decibels that float32 in another order is above."""

if find_spec("triton"):
    from codec.fast import decoder, selftest


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is float32, on a GPU too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BiCodec:
    """Of fewer samples a token where it is Triton's interpreter that runs: one takes it long."""
    config = copy.deepcopy(dict(SMALL_CONFIG))
    if not CUDA:
        config["audio_tokenizer"]["decoder"] |= {"rates": [5, 2], "kernel_sizes": [11, 4]}
    directory: Path = tmp_path_factory.mktemp("bicodec")
    write_random_bicodec(directory, config, seed=1)
    return BiCodec.load(directory, DEVICE)


@pytest.fixture(scope="module")
def fast(small: BiCodec) -> "decoder.FastDecoder":
    return decoder.FastDecoder(small, torch.float32, graphs=False)


def tokens(codec: BiCodec, lengths: Sequence[int] = LENGTHS) -> tuple[list[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(3)
    semantic = [torch.randint(0, codec.semantic_size, (length,), generator=rng) for length in lengths]
    shape = (len(lengths), codec.globals_per_voice)
    return semantic, torch.randint(0, codec.global_size, shape, generator=rng)


@torch.inference_mode()
def run(
    fast: "decoder.FastDecoder", semantic: list[Tensor], voices: Tensor, spans: list[Span] | None = None
) -> list[Tensor]:
    return fast(semantic, spans or [Span(0, len(row)) for row in semantic], voices)


def decibels(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    assert [wave.shape for wave in found] == [wave.shape for wave in expected]
    return selftest.signal_to_noise(found, expected)


def test_waves_are_the_plain_codecs(small: BiCodec, fast: "decoder.FastDecoder") -> None:
    semantic, voices = tokens(small)
    expected = small.decode(semantic, voices)
    assert decibels(run(fast, semantic, voices), expected) > EXACT
    spans = [
        wave[span.begin * small.hop : span.end * small.hop] for wave, span in zip(expected, SPANS, strict=True)
    ]
    assert decibels(run(fast, semantic, voices, SPANS), spans) > EXACT


def test_a_span_is_the_same_in_any_company(small: BiCodec) -> None:
    """In half precision another order of a sum would change how everything after it is rounded."""
    fast = decoder.FastDecoder(small, graphs=CUDA)
    semantic, voices = tokens(small)
    (alone,) = run(fast, semantic[2:], voices[2:], SPANS[2:])
    assert torch.equal(run(fast, semantic, voices, SPANS)[2], alone)


def test_a_batch_that_is_too_long_is_cut_between_utterances(
    small: BiCodec, fast: "decoder.FastDecoder", monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an utterance that is longer than a batch is one."""
    semantic, voices = tokens(small)
    monkeypatch.setattr(decoder, "TOKENS_AT_ONCE", 10)
    monkeypatch.setattr(fast, "_frames", fast._frames[:11])
    assert decibels(run(fast, semantic, voices), small.decode(semantic, voices)) > EXACT


def test_many_short_utterances_have_room_for_their_voices(small: BiCodec, fast: "decoder.FastDecoder") -> None:
    semantic, voices = tokens(small, (1,) * 6)
    assert decibels(run(fast, semantic, voices), small.decode(semantic, voices)) > EXACT


@needs_cuda
def test_graphs_give_what_kernels_give(small: BiCodec) -> None:
    semantic, voices = tokens(small)
    captured, plain = decoder.FastDecoder(small), decoder.FastDecoder(small, graphs=False)
    expected = run(plain, semantic, voices)
    run(captured, semantic[:1], voices[:1])  # leaves other values behind
    for one, other in zip(run(captured, semantic, voices), expected, strict=True):
        assert torch.equal(one, other)


def test_a_codec_adopts_it_only_if_it_decodes_the_same(small: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "faster", None)  # put back at the end
    monkeypatch.setattr(selftest, "_LENGTHS", LENGTHS)
    fast = decoder.FastDecoder(small, graphs=False)
    selftest.adopt(small, fast)
    assert small.faster is fast
    small.faster = None
    fast._generator._bias = fast._generator._bias + 1.0
    with pytest.raises(selftest.SelfTestError, match="engine = reference"):
        selftest.adopt(small, fast)
    assert small.faster is None
