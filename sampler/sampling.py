"""The one sampler: masks, cuts and draws inside the logits buffer that it is given."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingRows:
    """What the sampler must know of each row; all tensors are [n] on the logits' device.

    Attributes:
        allowed: int64; columns ``0..allowed-1`` may be drawn.
        temperature: float32 >= 0; 0 is greedy.
        top_p: float32 in (0, 1].
        top_k: int64 >= 1; ``allowed`` or more keeps every column.
        uniform: float32 in [0, 1), one draw for each row.
    """

    allowed: Tensor
    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    uniform: Tensor


def sample_(logits: Tensor, rows: SamplingRows) -> Tensor:
    """Draw one token for each row; ``logits`` is overwritten and holds the cumulative distribution after.

    The maths is the reference's: softmax over the allowed columns, cut at the probability where the running
    sum reaches top_p (ties stay), top_k (ties at the edge keep the lower id), power 1/T, renormalise, draw by
    inverse CDF in the order of the ids.

    Args:
        logits: float32 [n, V], contiguous rows.
        rows: The parameters of the n rows.

    Returns:
        int64 [n]; -1 for a row whose logits are not finite.
    """
    _mask_(logits, rows.allowed)
    torch.softmax(logits, dim=-1, out=logits)
    _keep_survivors_(logits, rows)
    _sharpen_(logits, rows.temperature)
    torch.cumsum(logits, dim=-1, out=logits)
    return _draw(logits, rows.uniform)


def _mask_(logits: Tensor, allowed: Tensor) -> None:
    columns = torch.arange(logits.shape[-1], device=logits.device)
    logits.masked_fill_(columns >= allowed[:, None], float("-inf"))


def _keep_survivors_(probabilities: Tensor, rows: SamplingRows) -> None:
    """Zero what top_p and top_k cut. A greedy row keeps its most probable column only."""
    greedy = rows.temperature == 0
    top_k = torch.where(greedy, 1, rows.top_k).clamp(max=probabilities.shape[-1])
    ranked = probabilities.topk(int(top_k.max()), dim=-1).values
    threshold = torch.maximum(_top_p_edge(ranked, rows.top_p), ranked.gather(-1, top_k[:, None] - 1))
    probabilities.masked_fill_(probabilities < threshold, 0.0)
    excess = (probabilities > 0).sum(-1) - top_k
    for row in (excess > 0).nonzero().flatten().tolist():
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


def _sharpen_(probabilities: Tensor, temperature: Tensor) -> None:
    """Raise to 1/T, row by row: a batch mate's temperature must not touch the rounding of another row.

    Dividing by the row's maximum first changes nothing, but keeps a small T from underflow.
    """
    for row in ((temperature > 0) & (temperature != 1)).nonzero().flatten().tolist():
        weights = probabilities[row]
        weights.div_(weights.max()).pow_(1.0 / float(temperature[row]))


def _draw(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """The first id whose cumulative weight exceeds uniform * total: the inverse CDF, renormalised."""
    total = cumulative[:, -1:]
    # uniform * total may round up to total itself; the draw must stay below it to hit a survivor.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return torch.where(total.squeeze(-1).isfinite(), ids, -1)
