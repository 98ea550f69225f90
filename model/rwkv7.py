"""RWKV-7 ("x070", Peng et al. 2025) in plain torch: the reference forward over ragged batches.

One call takes a flattened batch whose rows have different numbers of tokens: prefill chunks and single decode
tokens side by side. The result of a row depends on nothing but its own tokens and state: matrix products run
on a padded number of rows at which this machine's kernels round every row alike (``model.invariance``), and all
else is element by element, or sums one row's head.
"""

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint import HEAD_SIZE, Checkpoint
from model.product import Products
from model.ragged import Ragged
from model.state import State

LAYER_NORM_EPS = 1e-5
GROUP_NORM_EPS = HEAD_SIZE * 1e-5
DECAY_SCALE = math.exp(-0.5)
_VECTORS = 32
"""Float32 numbers that torch's loops take at once on the widest CPU: two vectors."""


class RWKV7:
    """Weights and forward pass of one model.

    Args:
        checkpoint: What ``load_checkpoint`` returned.
        device: Where the weights live and the forward runs.
        head_rows: Rows of the head to keep, at most those of the checkpoint; all of them when None.
        int8: Keep matrices in 8 bits; see ``model.product``.

    Attributes:
        products: How this machine multiplies; ``products.description`` is for people.

    Raises:
        ValueError: There are no products with 8 bits here.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        head_rows: int | None = None,
        *,
        int8: bool = False,
    ) -> None:
        self.sizes = checkpoint.sizes
        self.parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        self.device = torch.device(device)
        weights = {
            name: _whole_vectors(name, t.to(self.device, torch.float32)) for name, t in checkpoint.tensors.items()
        }
        self._embedding = normed_embedding(weights)
        self._ln_out = (weights["ln_out.weight"], weights["ln_out.bias"])
        head = weights["head.weight"][:head_rows].t()
        self.head_rows = head.shape[1]
        self.products = products = Products.measured([*_matrices(weights), head], int8=int8)
        self._plan = products.rows
        self.description = f"plain torch, matrices in {products.description}"
        self._head = products.of(head)
        self.blocks = [
            Block(layer, layer_weights(weights, layer), self.sizes.heads, products)
            for layer in range(self.sizes.layers)
        ]

    def padded(self, rows: int) -> int:
        """Rows that are computed for ``rows``, and that a buffer for their logits needs; never fewer for more."""
        return self._plan.padded(rows)

    def state(self, slots: int) -> State:
        """Make a pool of ``slots`` zero states on the model's device."""
        return State(self.sizes, slots, self.device)

    def forward(self, tokens: Tensor, rows: Ragged, state: State) -> Tensor:
        """Feed the rows' tokens and advance their states in place.

        Args:
            tokens: int64 [N], the rows one after the other.
            rows: Geometry of the batch.
            state: The pool; the slots of ``rows`` are read and written.

        Returns:
            float32 [R, width]: the residual stream at each row's last token, in the caller's order.
        """
        x = self.embed(tokens[rows.order])
        first_value = torch.empty(0)
        for block in self.blocks:
            x, first_value = block.forward(x, first_value, rows, state)
        return x.index_select(0, rows.last)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings after ln0, float32 [N', width]; N' is ``padded(N)``, the rest zero rows."""
        return self._pad(self._embedding[tokens])

    def hidden(self, x: Tensor) -> Tensor:
        """The final layer norm: float32 [n, width] to [n, width]."""
        return F.layer_norm(x, (self.sizes.width,), *self._ln_out, LAYER_NORM_EPS)

    def logits(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the logits of residual vectors into a preallocated buffer.

        Args:
            x: float32 [n, width].
            out: float32 [m, head rows], m >= ``padded(n)``; rows from n on are scratch.

        Returns:
            The view ``out[:n]``.
        """
        padded = self._pad(self.hidden(x))
        self._head.into(padded, out[: len(padded)])
        return out[: len(x)]

    def _pad(self, x: Tensor) -> Tensor:
        padding = self._plan.padding(len(x))
        return F.pad(x, (0, 0, 0, padding)) if padding else x


class Block:
    """One layer: time mix (attention's place) and channel mix (feed-forward)."""

    def __init__(self, layer: int, weights: Mapping[str, Tensor], heads: int, products: Products) -> None:
        self.layer = layer
        self._heads = heads
        self._norms = [(weights[f"ln{i}.weight"], weights[f"ln{i}.bias"]) for i in (1, 2)]
        self._group_norm = (weights["att.ln_x.weight"], weights["att.ln_x.bias"])
        self._mix = torch.stack([weights[f"att.x_{letter}"] for letter in "rwkvag"])[:, None, :]
        self._loras = {
            letter: (products.of(weights[f"att.{letter}1"]), products.of(weights[f"att.{letter}2"]))
            for letter in "wavg"
            if f"att.{letter}1" in weights
        }
        self._biases = {letter: weights[f"att.{letter}0"] for letter in "wav" if f"att.{letter}0" in weights}
        self._k_k, self._k_a, self._k_rest = weights["att.k_k"], weights["att.k_a"], 1 - weights["att.k_a"]
        self._r_k = weights["att.r_k"]
        self._receptance, self._key, self._value, self._output = (
            products.of(weights[f"att.{name}.weight"].t()) for name in ("receptance", "key", "value", "output")
        )
        self._ffn_mix = weights["ffn.x_k"]
        self._ffn_key, self._ffn_value = (
            products.of(weights[f"ffn.{name}.weight"].t()) for name in ("key", "value")
        )

    def forward(self, x: Tensor, first_value: Tensor, rows: Ragged, state: State) -> tuple[Tensor, Tensor]:
        """Run the layer on the residual stream.

        Args:
            x: float32 [N', width], time-major; the rows from N on are padding.
            first_value: float32 [N', width], layer 0's value vectors; ignored by layer 0.

        Returns:
            The new residual stream and layer 0's value vectors.
        """
        y = F.layer_norm(x, x.shape[-1:], *self._norms[0], LAYER_NORM_EPS)
        delta = _token_shift(y, rows, state.att_shift[self.layer])
        mixed, first_value = self._time_mix(y, delta, first_value, rows, state.wkv[self.layer])
        x = x + mixed
        y = F.layer_norm(x, x.shape[-1:], *self._norms[1], LAYER_NORM_EPS)
        delta = _token_shift(y, rows, state.ffn_shift[self.layer])
        inner = self._ffn_key(torch.addcmul(y, delta, self._ffn_mix)).relu_()
        return x.add_(self._ffn_value(inner.square_())), first_value

    def _lora(self, letter: str, x: Tensor) -> Tensor:
        down, up = self._loras[letter]
        hidden = down(x)
        if letter == "w":
            hidden.tanh_()
        elif letter == "g":
            hidden.sigmoid_()
        return up(hidden)

    def _gate(self, letter: str, x: Tensor) -> Tensor:
        """A LoRA's output around its bias, between 0 and 1."""
        return self._lora(letter, x).add_(self._biases[letter]).sigmoid_()

    def _time_mix(
        self, y: Tensor, delta: Tensor, first_value: Tensor, rows: Ragged, wkv: Tensor
    ) -> tuple[Tensor, Tensor]:
        xr, xw, xk, xv, xa, xg = torch.addcmul(y, delta, self._mix).unbind(0)
        r, k, v = self._receptance(xr), self._key(xk), self._value(xv)
        decay = self._gate("w", xw).mul_(-DECAY_SCALE).exp_()
        rate = self._gate("a", xa)
        if self.layer == 0:
            first_value = v
        else:
            v = torch.lerp(v, first_value, self._gate("v", xv))
        removal = self._split(k * self._k_k)
        removal /= torch.linalg.vector_norm(removal, dim=-1, keepdim=True).clamp_min_(1e-12)
        k = k * torch.addcmul(self._k_rest, rate, self._k_a)  # k (1 + (a - 1) k_a)
        bonus = self._split(r * k * self._r_k).sum(-1, keepdim=True)
        r, k, v, rate, decay = (self._split(t) for t in (r, k, v, rate, decay))
        out = _recurrence(r, decay, k, v, removal, removal * rate, rows, wkv)
        out = F.layer_norm(out, (HEAD_SIZE,), eps=GROUP_NORM_EPS).flatten(1)
        weight, bias = self._group_norm
        out = torch.addcmul(bias, out, weight).add_((bonus * v).flatten(1))
        return self._output(out.mul_(self._lora("g", xg))), first_value

    def _split(self, x: Tensor) -> Tensor:
        return x.view(-1, self._heads, HEAD_SIZE)


def _whole_vectors(name: str, tensor: Tensor) -> Tensor:
    """A LoRA matrix with its rank padded by zeros, which change nothing, to whole vectors of the CPU.

    What is left over at the end of a tensor goes through scalar code, which rounds tanh and sigmoid otherwise:
    with odd ranks, the number of rows would decide which numbers those are.
    """
    if not re.fullmatch(r"blocks\.\d+\.att\.[wavg][12]", name):
        return tensor
    rank = tensor.shape[int(name[-1] == "1")]
    padding = -rank % _VECTORS
    return F.pad(tensor, (0, padding) if name[-1] == "1" else (0, 0, 0, padding))


def _matrices(weights: Mapping[str, Tensor]) -> list[Tensor]:
    """The blocks' matrices, [in, out]: linear layers come as [out, in], the LoRA pairs as they are multiplied."""
    matrices = {n: t for n, t in weights.items() if n.startswith("blocks.") and t.ndim == 2 and "r_k" not in n}
    return [t.t() if name.endswith(".weight") else t for name, t in matrices.items()]


def normed_embedding(weights: Mapping[str, Tensor]) -> Tensor:
    """The embeddings of a checkpoint's weights after ln0, [vocabulary, width]."""
    norm = (weights["blocks.0.ln0.weight"], weights["blocks.0.ln0.bias"])
    return F.layer_norm(weights["emb.weight"], norm[0].shape, *norm, LAYER_NORM_EPS)


def layer_weights(weights: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """Those of one layer, by their names in it."""
    prefix = f"blocks.{layer}."
    return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}


def _token_shift(y: Tensor, rows: Ragged, shift: Tensor) -> Tensor:
    """Each token's difference to its row's previous one, and remember the last: ``shift`` is [slots, width]."""
    previous, last = rows.load(shift), y[: rows.counts[0]]
    if len(rows.counts) > 1:
        previous = torch.cat((previous, y)).index_select(0, rows.previous)
        last = y.index_select(0, rows.ends)
    delta = y.neg()
    delta[: rows.tokens].add_(previous)
    rows.store(shift, last)
    return delta


def _recurrence(
    r: Tensor,
    decay: Tensor,
    k: Tensor,
    v: Tensor,
    removal: Tensor,
    replacement: Tensor,
    rows: Ragged,
    wkv: Tensor,
) -> Tensor:
    """The delta-rule recurrence ``S = S (diag(w) - kk^T (kk a)) + v^T k``, ``o = S r``, token by token.

    It is computed on S transposed, as the pool has it in memory: ``S^T`` is [key, value], keys are columns.

    Args:
        r, decay, k, v, removal, replacement: float32 [N', heads, 64].
        wkv: float32 [slots, heads, 64, 64] with S[value, key]; the slots of ``rows`` are updated.

    Returns:
        float32 [N', heads, 64]; rows that belong to no token are zero.
    """
    out = torch.zeros_like(r)
    state = rows.load(wkv.mT)
    n, counts = rows.tokens, rows.counts
    as_rows = [t[:n].unsqueeze(-2).split_with_sizes(counts) for t in (out, r, removal, v)]
    as_columns = [t[:n].unsqueeze(-1).split_with_sizes(counts) for t in (decay, replacement, k)]
    for o, r_t, removal_t, v_t, decay_t, replacement_t, k_t in zip(*as_rows, *as_columns, strict=True):
        s = state[: o.shape[0]]
        removed = removal_t @ s
        s.mul_(decay_t).addcmul_(replacement_t, removed, value=-1).addcmul_(k_t, v_t)
        torch.matmul(r_t, s, out=o)
    rows.store(wkv.mT, state)
    return out
