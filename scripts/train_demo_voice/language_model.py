"""A trainable RWKV-7 ("x070", Peng et al. 2025): whole rows of packed sequences at once, with gradients.

Parameters have the published names; vectors are [width] here and [1, 1, width] in an export. A row of tokens
holds several sequences. At the first token of each, the token shift sees zeros and the recurrent state is
forgotten by a strong decay, so that the recurrence itself needs no boundaries and every shape stays the same.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.checkpoint import HEAD_SIZE
from model.rwkv7 import DECAY_SCALE, GROUP_NORM_EPS, LAYER_NORM_EPS
from sampler.layout import TokenLayout
from train_demo_voice.speakers import PHONES

LAYOUT = TokenLayout(semantic_size=1024, global_size=1024, globals_per_voice=32, text_size=256, control_size=100)
"""The demo voice's vocabulary: 2408 tokens, of which the head produces 1025."""

RESET = -24.0
"""Log decay at the first token of a sequence: 4e-11 of the sequence before it stays."""

FP16_LIMIT = 65504.0

WKV = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""``r, log decay, k, v, removal, replacement``, each [B, T, heads, 64], to the outputs of the same shape."""


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a model to train; ``phone_block`` counts the blocks before the phone heads, 1..layers."""

    layers: int = 5
    width: int = 256
    ffn: int = 1024
    rank_w: int = 32
    rank_a: int = 32
    rank_v: int = 16
    rank_g: int = 64
    phone_block: int = 4
    dropout: float = 0.1

    @property
    def heads(self) -> int:
        return self.width // HEAD_SIZE


def naive_wkv(r: Tensor, decay: Tensor, k: Tensor, v: Tensor, removal: Tensor, replacement: Tensor) -> Tensor:
    """Token by token: ``S = S diag(exp(decay)) + (S removal) replacement^T + v k^T``, ``o = S r``."""
    state = r.new_zeros(r.shape[0], *r.shape[2:], HEAD_SIZE)
    outputs = []
    for t in range(r.shape[1]):
        removed = state @ removal[:, t, :, :, None]
        state = state * decay[:, t, :, None].exp() + removed * replacement[:, t, :, None]
        state = state + v[:, t, :, :, None] * k[:, t, :, None]
        outputs.append((state @ r[:, t, :, :, None]).squeeze(-1))
    return torch.stack(outputs, 1)


def chunked_wkv(r: Tensor, decay: Tensor, k: Tensor, v: Tensor, removal: Tensor, replacement: Tensor) -> Tensor:
    """The same in Triton kernels (flash-linear-attention); intermediates are kept, not computed twice."""
    output: Tensor = _chunk_rwkv7()(
        r, decay, k, v, removal, replacement, scale=1.0, safe_gate=True, chunk_size=16, disable_recompute=True
    )[0]
    return output


@cache
def _chunk_rwkv7() -> Callable[..., tuple[Tensor, None]]:
    function: Callable[..., tuple[Tensor, None]] = importlib.import_module("fla.ops.rwkv7").chunk_rwkv7
    return function


def mix(y: Tensor, keep: Tensor, ratios: Tensor) -> Tensor:
    """Blend tokens with their predecessors.

    Args:
        y: [B, T, width].
        keep: [B, T, 1], 0 at the first token of a sequence, else 1.
        ratios: [n, width], the share of the predecessor.

    Returns:
        [n, B, T, width].
    """
    delta = F.pad(y, (0, 0, 1, -1)) * keep - y
    return torch.addcmul(y, delta, ratios.to(y.dtype)[:, None, None])


def keys(
    k: Tensor, decay: Tensor, rate: Tensor, w0: Tensor, a0: Tensor, k_k: Tensor, k_a: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the recurrence writes and removes.

    Args:
        k: [B, T, width].
        decay, rate: [B, T, width], what the LoRA pairs make of the tokens.
        w0, a0, k_k, k_a: [width].
        starts: bool [B, T, 1].

    Returns:
        Log decay (float32), k, removal and replacement, each [B, T, heads, 64].
    """
    heads = (*k.shape[:-1], -1, HEAD_SIZE)
    log_decay = (-DECAY_SCALE * torch.sigmoid(w0 + decay)).masked_fill(starts, RESET)
    rate = torch.sigmoid(a0 + rate)
    removal = F.normalize((k * k_k).float().view(heads), dim=-1, eps=1e-12)
    k = k * (1 + (rate - 1) * k_a).to(k.dtype)
    replacement = (removal * rate.view(heads)).to(k.dtype)
    removal = (-removal).masked_fill(starts[..., None], 0.0).to(k.dtype)
    return log_decay.view(heads), k.view(heads), removal, replacement


def later_value(v: Tensor, first: Tensor, gate: Tensor, v0: Tensor) -> Tensor:
    """Values of the layers after the first: ``sigmoid(v0 + gate)`` is the share of layer 0's values."""
    return v + (first - v) * torch.sigmoid(v0 + gate).to(v.dtype)


def finish(
    out: Tensor, r: Tensor, k: Tensor, v: Tensor, gate: Tensor, r_k: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Normalise each head's output, add the bonus of the current token and gate.

    Args:
        out, r, k, v: [B, T, heads, 64].
        gate: [B, T, width].
        r_k: [heads, 64].
        weight, bias: [width].

    Returns:
        [B, T, width].
    """
    out = F.layer_norm(out, (HEAD_SIZE,), eps=GROUP_NORM_EPS).flatten(-2)
    out = torch.addcmul(bias.to(out.dtype), out, weight.to(out.dtype))
    bonus = (r * k * r_k.to(r.dtype)).sum(-1, keepdim=True) * v
    return (out + bonus.flatten(-2)) * gate


def squared_relu(x: Tensor) -> Tensor:
    return torch.relu(x).square()


@dataclass(frozen=True)
class Pointwise:
    """The pointwise parts, as written or compiled."""

    mix: Callable[..., Tensor] = mix
    keys: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = keys
    later_value: Callable[..., Tensor] = later_value
    finish: Callable[..., Tensor] = finish
    squared_relu: Callable[..., Tensor] = squared_relu


def compiled_pointwise() -> Pointwise:
    """Fuse each pointwise part into few kernels."""
    torch._dynamo.config.force_parameter_static_shapes = False
    return Pointwise(
        mix=torch.compile(mix, dynamic=False),
        keys=torch.compile(keys, dynamic=False),
        later_value=torch.compile(later_value, dynamic=False),
        finish=torch.compile(finish, dynamic=False),
        squared_relu=torch.compile(squared_relu, dynamic=False),
    )


class LanguageModel(nn.Module):
    """RWKV-7 with heads for the current and the next phone, which only training uses."""

    def __init__(self, sizes: ModelSizes, layout: TokenLayout = LAYOUT, phones: int = len(PHONES)) -> None:
        super().__init__()
        self.sizes = sizes
        self.wkv: WKV = naive_wkv
        self.pointwise = Pointwise()
        self.dtype = torch.float32
        self.emb = nn.Embedding(layout.vocabulary_size, sizes.width)
        self.blocks = nn.ModuleList(Block(layer, sizes) for layer in range(sizes.layers))
        self.ln_out = nn.LayerNorm(sizes.width, LAYER_NORM_EPS)
        self.head = nn.Linear(sizes.width, layout.head_size, bias=False)
        self.phone_head = nn.Linear(sizes.width, 2 * phones)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        nn.init.orthogonal_(self.head.weight, 0.5 * math.sqrt(max(1.0, layout.head_size / sizes.width)))

    def forward(self, tokens: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Predict what follows every token.

        Args:
            tokens: int64 [B, T].
            starts: bool [B, T], the first token of each sequence; the first of each row must be one.

        Returns:
            Logits [B, T, head rows] and phone logits [B, T, 2 (current, next), phones], in ``self.dtype``.
        """
        starts = starts[..., None]
        keep = (~starts).to(self.dtype)
        x = self._embed(tokens)
        first_value = x
        for count, block in enumerate(self.blocks, 1):
            x, first_value = block(x, first_value, starts, keep, self)
            if count == self.sizes.phone_block:
                phones = project(self.phone_head, x.to(self.dtype)).view(*tokens.shape, 2, -1)
        return project(self.head, self.ln_out(x).to(self.dtype)), phones

    def _embed(self, tokens: Tensor) -> Tensor:
        # The gradient of index_select adds in place; that of an embedding sorts, which waits for the device.
        return self.emb.weight.index_select(0, tokens.flatten()).view(*tokens.shape, -1)

    def export(self) -> dict[str, Tensor]:
        """float16 tensors under the published names and shapes.

        Raises:
            ValueError: A value does not fit into float16.
        """
        tensors = {}
        for name, tensor in self.state_dict().items():
            if name.startswith("phone_head"):
                continue
            largest = tensor.abs().max().item()
            if not largest < FP16_LIMIT:
                raise ValueError(f"{name}: {largest} does not fit into float16")
            vector = (".att." in name and tensor.ndim == 1 and "ln_x" not in name) or name.endswith("ffn.x_k")
            tensors[name] = tensor.view(1, 1, -1) if vector else tensor
        return {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in tensors.items()}


class Block(nn.Module):
    """One layer: time mix and channel mix, each with dropout on what it adds."""

    def __init__(self, layer: int, sizes: ModelSizes) -> None:
        super().__init__()
        self.layer = layer
        if layer == 0:
            self.ln0 = nn.LayerNorm(sizes.width, LAYER_NORM_EPS)
        self.ln1 = nn.LayerNorm(sizes.width, LAYER_NORM_EPS)
        self.ln2 = nn.LayerNorm(sizes.width, LAYER_NORM_EPS)
        self.att = TimeMix(layer, sizes)
        self.ffn = ChannelMix(layer, sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Tensor, first_value: Tensor, starts: Tensor, keep: Tensor, model: LanguageModel
    ) -> tuple[Tensor, Tensor]:
        """The residual stream, float32 [B, T, width], and layer 0's values, [B, T, width]."""
        if self.layer == 0:
            x = self.ln0(x)
        out, first_value = self.att(self.ln1(x).to(model.dtype), first_value, starts, keep, model)
        x = x + self.dropout(out)
        return x + self.dropout(self.ffn(self.ln2(x).to(model.dtype), keep, model)), first_value


class TimeMix(nn.Module):
    """The recurrence and all that makes its inputs."""

    def __init__(self, layer: int, sizes: ModelSizes) -> None:
        super().__init__()
        self.layer = layer
        width, depth = sizes.width, 1 - layer / sizes.layers
        place = layer / max(1, sizes.layers - 1)
        channel = torch.arange(width) / width
        linear = torch.arange(width) / (width - 1) - 0.5
        ramp = torch.arange(width) / (width - 1)
        zigzag = (torch.arange(width) % HEAD_SIZE) / ((HEAD_SIZE - 1) / 2) - 1
        zigzag = zigzag * zigzag.abs()
        for letter, power in zip("rwkvag", (0.2, 0.9, 0.7, 0.7, 0.9, 0.2), strict=True):
            self.register_parameter(f"x_{letter}", nn.Parameter(1 - channel ** (power * depth)))
        self.w0 = nn.Parameter(-5.5 + 6 * ramp ** (1 + place**0.3) + 2.5 * zigzag)
        self.a0 = nn.Parameter(-0.19 + 0.3 * zigzag + 0.4 * linear)
        self.w1, self.w2 = _lora(width, sizes.rank_w)
        self.a1, self.a2 = _lora(width, sizes.rank_a)
        self.g1, self.g2 = _lora(width, sizes.rank_g)
        if layer > 0:
            self.v0 = nn.Parameter(0.73 - 0.4 * linear)
            self.v1, self.v2 = _lora(width, sizes.rank_v)
        self.k_k = nn.Parameter(0.71 - 0.1 * linear)
        self.k_a = nn.Parameter(torch.full((width,), 1.02))
        self.r_k = nn.Parameter(torch.full((sizes.heads, HEAD_SIZE), -0.04))
        self.receptance = _matrix(width, width, 0.5)
        self.key = _matrix(width, width, 0.05)
        self.value = _matrix(width, width, 0.5)
        self.output = _matrix(width, width, 0.0)
        self.ln_x = nn.LayerNorm(width)
        nn.init.constant_(self.ln_x.weight, ((1 + layer) / sizes.layers) ** 0.7)

    def forward(
        self, y: Tensor, first_value: Tensor, starts: Tensor, keep: Tensor, model: LanguageModel
    ) -> tuple[Tensor, Tensor]:
        """Its addition to the residual stream, and layer 0's values; all [B, T, width] in the model's dtype."""
        parts = model.pointwise
        ratios = torch.stack([getattr(self, f"x_{letter}") for letter in "rwkvag"])
        xr, xw, xk, xv, xa, xg = parts.mix(y, keep, ratios).unbind(0)
        r, k, v = project(self.receptance, xr), project(self.key, xk), project(self.value, xv)
        decay = torch.tanh(xw @ self.w1.to(y.dtype)) @ self.w2.to(y.dtype)
        rate = xa @ self.a1.to(y.dtype) @ self.a2.to(y.dtype)
        gate = torch.sigmoid(xg @ self.g1.to(y.dtype)) @ self.g2.to(y.dtype)
        if self.layer == 0:
            first_value = v
        else:
            share = xv @ self.v1.to(y.dtype) @ self.v2.to(y.dtype)
            v = parts.later_value(v, first_value, share, self.v0)
        constants = self.w0, self.a0, self.k_k, self.k_a
        log_decay, k, removal, replacement = parts.keys(k, decay, rate, *constants, starts)
        r, v = r.view(k.shape), v.view(k.shape)
        out = model.wkv(r, log_decay, k, v, removal, replacement)
        out = parts.finish(out, r, k, v, gate, self.r_k, self.ln_x.weight, self.ln_x.bias)
        return project(self.output, out), first_value


class ChannelMix(nn.Module):
    """The feed-forward half of a layer."""

    def __init__(self, layer: int, sizes: ModelSizes) -> None:
        super().__init__()
        channel = torch.arange(sizes.width) / sizes.width
        self.x_k = nn.Parameter(1 - channel ** ((1 - layer / sizes.layers) ** 4))
        self.key = _matrix(sizes.width, sizes.ffn, 0.5)
        self.value = _matrix(sizes.ffn, sizes.width, 0.0)

    def forward(self, y: Tensor, keep: Tensor, model: LanguageModel) -> Tensor:
        """Its addition to the residual stream, [B, T, width]."""
        mixed = model.pointwise.mix(y, keep, self.x_k[None]).squeeze(0)
        return project(self.value, model.pointwise.squared_relu(project(self.key, mixed)))


def project(layer: nn.Linear, x: Tensor) -> Tensor:
    """The linear layer in the precision of ``x``."""
    return F.linear(x, layer.weight.to(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))


def _matrix(inputs: int, outputs: int, scale: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    bound = scale / math.sqrt(min(inputs, outputs))
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer


def _lora(width: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    up = torch.empty(rank, width)
    nn.init.orthogonal_(up, 0.1)
    return nn.Parameter(torch.zeros(width, rank)), nn.Parameter(up)
