"""Where the tokens of a ragged batch lie: rows of different lengths, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Geometry of one flattened batch of R rows with N tokens in all; index tensors are int64.

    Rows are kept longest first, so that the rows which still have a token at a time step are a prefix.

    Attributes:
        slots: [R], the state slot of each row.
        starts: [R], position of each row's first token.
        ends: [R], position of each row's last token.
        steps: For each time step the positions of the tokens that are due, one for each row that has one.
        restore: [R], the rows in the caller's order.
    """

    slots: Tensor
    starts: Tensor
    ends: Tensor
    steps: tuple[Tensor, ...]
    restore: Tensor

    @staticmethod
    def of(lengths: Sequence[int], slots: Sequence[int], device: torch.device | str = "cpu") -> "Ragged":
        """Lay out rows of ``lengths`` (each >= 1) whose states are in ``slots`` (all different)."""
        sizes = np.asarray(lengths, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        order = np.argsort(-sizes, kind="stable")
        sizes, starts = sizes[order], starts[order]
        active = [int(np.count_nonzero(sizes > t)) for t in range(int(sizes[0]))]

        def tensor(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        return Ragged(
            slots=tensor(np.asarray(slots, dtype=np.int64)[order]),
            starts=tensor(starts),
            ends=tensor(starts + sizes - 1),
            steps=tuple(tensor(starts[:n] + t) for t, n in enumerate(active)),
            restore=tensor(np.argsort(order, kind="stable")),
        )

    @property
    def last(self) -> Tensor:
        """[R], position of each row's last token, in the caller's order."""
        return self.ends[self.restore]
