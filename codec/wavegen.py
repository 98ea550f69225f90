"""The wave generator: the decoder of the Descript Audio Codec (Kumar et al. 2023). Tensors are float32."""

from typing import cast

from torch import Tensor, nn

from codec.config import WaveGeneratorConfig
from codec.layers import Mask, RaggedConv1d, RaggedConvTranspose1d, Snake

KERNEL_SIZE = 7
DILATIONS = (1, 3, 9)


class ResidualUnit(nn.Module):
    """[B, C, T] to [B, C, T]."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            [
                Snake(channels),
                RaggedConv1d(channels, channels, KERNEL_SIZE, dilation=dilation),
                Snake(channels),
                RaggedConv1d(channels, channels, 1),
            ]
        )

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        activate, mix, activate_again, project = self.block
        return x + cast(Tensor, project(activate_again(mix(activate(x), mask))))


class DecoderBlock(nn.Module):
    """[B, in_channels, T] to [B, out_channels, T * rate]."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            [
                Snake(in_channels),
                RaggedConvTranspose1d(in_channels, out_channels, kernel_size, rate),
                *(ResidualUnit(out_channels, dilation) for dilation in DILATIONS),
            ]
        )

    def forward(self, x: Tensor, mask: Mask = None) -> Tensor:
        activate, upsample, *residual_units = self.block
        x = upsample(activate(x), mask)
        for unit in residual_units:
            x = unit(x, mask)
        return x


class WaveGenerator(nn.Module):
    """Frames [B, input_channel, T] to waveform [B, 1, T * hop] in [-1, 1].

    Attributes:
        model: The stages, each called with its input and the mask: a convolution, the upsampling blocks, an
            activation and the last convolution.
    """

    def __init__(self, config: WaveGeneratorConfig) -> None:
        super().__init__()
        widths = [config.channels // 2**i for i in range(len(config.rates) + 1)]
        shapes = zip(widths[:-1], widths[1:], config.kernel_sizes, config.rates, strict=True)
        self.model = nn.ModuleList(
            [
                RaggedConv1d(config.input_channel, config.channels, KERNEL_SIZE),
                *(DecoderBlock(*shape) for shape in shapes),
                Snake(widths[-1]),
                RaggedConv1d(widths[-1], 1, KERNEL_SIZE),
            ]
        )

    def forward(self, frames: Tensor, mask: Mask = None) -> Tensor:
        x = frames
        for stage in self.model:
            x = stage(x, mask)
        return x.tanh()
