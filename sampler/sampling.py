"""The one sampler: masks, cuts and draws inside the logits buffer that it is given."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingRows:
    """What the sampler must know of each row; all tensors are [n] on the logits' device.

    Keep it for as long as the rows stay the same: what follows from it is worked out once.

    Attributes:
        columns: V, the width of the logits.
        allowed: int64; columns ``0..allowed-1`` may be drawn.
        temperature: float32 >= 0; 0 is greedy.
        top_p: float32 in (0, 1].
        top_k: int64 >= 1; ``allowed`` or more keeps every column.
    """

    columns: int
    allowed: Tensor
    temperature: Tensor
    top_p: Tensor
    top_k: Tensor

    @cached_property
    def closed(self) -> Tensor:
        """The columns that may not be drawn: bool [n, V]."""
        return torch.arange(self.columns, device=self.allowed.device) >= self.allowed[:, None]

    @cached_property
    def kept(self) -> Tensor:
        """The columns that top_k keeps, int64 [n, 1]; a greedy row keeps its most probable one only."""
        return torch.where(self.temperature == 0, 1, self.top_k).clamp(max=self.columns)[:, None]

    @cached_property
    def most_kept(self) -> int:
        """The largest of ``kept``."""
        return int(self.kept.max())

    @cached_property
    def powers(self) -> list[tuple[int, float]]:
        """The rows to raise to 1/T, and 1/T."""
        return [(row, 1 / t) for row, t in enumerate(self.temperature.tolist()) if t not in (0, 1)]


def sample_(logits: Tensor, rows: SamplingRows, uniform: Tensor) -> Tensor:
    """Draw one token for each row; ``logits`` is overwritten and holds the cumulative distribution after.

    The maths is the reference's: softmax over the allowed columns, cut at the probability where the running
    sum reaches top_p (ties stay), top_k (ties at the edge keep the lower id), power 1/T, renormalise, draw by
    inverse CDF in the order of the ids.

    Args:
        logits: float32 [n, V], contiguous rows.
        rows: The parameters of the n rows.
        uniform: float32 [n] in [0, 1), one draw for each row.

    Returns:
        int64 [n]; -1 for a row whose logits are not finite.
    """
    logits.masked_fill_(rows.closed, float("-inf"))
    torch.softmax(logits, dim=-1, out=logits)
    _keep_survivors_(logits, rows)
    _sharpen_(logits, rows.powers)
    torch.cumsum(logits, dim=-1, out=logits)
    return _draw(logits, uniform)


def _keep_survivors_(probabilities: Tensor, rows: SamplingRows) -> None:
    """Zero what top_p and top_k cut."""
    ranked = probabilities.topk(rows.most_kept, dim=-1).values
    threshold = torch.maximum(_top_p_edge(ranked, rows.top_p), ranked.gather(-1, rows.kept - 1))
    probabilities.masked_fill_(probabilities < threshold, 0.0)
    excess = (probabilities > 0).sum(-1, keepdim=True) - rows.kept
    for row in (excess > 0).flatten().nonzero().flatten().tolist():
        _drop_last_ties_(probabilities[row], threshold[row], int(excess[row]))


def _top_p_edge(ranked: Tensor, top_p: Tensor) -> Tensor:
    """The probability where the running sum reaches top_p, or 0 where it does not reach it: float32 [n, 1]."""
    reached = ranked.cumsum(-1) >= top_p[:, None]
    first = reached.int().argmax(-1, keepdim=True)
    return torch.where(reached.any(-1, keepdim=True), ranked.gather(-1, first), 0.0)


def _drop_last_ties_(row: Tensor, edge: Tensor, count: int) -> None:
    """Zero the ``count`` highest ids among the columns that tie at the edge."""
    ties = (row == edge).nonzero().flatten()
    row[ties[len(ties) - count :]] = 0.0


def _sharpen_(probabilities: Tensor, powers: Iterable[tuple[int, float]]) -> None:
    """Raise to 1/T, row by row: a batch mate's temperature must not touch the rounding of another row.

    Dividing by the row's maximum first changes nothing, but keeps a small T from underflow.
    """
    for row, power in powers:
        weights = probabilities[row]
        weights.div_(weights.max()).pow_(power)


def _draw(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """The first id whose cumulative weight exceeds uniform * total: the inverse CDF, renormalised."""
    total = cumulative[:, -1:]
    # uniform * total may round up to total itself; the draw must stay below it to hit a survivor.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return torch.where(total.squeeze(-1).isfinite(), ids, -1)
