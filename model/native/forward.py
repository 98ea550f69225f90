"""RWKV-7 on a CPU in compiled code: ``model.rwkv7`` for rows of tokens, with a row alike in any company."""

import ctypes
from collections.abc import Mapping

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.native.structures import (
    BLOCK,
    BUFFERS,
    LORAS,
    MATRICES,
    PANEL,
    VECTORS,
    Layer,
    Lora,
    Matrix,
    Model,
    Pools,
    Scratch,
    panels,
)
from model.product import fits_half
from model.ragged import Ragged
from model.rwkv7 import layer_weights, normed_embedding
from model.state import State
from native.cores import least_seconds
from native.library import UnavailableError, function, supported
from native.team import Team

_NAMES = {
    "ln1_weight": "ln1.weight",
    "ln1_bias": "ln1.bias",
    "ln2_weight": "ln2.weight",
    "ln2_bias": "ln2.bias",
    "w_bias": "att.w0",
    "a_bias": "att.a0",
    "v_bias": "att.v0",
    "k_k": "att.k_k",
    "k_a": "att.k_a",
    "r_k": "att.r_k",
    "norm_weight": "att.ln_x.weight",
    "norm_bias": "att.ln_x.bias",
    "ffn_mix": "ffn.x_k",
    "receptance": "att.receptance.weight",
    "key": "att.key.weight",
    "value": "att.value.weight",
    "output": "att.output.weight",
    "ffn_key": "ffn.key.weight",
    "ffn_value": "ffn.value.weight",
}


class NativeRWKV7:
    """Weights and forward pass of one model, on one thread of a CPU or several.

    Args:
        checkpoint: What ``load_checkpoint`` returned.
        head_rows: Rows of the head to keep, at most those of the checkpoint; all of them when None.
        vectors: One of ``library.supported()``, the best when None.

    Attributes:
        threads: What a call uses, the caller's included; results do not depend on it.

    Raises:
        UnavailableError: There is no compiled forward here, or the weights need more than 16 bits.
    """

    def __init__(
        self, checkpoint: Checkpoint, head_rows: int | None = None, *, vectors: str | None = None
    ) -> None:
        vectors = vectors or supported()[0]
        self._forward = function(f"forward_{vectors}", "ppppppnp")
        self._logits = function(f"logits_{vectors}", "pppnpn")
        self.sizes = checkpoint.sizes
        self.parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        self.device = torch.device("cpu")
        self._vectors = vectors
        self._kept: list[Tensor] = []  # what the structures point to
        weights = {name: tensor.to(self.device, torch.float32) for name, tensor in checkpoint.tensors.items()}
        head = weights["head.weight"][:head_rows]
        self.head_rows = len(head)
        layers = [self._layer(layer_weights(weights, i)) for i in range(self.sizes.layers)]
        self._layers = (Layer * len(layers))(*layers)
        self._model = Model(
            *map(self._vector, (normed_embedding(weights), weights["ln_out.weight"], weights["ln_out.bias"])),
            self._layers,
            self._matrix(head.t()),
            self.sizes.layers,
            self.sizes.width,
            self.sizes.vocabulary,
        )
        self._scratch = Scratch(*map(self._buffer, BUFFERS))
        self.use(1)

    def use(self, threads: int) -> None:
        """Share the work among so many threads from the next call on."""
        self.threads, self._team = threads, Team(threads - 1)
        self._scratch.team = self._team.address

    def seconds(self, threads: int) -> float:
        """Use so many threads, and tell what a step of one row takes."""
        self.use(threads)
        token, row, state = torch.zeros(1, dtype=torch.int64), Ragged.of([1], [0]), self.state(1)
        return least_seconds(lambda: self.forward(token, row, state))

    @property
    def description(self) -> str:
        """For people."""
        shared = f", {self.threads} threads" if self.threads > 1 else ""
        return f"compiled, matrices in 16 bits; {self._vectors.upper()}{shared}"

    def padded(self, rows: int) -> int:
        """Rows that a buffer for the logits of ``rows`` needs: as many."""
        return rows

    def state(self, slots: int) -> State:
        """Make a pool of ``slots`` zero states."""
        return State(self.sizes, slots)

    def forward(self, tokens: Tensor, rows: Ragged, state: State) -> Tensor:
        """Feed the rows' tokens and advance their states in place.

        Args:
            tokens: int64 [N], the rows one after the other.
            rows: Geometry of the batch.
            state: The pool; the slots of ``rows`` are read and written.

        Returns:
            float32 [R, width]: the residual stream at each row's last token, in the caller's order.

        Raises:
            IndexError: A token is not of the vocabulary.
        """
        if wrong := [token for token in tokens.aminmax() if not 0 <= token < self.sizes.vocabulary]:
            raise IndexError(f"index {wrong[-1]} is out of bounds for a vocabulary of {self.sizes.vocabulary}")
        residual = torch.empty(len(rows.lengths), self.sizes.width)
        pools = Pools(state.wkv.data_ptr(), state.att_shift.data_ptr(), state.ffn_shift.data_ptr(), state.slots)
        self._forward(
            ctypes.byref(self._model),
            ctypes.byref(pools),
            ctypes.byref(self._scratch),
            tokens.data_ptr(),
            rows.lengths.data_ptr(),
            rows.places.data_ptr(),
            len(rows.lengths),
            residual.data_ptr(),
        )
        return residual

    def logits(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the logits of residual vectors into a preallocated buffer.

        Args:
            x: float32 [n, width], contiguous.
            out: float32 [m, head rows], m >= n.

        Returns:
            The view ``out[:n]``.
        """
        self._logits(
            ctypes.byref(self._model),
            ctypes.byref(self._scratch),
            x.data_ptr(),
            len(x),
            out.data_ptr(),
            self.head_rows,
        )
        return out[: len(x)]

    def _layer(self, weights: Mapping[str, Tensor]) -> Layer:
        mix = torch.stack([weights[f"att.x_{letter}"] for letter in "rwkvag"])
        vectors = [mix if name == "mix" else weights.get(_NAMES[name]) for name in VECTORS]
        matrices = [self._matrix(weights[_NAMES[name]].t()) for name in MATRICES]
        return Layer(*map(self._vector, vectors), *matrices, *(self._lora(weights, letter) for letter in LORAS))

    def _lora(self, weights: Mapping[str, Tensor], letter: str) -> Lora:
        if f"att.{letter}1" not in weights:  # layer 0 mixes no value in
            return Lora()
        return Lora(self._matrix(weights[f"att.{letter}1"]), self._matrix(weights[f"att.{letter}2"]))

    def _vector(self, numbers: Tensor | None) -> int | None:
        if numbers is None:
            return None
        self._kept.append(numbers.contiguous())
        return self._kept[-1].data_ptr()

    def _matrix(self, matrix: Tensor) -> Matrix:
        if not fits_half(matrix):
            raise UnavailableError("its matrices have 16 bits, and the weights need more")
        self._kept.append(panels(matrix))
        return Matrix(self._kept[-1].data_ptr(), *matrix.shape)

    def _buffer(self, name: str) -> int | None:
        sizes = self.sizes
        width = {"mixed": 6 * sizes.width, "low": max(sizes.ranks.values()), "inner": sizes.ffn}.get(
            name, sizes.width
        )
        return self._vector(torch.zeros(BLOCK, width + -width % PANEL))
