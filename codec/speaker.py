"""The voice of an utterance as a fixed number of global tokens, and back to one vector.

Tensors are float32 unless said otherwise.
"""

from typing import cast

from torch import Tensor, nn

from codec.config import SpeakerEncoderConfig
from codec.ecapa import EcapaTdnn
from codec.layers import loaded
from codec.perceiver import PerceiverResampler
from codec.quantizers import FiniteScalarQuantizer


class SpeakerEncoder(nn.Module):
    """Mel frames to global tokens, and global tokens to the voice's vector.

    Args:
        config: The sizes of its parts.
        encoder: Whether to have what only the former needs.
    """

    def __init__(self, config: SpeakerEncoderConfig, *, encoder: bool) -> None:
        super().__init__()
        channels, self.token_num = config.ecapa_channels, config.token_num
        self.quantizer = FiniteScalarQuantizer(config, encoder=encoder)
        self.project = nn.Linear(config.latent_dim * config.token_num, config.out_dim)
        self.speaker_encoder = EcapaTdnn(config.input_dim, channels) if encoder else None
        self.perceiver_sampler = (
            PerceiverResampler(3 * channels, config.latent_dim, config.token_num) if encoder else None
        )

    def latents(self, mel: Tensor) -> Tensor:
        """Mel frames [B, T, num_mels] to one latent per token [B, token_num, latent_dim].

        Raises:
            RuntimeError: The codec was loaded without its encoder.
        """
        frames = loaded(self.speaker_encoder)(mel)
        return cast(Tensor, loaded(self.perceiver_sampler)(frames.transpose(1, 2)))

    def quantize(self, mel: Tensor) -> Tensor:
        """Mel frames [B, T, num_mels] to global ids int64 [B, token_num].

        Raises:
            RuntimeError: The codec was loaded without its encoder.
        """
        return self.quantizer.quantize(self.quantizer.project(self.latents(mel)))

    def dequantize(self, ids: Tensor) -> Tensor:
        """Global ids int64 [B, token_num] to voice vectors [B, out_dim]."""
        return self.vector(self.quantizer.codes(ids))

    def vector(self, codes: Tensor) -> Tensor:
        """What global ids stand for, [B, token_num, len(fsq_levels)], to voice vectors [B, out_dim]; affine."""
        latents: Tensor = self.quantizer.project_out(codes)
        return cast(Tensor, self.project(latents.transpose(1, 2).flatten(1)))
