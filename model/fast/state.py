"""The pool of recurrent states in the model's own type, and one slot more for rows that are padding."""

import torch
from torch import Tensor

from model.checkpoint import HEAD_SIZE, Sizes


class FastState:
    """Indexed in place by the kernels; a row's first step begins from zero whatever its slot holds.

    Attributes:
        wkv: [layers, slots + 1, heads, 64 (value), 64 (key)].
        att_shift, ffn_shift: [layers, slots + 1, width], the last token's vectors after ln1 and ln2.
        drawn: int32 [slots + 1], the id that each row has drawn last.
        scratch: The slot of padding.
    """

    def __init__(self, sizes: Sizes, slots: int, device: torch.device, dtype: torch.dtype) -> None:
        self.scratch = slots
        square = (sizes.layers, slots + 1, sizes.heads, HEAD_SIZE, HEAD_SIZE)
        self.wkv = torch.zeros(square, device=device, dtype=dtype)
        self.att_shift = torch.zeros(sizes.layers, slots + 1, sizes.width, device=device, dtype=dtype)
        self.ffn_shift = torch.zeros_like(self.att_shift)
        self.drawn = torch.zeros(slots + 1, dtype=torch.int32, device=device)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.wkv, self.att_shift, self.ffn_shift

    def nbytes(self) -> int:
        """Bytes that the pool takes on its device."""
        return sum(pool.nbytes for pool in self.tensors())
