"""The prenet with products in half precision; what blocks add up and what norms see is float32."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.fast.layers import GELU, LINEAR, Convolution, Norm, Row
from codec.speaker import SpeakerEncoder
from codec.vocos import AdaptiveLayerNorm, ConvNeXtBlock, FrameDecoder, VocosBackbone

_STAGE_FACTOR = 3.0
"""See ``codec.vocos.ResamplingStage``."""


class FastPrenet:
    """What ``FrameDecoder`` computes of a codebook's vectors; its weights are copied.

    Args:
        prenet: Conditioned on a voice.
        vectors: float32 [ids, input_channels], what semantic ids stand for.
        speaker: Makes vectors of voices.
        dtype: Of the products.
    """

    def __init__(self, prenet: FrameDecoder, vectors: Tensor, speaker: SpeakerEncoder, dtype: torch.dtype) -> None:
        backbones = [*(stage[1] for stage in list[Any](prenet.downsample)), prenet.vocos_backbone]
        factors = [_STAGE_FACTOR] * len(prenet.downsample) + [1.0]
        self._voice = _voice_layer(prenet, speaker)
        table = factors[0] * prenet.linear_pre(vectors)
        self._table = F.pad(table, (0, 0, 0, 1)).to(dtype)  # id -1, of gaps, is the last row: zeros
        self._backbones = [
            _Backbone(backbone, dtype, factor)
            for backbone, factor in zip(backbones, [*factors[1:], 1.0], strict=True)
        ]
        self._width = prenet.vocos_backbone.embed.out_channels
        self._project = Convolution(prenet.linear.weight, torch.zeros_like(prenet.linear.bias), dtype, LINEAR)

    def __call__(self, ids: Tensor, owners: Tensor, voices: Tensor) -> Tensor:
        """The wave generator's input, [L, out_channels], zero in gaps.

        Args:
            ids: int32 [L], -1 in gaps.
            owners: int32 [L], whose each is.
            voices: float32 [utterances, token_num * len(fsq_levels)], what their global ids stand for.
        """
        inside = (ids >= 0).float()
        affine = self._voice(voices, torch.ones_like(voices[:, 0]))
        shifts, styles = affine.tensor_split([self._project.shape(voices)[1]], dim=1)
        row, x = Row(inside, owners, styles.view(len(voices), -1, 2, self._width)), self._table[ids]
        for backbone in self._backbones:
            x = backbone(x, row)
        return self._project(x, inside, shifts[owners], add=True)


def _voice_layer(prenet: FrameDecoder, speaker: SpeakerEncoder) -> Convolution:
    """All that is made of a voice's codes, which is affine: what is added to frames, and the styles of norms.

    One product of float32, of which every row is the same in any company.
    """
    norms = [norm for norm in prenet.vocos_backbone.modules() if isinstance(norm, AdaptiveLayerNorm)]
    halves: list[Any] = [half for norm in norms for half in (norm.scale, norm.shift)]
    tokens, levels = speaker.token_num, len(speaker.quantizer.levels)
    ones = torch.eye(tokens * levels + 1, tokens * levels, device=prenet.linear.bias.device)  # the last is zero
    voices = speaker.vector(ones.view(-1, tokens, levels))
    made = torch.cat([voices + prenet.linear.bias, *(half(voices) for half in halves)], dim=1)
    return Convolution((made[:-1] - made[-1]).t(), made[-1], torch.float32, LINEAR)


class _Backbone:
    """[L, in_channels] to [L, dim], both zero in gaps.

    Args:
        backbone: Its weights are copied.
        dtype: Of input, output and products.
        factor: For the output.
    """

    def __init__(self, backbone: VocosBackbone, dtype: torch.dtype, factor: float) -> None:
        embed: Any = backbone.embed
        self._embed = Convolution(embed.weight, embed.bias, dtype, LINEAR, out_dtype=torch.float32)
        self._norm = Norm(_norm(backbone), torch.float32)
        self._blocks = [_Block(block, dtype, number) for number, block in enumerate(_blocks(backbone), 1)]
        self._final = Norm(backbone.final_layer_norm, dtype, factor=factor)

    def __call__(self, x: Tensor, row: Row) -> Tensor:
        x = self._norm(self._embed(x, row.inside), row)
        for block in self._blocks:
            block(x, row)
        return self._final(x, row)


class _Block:
    """Adds to float32 [L, dim] what a ConvNeXt block does."""

    def __init__(self, block: ConvNeXtBlock, dtype: torch.dtype, number: int) -> None:
        shrink, gamma = block.pwconv2, block.gamma
        self._norm = Norm(_norm(block), dtype, mix=block.dwconv, number=number)
        self._grow = Convolution(block.pwconv1.weight, block.pwconv1.bias, dtype, GELU)
        self._shrink = Convolution(gamma[:, None] * shrink.weight, gamma * shrink.bias, dtype, None)

    def __call__(self, x: Tensor, row: Row) -> None:
        self._shrink(self._grow(self._norm(x, row), row.inside), row.inside, x, add=True)


def _norm(module: VocosBackbone | ConvNeXtBlock) -> Any:
    return module.norm


def _blocks(backbone: VocosBackbone) -> list[Any]:
    return list[Any](nn.ModuleList(backbone.convnext))
