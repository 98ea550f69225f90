"""RWKV-7 ("x070", Peng et al. 2025) in plain torch: the reference forward over ragged batches.

One call takes a flattened batch whose rows have different numbers of tokens: prefill chunks and single decode
tokens side by side. The result of a row depends on nothing but its own tokens and state: matrix products run
on a padded number of rows for which this machine's kernels round every row alike (``model.invariance``).
"""

import math
import sys
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from model.checkpoint import HEAD_SIZE, Checkpoint, Sizes
from model.invariance import RowPlan, row_plan
from model.ragged import Ragged
from model.state import State

LAYER_NORM_EPS = 1e-5
GROUP_NORM_EPS = HEAD_SIZE * 1e-5
DECAY_SCALE = math.exp(-0.5)


class RWKV7:
    """Weights and forward pass of one model.

    Args:
        checkpoint: What ``load_checkpoint`` returned.
        device: Where the weights live and the forward runs.
        head_rows: Rows of the head to keep, at most those of the checkpoint; all of them when None.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device | str = "cpu", head_rows: int | None = None
    ) -> None:
        self.sizes = checkpoint.sizes
        self.parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        self.device = torch.device(device)
        weights = {name: t.to(self.device, torch.float32) for name, t in checkpoint.tensors.items()}
        norm = F.layer_norm(
            weights["emb.weight"],
            (self.sizes.width,),
            weights["blocks.0.ln0.weight"],
            weights["blocks.0.ln0.bias"],
            LAYER_NORM_EPS,
        )
        self._embedding = norm
        self._ln_out = (weights["ln_out.weight"], weights["ln_out.bias"])
        self._head = weights["head.weight"][:head_rows].t().contiguous()
        self._plan = plan = _plan(self.sizes, self._head.shape[1], self.device)
        self.blocks = [
            Block(layer, _sub(weights, f"blocks.{layer}."), self.sizes.heads, plan)
            for layer in range(self.sizes.layers)
        ]
        self.row_multiple = plan.multiple

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
        x = self.embed(tokens)
        first_value = torch.empty(0)
        for block in self.blocks:
            x, first_value = block.forward(x, first_value, rows, state)
        return x[rows.last]

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings after ln0, float32 [N', width]; N' is N rounded up to the row multiple with zero rows."""
        x = self._embedding[tokens]
        return F.pad(x, (0, 0, 0, self._plan.padding(len(tokens))))

    def hidden(self, x: Tensor) -> Tensor:
        """The final layer norm: float32 [n, width] to [n, width]."""
        return F.layer_norm(x, (self.sizes.width,), *self._ln_out, LAYER_NORM_EPS)

    def logits(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the logits of residual vectors into a preallocated buffer.

        Args:
            x: float32 [n, width].
            out: float32 [m, head rows], m >= n rounded up to ``row_multiple``; rows from n on are scratch.

        Returns:
            The view ``out[:n]``.
        """
        padded = F.pad(self.hidden(x), (0, 0, 0, self._plan.padding(len(x))))
        self._plan.product_into(padded, self._head, out[: len(padded)])
        return out[: len(x)]


class Block:
    """One layer: time mix (attention's place) and channel mix (feed-forward)."""

    def __init__(self, layer: int, weights: Mapping[str, Tensor], heads: int, plan: RowPlan) -> None:
        self.layer = layer
        self._product = plan.product
        self._heads = heads
        self._norms = [(weights[f"ln{i}.weight"], weights[f"ln{i}.bias"]) for i in (1, 2)]
        self._group_norm = (weights["att.ln_x.weight"], weights["att.ln_x.bias"])
        self._mix = torch.stack([weights[f"att.x_{letter}"] for letter in "rwkvag"])[:, None, :]
        self._loras = {
            letter: (weights[f"att.{letter}1"].contiguous(), weights[f"att.{letter}2"].contiguous())
            for letter in "wavg"
            if f"att.{letter}1" in weights
        }
        self._biases = {letter: weights[f"att.{letter}0"] for letter in "wav" if f"att.{letter}0" in weights}
        self._k_k, self._k_a = weights["att.k_k"], weights["att.k_a"]
        self._r_k = weights["att.r_k"].view(heads, HEAD_SIZE)
        self._receptance, self._key, self._value, self._output = (
            weights[f"att.{name}.weight"].t().contiguous() for name in ("receptance", "key", "value", "output")
        )
        self._ffn_mix = weights["ffn.x_k"]
        self._ffn_key = weights["ffn.key.weight"].t().contiguous()
        self._ffn_value = weights["ffn.value.weight"].t().contiguous()

    def forward(self, x: Tensor, first_value: Tensor, rows: Ragged, state: State) -> tuple[Tensor, Tensor]:
        """Run the layer on the residual stream.

        Args:
            x: float32 [N', width].
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
        inner = torch.relu_(self._product(torch.addcmul(y, delta, self._ffn_mix), self._ffn_key))
        return x + self._product(inner.square_(), self._ffn_value), first_value

    def _lora(self, letter: str, x: Tensor) -> Tensor:
        down, up = self._loras[letter]
        hidden = self._product(x, down)
        if letter == "w":
            hidden.tanh_()
        elif letter == "g":
            hidden.sigmoid_()
        return self._product(hidden, up)

    def _time_mix(
        self, y: Tensor, delta: Tensor, first_value: Tensor, rows: Ragged, wkv: Tensor
    ) -> tuple[Tensor, Tensor]:
        xr, xw, xk, xv, xa, xg = torch.addcmul(y, delta, self._mix).unbind(0)
        r, k, v = (
            self._product(x, matrix) for x, matrix in ((xr, self._receptance), (xk, self._key), (xv, self._value))
        )
        decay = torch.exp(-DECAY_SCALE * torch.sigmoid(self._biases["w"] + self._lora("w", xw)))
        rate = torch.sigmoid(self._biases["a"] + self._lora("a", xa))
        if self.layer == 0:
            first_value = v
        else:
            v = v + (first_value - v) * torch.sigmoid(self._biases["v"] + self._lora("v", xv))
        r, v, rate, decay = (self._split(t) for t in (r, v, rate, decay))
        removal = F.normalize(self._split(k * self._k_k), dim=-1, eps=1e-12)
        k = self._split(k) * (1 + (rate - 1) * self._k_a.view(self._heads, HEAD_SIZE))
        out = _recurrence(r, decay, k, v, removal, removal * rate, rows, wkv)
        out = F.group_norm(out.flatten(1), self._heads, *self._group_norm, GROUP_NORM_EPS)
        bonus = (r * k * self._r_k).sum(-1, keepdim=True) * v
        return self._product((out + bonus.flatten(1)) * self._lora("g", xg), self._output), first_value

    def _split(self, x: Tensor) -> Tensor:
        return x.view(-1, self._heads, HEAD_SIZE)


def _plan(sizes: Sizes, head_rows: int, device: torch.device) -> RowPlan:
    """The row plan of a model's matrices; GPU libraries promise nothing alike, so there rows go as they come."""
    width, ffn = sizes.width, sizes.ffn
    if device.type != "cpu":
        return RowPlan(multiple=1, block=sys.maxsize)
    loras = [shape for rank in sizes.ranks.values() for shape in ((width, rank), (rank, width))]
    return row_plan([(width, head_rows), (width, width), (width, ffn), (ffn, width), *loras])


def _sub(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}


def _token_shift(y: Tensor, rows: Ragged, shift: Tensor) -> Tensor:
    """Each token's difference to its row's previous one, and remember the last: ``shift`` is [slots, width]."""
    previous = F.pad(y[:-1], (0, 0, 1, 0))
    previous[rows.starts] = shift[rows.slots]
    shift[rows.slots] = y[rows.ends]
    return previous.sub_(y)


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

    Args:
        r, decay, k, v, removal, replacement: float32 [N', heads, 64].
        wkv: float32 [slots, heads, 64, 64] with S[value, key]; the slots of ``rows`` are updated.

    Returns:
        float32 [N', heads, 64]; rows that belong to no token are zero.
    """
    out = torch.zeros_like(r)
    state = wkv[rows.slots]
    for due in rows.steps:
        s = state[: len(due)]
        columns = torch.stack((removal[due], r[due]), dim=-1)
        removed = s @ columns[..., :1]
        s *= decay[due].unsqueeze(-2)
        values = torch.cat((-removed, v[due].unsqueeze(-1)), dim=-1)
        keys = torch.stack((replacement[due], k[due]), dim=-2)
        s += values @ keys
        out[due] = (s @ columns[..., 1:]).squeeze(-1)
    wkv[rows.slots] = state
    return out
