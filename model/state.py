"""Recurrent state of many rows: one slot a row, indexed in place."""

import torch
from torch import Tensor

from model.checkpoint import HEAD_SIZE, Sizes


class State:
    """The pool that holds every row's recurrent state.

    Attributes:
        wkv: float32 [layers, slots, heads, 64 (value), 64 (key)]; in memory keys come before values, because a
            product with a key is then one of a row with a matrix, which is faster than one with a column.
        att_shift: float32 [layers, slots, width], the last token's vector after ln1.
        ffn_shift: float32 [layers, slots, width], the last token's vector after ln2.
        slots: Their number.
    """

    def __init__(self, sizes: Sizes, slots: int, device: torch.device | str = "cpu") -> None:
        self.slots = slots
        self.wkv = torch.zeros(sizes.layers, slots, sizes.heads, HEAD_SIZE, HEAD_SIZE, device=device).mT
        self.att_shift = torch.zeros(sizes.layers, slots, sizes.width, device=device)
        self.ffn_shift = torch.zeros(sizes.layers, slots, sizes.width, device=device)

    def reset(self, slot: int) -> None:
        """Forget the row in ``slot``: a new sequence starts from zero."""
        for pool in self.tensors():
            pool[:, slot] = 0.0

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.wkv, self.att_shift, self.ffn_shift

    def nbytes(self) -> int:
        """Bytes that the pool takes on its device."""
        return sum(pool.nbytes for pool in self.tensors())
