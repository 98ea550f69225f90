"""The fast decoder against the plain one, utterances of unequal length in company and alone."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.streaming import Span
from fast_model import DEVICE, needs_cuda, needs_triton

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]
LENGTHS = (9, 1, 30)
SPANS = [Span(2, 5), Span(0, 1), Span(20, 30)]

if find_spec("triton"):
    from codec.fast import decoder, selftest


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is float32, on a GPU too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def fast(codec: BiCodec) -> "decoder.FastDecoder":
    codec.to(DEVICE)
    return decoder.FastDecoder(codec, torch.float32, graphs=False)


def tokens(codec: BiCodec, lengths: tuple[int, ...] = LENGTHS) -> tuple[list[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(3)
    semantic = [torch.randint(0, codec.semantic_size, (length,), generator=rng) for length in lengths]
    shape = (len(lengths), codec.globals_per_voice)
    return semantic, torch.randint(0, codec.global_size, shape, generator=rng)


def whole(lengths: tuple[int, ...] = LENGTHS) -> list[Span]:
    return [Span(0, length) for length in lengths]


def run(fast: "decoder.FastDecoder", semantic: list[Tensor], spans: list[Span], voices: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return fast(semantic, spans, voices)


def test_waves_are_the_plain_codecs(codec: BiCodec, fast: "decoder.FastDecoder") -> None:
    semantic, voices = tokens(codec)
    expected = codec.decode(semantic, voices)
    found = run(fast, semantic, whole(), voices)
    assert [len(wave) for wave in found] == [n * codec.hop for n in LENGTHS]
    assert selftest.signal_to_noise(found, expected) > 90
    spans = [wave[begin * codec.hop : end * codec.hop] for wave, (begin, end) in zip(expected, SPANS, strict=True)]
    assert selftest.signal_to_noise(run(fast, semantic, SPANS, voices), spans) > 90


def test_company_does_not_matter(codec: BiCodec, fast: "decoder.FastDecoder") -> None:
    semantic, voices = tokens(codec)
    together = run(fast, semantic, whole(), voices)
    (alone,) = run(fast, semantic[2:], whole()[2:], voices[2:])
    assert selftest.signal_to_noise([alone], together[2:]) > 90


def test_a_batch_that_is_too_long_is_cut_between_utterances(
    codec: BiCodec, fast: "decoder.FastDecoder", monkeypatch: pytest.MonkeyPatch
) -> None:
    semantic, voices = tokens(codec)
    expected = run(fast, semantic, whole(), voices)
    monkeypatch.setattr(decoder, "TOKENS_AT_ONCE", 20)
    found = run(fast, semantic, whole(), voices)
    assert selftest.signal_to_noise(found, expected) > 90


def test_one_utterance_may_be_longer_than_a_batch(
    codec: BiCodec, fast: "decoder.FastDecoder", monkeypatch: pytest.MonkeyPatch
) -> None:
    semantic, voices = tokens(codec)
    expected = run(fast, semantic, whole(), voices)
    monkeypatch.setattr(decoder, "TOKENS_AT_ONCE", 20)
    monkeypatch.setattr(fast, "_frames", fast._frames[:21])
    assert selftest.signal_to_noise(run(fast, semantic, whole(), voices), expected) > 90


def test_many_short_utterances_have_room_for_their_voices(codec: BiCodec, fast: "decoder.FastDecoder") -> None:
    lengths = (1,) * 12
    semantic, voices = tokens(codec, lengths)
    found = run(fast, semantic, whole(lengths), voices)
    assert selftest.signal_to_noise(found, codec.decode(semantic, voices)) > 90


@needs_cuda
def test_graphs_give_what_kernels_give(codec: BiCodec) -> None:
    semantic, voices = tokens(codec)
    captured, plain = decoder.FastDecoder(codec), decoder.FastDecoder(codec, graphs=False)
    expected = run(plain, semantic, whole(), voices)
    run(captured, semantic[:1], whole()[:1], voices[:1])  # leaves other values behind
    for one, other in zip(run(captured, semantic, whole(), voices), expected, strict=True):
        assert torch.equal(one, other)


def test_a_codec_adopts_it_only_if_it_decodes_the_same(codec: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "faster", None)  # put back at the end
    codec.to(DEVICE)
    fast = decoder.FastDecoder(codec, graphs=False)
    selftest.adopt(codec, fast)
    assert codec.faster is fast
    codec.faster = None
    fast._generator._weight[0] += 1.0
    with pytest.raises(selftest.SelfTestError, match="engine = reference"):
        selftest.adopt(codec, fast)
    assert codec.faster is None
