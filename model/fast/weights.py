"""A checkpoint's tensors as the kernels want them: matrices side by side, vectors stacked, LoRA ranks padded."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint import Checkpoint, Sizes
from model.rwkv7 import LAYER_NORM_EPS

RANK_MULTIPLE = 64
HEAD_MULTIPLE = 128
MIXES = "rkvwag"
"""The order of the mixed inputs; those of the LoRA pairs in ``LORAS`` are the last four."""
LORAS = "vwag"


@dataclass(frozen=True)
class LayerWeights:
    """One layer; C width, R the padded rank, F the feed-forward width. Vectors are float32, matrices [out, in].

    Attributes:
        norms: Gain and bias of ln1 and of ln2, [C] each.
        mix: [6, C], in the order of ``MIXES``.
        project: [3C + 4R, C]: receptance, key, value, then the LoRA inputs in the order of ``LORAS``.
        gate: [4, C, R], the LoRA outputs; layer 0 has zeros for v.
        gate_bias: [4, C]; zeros for g.
        group_norm: Gain and bias, [C] each.
        k_k, k_a, r_k: [C].
        output: [C, C].
        ffn_mix: [1, C].
        ffn_key: [F, C].
        ffn_value: [C, F].
    """

    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    mix: Tensor
    project: Tensor
    gate: Tensor
    gate_bias: Tensor
    group_norm: tuple[Tensor, Tensor]
    k_k: Tensor
    k_a: Tensor
    r_k: Tensor
    output: Tensor
    ffn_mix: Tensor
    ffn_key: Tensor
    ffn_value: Tensor


@dataclass(frozen=True)
class Weights:
    """A model.

    Attributes:
        embedding: [vocabulary, C], after ln0.
        norm: Gain and bias of ln_out.
        head: [V, C]; V is the kept rows rounded up to 128 with zero rows.
        rank: R.
    """

    embedding: Tensor
    layers: list[LayerWeights]
    norm: tuple[Tensor, Tensor]
    head: Tensor
    rank: int


def make_weights(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, head_rows: int) -> Weights:
    """Lay out a checkpoint on a device, matrices and embedding in ``dtype``.

    Raises:
        ValueError: The feed-forward width is no multiple of 64.
    """
    sizes = checkpoint.sizes
    if sizes.ffn % 64:
        raise ValueError(f"ffn.key.weight: {sizes.ffn} rows; accepted by the fast engine: a multiple of 64")
    rank = -(-max(sizes.ranks.values()) // RANK_MULTIPLE) * RANK_MULTIPLE
    tensors = {name: t.to(device, torch.float32) for name, t in checkpoint.tensors.items() if "blocks" not in name}
    gain, bias = (
        checkpoint.tensors[f"blocks.0.ln0.{part}"].to(device, torch.float32) for part in ("weight", "bias")
    )
    head = tensors["head.weight"][:head_rows]
    return Weights(
        embedding=F.layer_norm(tensors["emb.weight"], (sizes.width,), gain, bias, LAYER_NORM_EPS).to(dtype),
        layers=[_layer(checkpoint.tensors, layer, sizes, rank, device, dtype) for layer in range(sizes.layers)],
        norm=(tensors["ln_out.weight"], tensors["ln_out.bias"]),
        head=F.pad(head, (0, 0, 0, -len(head) % HEAD_MULTIPLE)).to(dtype),
        rank=rank,
    )


def _layer(
    tensors: Mapping[str, Tensor], layer: int, sizes: Sizes, rank: int, device: torch.device, dtype: torch.dtype
) -> LayerWeights:
    stem = f"blocks.{layer}."
    w = {
        name.removeprefix(stem): t.to(device, torch.float32)
        for name, t in tensors.items()
        if name.startswith(stem)
    }
    nothing = torch.zeros(sizes.width, rank, device=device)

    def down(letter: str) -> Tensor:
        """[R, C]."""
        matrix = w.get(f"att.{letter}1")
        return nothing.t() if matrix is None else F.pad(matrix.t(), (0, 0, 0, rank - matrix.shape[1]))

    def up(letter: str) -> Tensor:
        """[C, R]."""
        matrix = w.get(f"att.{letter}2")
        return nothing if matrix is None else F.pad(matrix.t(), (0, rank - matrix.shape[0]))

    projections = [w[f"att.{name}.weight"] for name in ("receptance", "key", "value")]
    return LayerWeights(
        norms=((w["ln1.weight"], w["ln1.bias"]), (w["ln2.weight"], w["ln2.bias"])),
        mix=torch.stack([w[f"att.x_{letter}"] for letter in MIXES]),
        project=torch.cat([*projections, *map(down, LORAS)]).to(dtype).contiguous(),
        gate=torch.stack([up(letter) for letter in LORAS]).to(dtype).contiguous(),
        gate_bias=torch.stack([w.get(f"att.{letter}0", nothing[:, 0]) for letter in LORAS]).contiguous(),
        group_norm=(w["att.ln_x.weight"], w["att.ln_x.bias"]),
        k_k=w["att.k_k"],
        k_a=w["att.k_a"],
        r_k=w["att.r_k"].flatten().contiguous(),
        output=w["att.output.weight"].to(dtype).contiguous(),
        ffn_mix=w["ffn.x_k"][None].contiguous(),
        ffn_key=w["ffn.key.weight"].to(dtype).contiguous(),
        ffn_value=w["ffn.value.weight"].to(dtype).contiguous(),
    )
