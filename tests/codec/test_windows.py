"""Windows give what the whole gives, and have few sizes."""

import pytest
import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.config import WaveGeneratorConfig
from codec.layers import Mask
from codec.wavegen import WaveGenerator
from codec.windows import LEAST, MOST_PLAIN, WindowedWaveGenerator, receptive_field

PUBLISHED = WaveGeneratorConfig(input_channel=1024, channels=1536, rates=(8, 5, 4, 2), kernel_sizes=(16, 11, 8, 4))
LENGTHS = (1, 31, 32, 33, 255, 256, 257, 491, 700)


def frames(codec: BiCodec, length: int) -> Tensor:
    shape = (1, codec.config.decoder.input_channel, length)
    return torch.randn(shape, generator=torch.Generator().manual_seed(length))


def test_the_receptive_field_is_what_reaches_a_sample(codec: BiCodec) -> None:
    """By spoiling frames farther and farther away."""
    config, at = codec.config.decoder, 40
    field = receptive_field(config)
    reached = []
    for distance in range(1, field + 4):
        spoilt = frames(codec, 2 * at + 1)
        spoilt[..., at + distance] = torch.nan
        wave = codec.decoder(spoilt)[0, 0, at * codec.hop : (at + 1) * codec.hop]
        reached.append(bool(wave.isnan().any()))
    assert not any(reached[field:])
    assert field - 1 <= reached.index(False) <= field, "a bound that is too wide costs time"


def test_the_published_receptive_field() -> None:
    assert receptive_field(PUBLISHED) in (10, 11), "9.8 tokens, measured by spoiling frames"


@torch.inference_mode()
@pytest.mark.parametrize("length", LENGTHS)
def test_windows_give_what_the_whole_gives(codec: BiCodec, length: int) -> None:
    windows = WindowedWaveGenerator(codec.decoder, codec.config.decoder)
    wave = windows(frames(codec, length)[0], 0, length)
    torch.testing.assert_close(wave, codec.decoder(frames(codec, length))[0, 0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_less_overlap_would_be_heard(codec: BiCodec) -> None:
    windows = WindowedWaveGenerator(codec.decoder, codec.config.decoder)
    windows._context //= 3
    wave = windows(frames(codec, 700)[0], 0, 700)
    assert (wave - codec.decoder(frames(codec, 700))[0, 0]).abs().max() > 1e-4


@torch.inference_mode()
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (50, 60), (10, 400), (491, 492)])
def test_a_span_gives_what_the_whole_gives_there(codec: BiCodec, begin: int, end: int) -> None:
    windows = WindowedWaveGenerator(codec.decoder, codec.config.decoder)
    whole = codec.decoder(frames(codec, 492))[0, 0]
    wave = windows(frames(codec, 492)[0], begin, end)
    torch.testing.assert_close(wave, whole[begin * codec.hop : end * codec.hop], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_windows_have_few_sizes(codec: BiCodec) -> None:
    class Recorder(WaveGenerator):
        def __init__(self) -> None:
            super().__init__(codec.config.decoder)
            self.sizes: set[int] = set()

        def forward(self, frames: Tensor, mask: Mask = None) -> Tensor:
            self.sizes.add(frames.shape[2])
            return super().forward(frames, mask)

    recorder = Recorder()
    windows = WindowedWaveGenerator(recorder, codec.config.decoder)
    for length in range(1, 600, 7):
        windows(frames(codec, length)[0], 0, length)
    assert recorder.sizes == {LEAST, 2 * LEAST, MOST_PLAIN}
