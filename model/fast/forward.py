"""The forward pass in eight launches a layer: mix, project, gate, wkv, output, mix, key, value.

Rows of one step may have any number of tokens; where each has one, a single kernel does all of the recurrence,
else it takes three. A row's result does not depend on its batch mates, as long as the numbers of tokens stay
within one tile (``model.fast.tiles``): every sum has one order. Tensors that a step needs are made in the step: a
graph keeps its own, and allocates nothing when it is replayed.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from model.checkpoint import HEAD_SIZE, Checkpoint
from model.fast import kernels
from model.fast.batch import Batch
from model.fast.kernels import room_on, starts_early
from model.fast.state import FastState
from model.fast.tiles import (
    MOST_TOKENS_EARLY,
    SEQUENCE_WARPS,
    WKV_WARPS,
    Tile,
    gate_tile,
    sequence_values,
    summed_tile,
    tile,
)
from model.fast.weights import LayerWeights, Weights, make_weights


class FastRWKV7:
    """Weights and forward pass of one model on a GPU.

    Args:
        checkpoint: What ``load_checkpoint`` returned.
        device: Where the weights live and the forward runs.
        head_rows: Rows of the head to keep; all of them when None.
        dtype: Of matrices, activations and state; float32 is for comparisons.

    Raises:
        ValueError: A size does not suit the kernels.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str,
        head_rows: int | None = None,
        dtype: torch.dtype = torch.float16,
    ) -> None:
        self.sizes = checkpoint.sizes
        self.parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        self.device = torch.device(device)
        self.dtype = dtype
        self.description = f"Triton kernels and CUDA graphs, matrices in {8 * dtype.itemsize} bits"
        self.head_rows = head_rows or checkpoint.sizes.head_rows
        self.weights: Weights = make_weights(checkpoint, self.device, dtype, self.head_rows)
        self._block = triton.next_power_of_2(self.sizes.width)
        self._room = room_on(self.device, dtype.itemsize)
        self._early = starts_early(self.device)
        self._row_warps = min(8, max(1, self._block // 256))

    def state(self, slots: int) -> FastState:
        """Make a pool of ``slots`` states on the model's device."""
        return FastState(self.sizes, slots, self.device, self.dtype)

    def forward(self, batch: Batch, state: FastState) -> Tensor:
        """Feed the batch, advance its states in place; float32 logits [rows, V] at each row's last token."""
        x, parts = self.embed(batch, state), None
        first = None
        for layer in range(self.sizes.layers):
            x, parts, first = self.layer(layer, x, parts, first, batch, state)
        return self.logits(x, parts, batch)

    def embed(self, batch: Batch, state: FastState) -> Tensor:
        """float32 [N, C]."""
        n, width = batch.shape.tokens, self.sizes.width
        x = torch.empty(n, width, device=self.device)
        kernels.embed[(n,)](
            batch.tokens, batch.owners, batch.slots, state.drawn, self.weights.embedding, x,
            C=width, BLOCK=self._block, num_warps=self._row_warps,
        )  # fmt: skip
        return x

    def layer(
        self, number: int, x: Tensor, parts: Tensor | None, first: Tensor | None, batch: Batch, state: FastState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run one layer.

        Args:
            number: Which.
            x: float32 [N, C], the residual stream without ``parts``.
            parts: [S, N, C], what the last product gave, in parts that are still to be added; None for layer 0.
            first: r, k, v of layer 0, [3, N, C]; None for layer 0.
            batch, state: Of the step.

        Returns:
            The same three after the layer.
        """
        w = self.weights.layers[number]
        x, mixed = self._mix(x, parts, w.norms[0], w.mix, state.att_shift[number], batch)
        rkv, hidden = self._project(mixed, w)
        first = rkv if first is None else first
        gates = self._gate(hidden, w)
        if batch.shape.single:
            out = self._step(number, rkv, first, gates, batch, state)
        else:
            out = self._sequence(number, rkv, first, gates, batch, state)
        parts = self._product(out, w.output, summed=True)
        x, mixed = self._mix(x, parts, w.norms[1], w.ffn_mix, state.ffn_shift[number], batch)
        key = self._product(mixed[0], w.ffn_key, relu_square=True)
        return x, self._product(key[0], w.ffn_value, summed=True), first

    def logits(self, x: Tensor, parts: Tensor | None, batch: Batch) -> Tensor:
        """float32 [rows, V] of the residual stream at each row's last token; columns past the head are 0."""
        n, width = x.shape
        rows = batch.shape.rows
        hidden = torch.empty(rows, width, device=self.device, dtype=self.dtype)
        kernels.last_norm[(rows,)](
            x, x if parts is None else parts, hidden, *self.weights.norm, batch.starts, batch.lengths, n,
            C=width, BLOCK=self._block, PARTS=0 if parts is None else parts.shape[0],
            **self._launch(n, self._row_warps),
        )  # fmt: skip
        return self._product(hidden, self.weights.head, dtype=torch.float32)[0]

    def _mix(
        self, x: Tensor, parts: Tensor | None, norm: tuple[Tensor, Tensor], mu: Tensor, shift: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """The residual stream with the parts added, and its mixes [len(mu), N, C]."""
        n, width = x.shape
        mixed = self._empty(len(mu), n, width)
        total = torch.empty_like(x)
        kernels.mix[(n,)](
            x, x if parts is None else parts, total, mixed, *norm, mu, shift,
            batch.owners, batch.starts, batch.lengths, batch.slots, batch.fresh, n,
            C=width, BLOCK=self._block, PARTS=0 if parts is None else parts.shape[0], MIXES=len(mu),
            SINGLE=batch.shape.single, **self._launch(n, self._row_warps),
        )  # fmt: skip
        return total, mixed

    def _project(self, mixed: Tensor, w: LayerWeights) -> tuple[Tensor, Tensor]:
        """r, k, v [3, N, C] and the LoRA inputs [4, N, R]."""
        n, width, rank = mixed.shape[1], self.sizes.width, self.weights.rank
        out = self._empty(n * len(w.project))
        t = tile(n, len(w.project), width, within=_common(width, rank), room=self._room)
        kernels.project[(len(w.project) // t.columns, -(-n // t.rows))](
            mixed, w.project, out, n, C=width, R=rank, **self._blocks(n, t)
        )
        return out[: 3 * n * width].view(3, n, width), out[3 * n * width :].view(4, n, rank)

    def _gate(self, hidden: Tensor, w: LayerWeights) -> Tensor:
        """The LoRA outputs [4, N, C]."""
        _, n, rank = hidden.shape
        out = self._empty(4, n, self.sizes.width)
        t = gate_tile(n, self.sizes.width, rank, room=self._room)
        kernels.gate[(self.sizes.width // t.columns, -(-n // t.rows), 4)](
            hidden, w.gate, w.gate_bias, out, n, C=self.sizes.width, R=rank, **self._blocks(n, t)
        )
        return out

    def _step(
        self, number: int, rkv: Tensor, first: Tensor, gates: Tensor, batch: Batch, state: FastState
    ) -> Tensor:
        w, (_, n, width) = self.weights.layers[number], rkv.shape
        out = self._empty(n, width)
        kernels.wkv_step[(n, self.sizes.heads)](
            rkv, first, gates, out, state.wkv[number], w.k_k, w.k_a, w.r_k, *w.group_norm,
            batch.slots, batch.fresh, n, C=width, LAYER_0=number == 0, **self._launch(n, WKV_WARPS),
        )  # fmt: skip
        return out

    def _sequence(
        self, number: int, rkv: Tensor, first: Tensor, gates: Tensor, batch: Batch, state: FastState
    ) -> Tensor:
        w, (_, n, width), heads = self.weights.layers[number], rkv.shape, self.sizes.heads
        prepared, out = self._empty(5, n, width), self._empty(n, width)
        block = triton.next_power_of_2(heads)
        values = sequence_values(batch.shape.rows, n)
        kernels.wkv_prepare[(n,)](
            rkv,
            first,
            gates,
            prepared,
            w.k_k,
            w.k_a,
            n,
            C=width,
            HEADS=block,
            LAYER_0=number == 0,
            **self._launch(n, 4),
        )
        kernels.wkv_sequence[(batch.shape.rows, heads, HEAD_SIZE // values)](
            rkv, prepared, out, state.wkv[number], batch.starts, batch.lengths, batch.slots, batch.fresh, n,
            C=width, VALUES=values, **self._launch(n, SEQUENCE_WARPS),
        )  # fmt: skip
        kernels.wkv_finish[(n,)](
            rkv, prepared, gates, out, w.r_k, *w.group_norm, n, C=width, HEADS=block, **self._launch(n, 4)
        )
        return out

    def _product(
        self,
        x: Tensor,
        weight: Tensor,
        summed: bool = False,
        relu_square: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Parts of x @ weight^T, [parts, N, columns]."""
        n, depth = x.shape
        columns = len(weight)
        t = (summed_tile if summed else tile)(n, columns, depth, room=self._room)
        out = torch.empty(t.splits, n, columns, device=self.device, dtype=dtype or self.dtype)
        kernels.product[(columns // t.columns, -(-n // t.rows), t.splits)](
            x, weight, out, n, COLUMNS=columns, DEPTH=depth, RELU_SQUARE=relu_square, SPLITS=t.splits,
            **self._blocks(n, t),
        )  # fmt: skip
        return out

    def _blocks(self, n: int, t: Tile) -> dict[str, Any]:
        return {"BM": t.rows, "BN": t.columns, "BK": t.depth, "num_stages": t.stages} | self._launch(n, t.warps)

    def _launch(self, n: int, warps: int) -> dict[str, Any]:
        early = self._early and n <= MOST_TOKENS_EARLY
        options = {"num_warps": warps, "EARLY": early}
        return options | {"launch_pdl": True} if early else options

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device, dtype=self.dtype)


def _common(width: int, rank: int) -> int:
    """The largest block of columns, up to 128, that divides both."""
    return next(block for block in (128, 64) if width % block == 0 and rank % block == 0)
