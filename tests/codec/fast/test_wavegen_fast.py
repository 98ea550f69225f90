"""The fast wave generator against the plain one, utterances of unequal length in company and alone."""

from importlib.util import find_spec

import pytest
import torch

from codec.bicodec import BiCodec
from fast_model import DEVICE, needs_triton

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]
LENGTHS = (9, 1, 4)

if find_spec("triton"):
    from codec.fast import selftest, wavegen


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 is float32, on a GPU too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def frames(codec: BiCodec) -> torch.Tensor:
    codec.to(DEVICE)
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(LENGTHS), codec.config.decoder.input_channel, max(LENGTHS), generator=generator).to(
        DEVICE
    )


def plain(codec: BiCodec, frames: torch.Tensor) -> list[torch.Tensor]:
    """Each alone."""
    return [codec.decoder(frame[None, :, :n])[0, 0] for frame, n in zip(frames, LENGTHS, strict=True)]


@torch.inference_mode()
def test_waves_are_those_of_each_utterance_alone(codec: BiCodec, frames: torch.Tensor) -> None:
    fast = wavegen.FastWaveGenerator(codec.decoder, torch.float32)
    found = fast(frames, LENGTHS)
    assert [len(wave) for wave in found] == [n * codec.hop for n in LENGTHS]
    assert selftest.signal_to_noise(found, plain(codec, frames)) > 90


@torch.inference_mode()
def test_what_lies_beyond_an_utterance_does_not_matter(codec: BiCodec, frames: torch.Tensor) -> None:
    fast = wavegen.FastWaveGenerator(codec.decoder, torch.float32)
    dirty = frames.clone()
    for row, length in enumerate(LENGTHS):
        dirty[row, :, length:] = 1e4
    for one, other in zip(fast(frames, LENGTHS), fast(dirty, LENGTHS), strict=True):
        assert torch.equal(one, other)


@torch.inference_mode()
def test_a_batch_that_is_too_long_is_cut_between_utterances(
    codec: BiCodec, frames: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wavegen, "TOKENS_AT_ONCE", 13)
    found = wavegen.FastWaveGenerator(codec.decoder, torch.float32)(frames, LENGTHS)
    assert selftest.signal_to_noise(found, plain(codec, frames)) > 90


def test_a_codec_adopts_it_only_if_it_decodes_the_same(codec: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_waves = codec.make_waves
    monkeypatch.setattr(codec, "make_waves", plain_waves)  # put back at the end
    fast = wavegen.FastWaveGenerator(codec.decoder)
    selftest.adopt(codec, fast)
    assert codec.make_waves is fast
    codec.make_waves = plain_waves
    fast._taps[0] += 1.0
    with pytest.raises(selftest.SelfTestError, match="engine = reference"):
        selftest.adopt(codec, fast)
    assert codec.make_waves is plain_waves
