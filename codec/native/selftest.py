"""Lets a codec make its waves by compiled code, if they are what plain torch makes."""

import torch

from codec.bicodec import BiCodec
from codec.native.wavegen import NativeWaveGenerator
from native.library import UnavailableError

TOLERANCE = 1e-4
"""Greatest difference of two samples; rounding is at 0.000001."""
_FRAMES = 5


@torch.inference_mode()
def adopt(codec: BiCodec) -> NativeWaveGenerator:
    """Let compiled code make the codec's waves when those of a few frames come out the same.

    The weights are then there in its form only.

    Returns:
        The compiled wave generator.

    Raises:
        UnavailableError: They differ, or there is no compiled code for this machine or these sizes. The codec is
            as it was.
    """
    config = codec.config.decoder
    native = NativeWaveGenerator(codec.decoder, config)
    frames = torch.randn(config.input_channel, _FRAMES, generator=torch.Generator().manual_seed(0))
    expected = codec.make_waves(frames, 0, _FRAMES)
    error = float((native(frames, 0, _FRAMES) - expected).abs().max())
    if not error <= TOLERANCE:
        raise UnavailableError(f"its waves are {error:.2g} off plain torch's on this machine")
    codec.make_waves = native
    codec.decoder.to_empty(device="meta")
    return native
