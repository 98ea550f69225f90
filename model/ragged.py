"""Where the tokens of a ragged batch lie: rows of different lengths, time step by time step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Geometry of one flattened batch of R rows with N tokens in all; index tensors are int64.

    The forward takes the tokens time-major: the first token of every row, then the second of every row that has
    one, and so on. Rows are kept longest first, so that those due at a time step are a prefix, and their tokens
    lie together. Rows of one length are kept by slot: a batch of decoding rows that fill their pool is a view.

    Attributes:
        lengths: int64 [R], tokens of each row, in the caller's order.
        places: int64 [R], the state slot of each, likewise.
        slots: The state slot of each row: [R], or a slice where they follow one another.
        order: [N], the caller's position of each token, time-major.
        counts: Rows that have a token, for each time step.
        previous: [N], where each token's predecessor is among the R rows' remembered tokens followed by these N.
        ends: [R], position of each row's last token.
        last: [R], the same in the caller's order of the rows.
    """

    lengths: Tensor
    places: Tensor
    slots: Tensor | slice
    order: Tensor
    counts: list[int]
    previous: Tensor
    ends: Tensor
    last: Tensor

    @staticmethod
    def of(lengths: Sequence[int], slots: Sequence[int], device: torch.device | str = "cpu") -> "Ragged":
        """Lay out rows of ``lengths`` (each >= 1) whose states are in ``slots`` (all different)."""
        given, own = np.asarray(lengths, dtype=np.int64), np.asarray(slots, dtype=np.int64)
        by_length = np.lexsort((own, -given))
        sizes, places = given[by_length], own[by_length]
        starts = (np.cumsum(given) - given)[by_length]
        # Rows outlive step t if they are longer than t: counted from the sorted lengths' other end.
        counts = len(sizes) - np.searchsorted(sizes[::-1], np.arange(sizes[0]), side="right")
        offsets = np.cumsum(counts) - counts
        time = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(len(time)) - offsets[time]
        ends = offsets[sizes - 1] + np.arange(len(sizes))
        last = np.empty_like(ends)
        last[by_length] = ends

        def tensor(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
            return torch.from_numpy(values).to(device)

        return Ragged(
            lengths=tensor(given),
            places=tensor(own),
            slots=_run(places) or tensor(places),
            order=tensor(starts[row] + time),
            counts=counts.tolist(),
            previous=tensor(row + np.where(time == 0, 0, len(sizes) + offsets[time - 1])),
            ends=tensor(ends),
            last=tensor(last),
        )

    @property
    def tokens(self) -> int:
        """N."""
        return self.order.shape[0]

    def load(self, pool: Tensor) -> Tensor:
        """The rows' entries of a pool [slots, ...]: [R, ...], a view where the slots follow one another."""
        return pool[self.slots] if isinstance(self.slots, slice) else pool.index_select(0, self.slots)

    def store(self, pool: Tensor, entries: Tensor) -> None:
        """Write back what ``load`` gave and the caller has changed, or other entries [R, ...]."""
        if isinstance(self.slots, Tensor):
            pool.index_copy_(0, self.slots, entries)
        elif (view := pool[self.slots]).data_ptr() != entries.data_ptr():
            view.copy_(entries)


def _run(places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> slice | None:
    """The slice that these slots are, if they follow one another."""
    first, last = int(places[0]), int(places[-1])
    follow = last - first == len(places) - 1 and bool((np.diff(places) == 1).all())
    return slice(first, last + 1) if follow else None
