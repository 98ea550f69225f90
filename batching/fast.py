"""Runs steps on a GPU: one copy to the device, one graph, one copy of ids back, and nothing waits for anything.

The host writes a step while the device runs the one before: what is fed next is known but for ids just drawn, and
those the device looks up itself.
"""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from batching.executor import Launched
from batching.scheduler import Share
from batching.steady import Fed, SteadyRows
from batching.steps import Steps, batch_shape
from model.fast.batch import ROW_FIELDS, Shape, aligned
from model.fast.forward import FastRWKV7
from sampler.decoding import unknown
from sampler.draws import DRAW_FIELDS, Ints, draw_fields


class FastExecutor:
    """Owns the state pool and the graphs.

    Args:
        model: The forward pass.
        slots: State slots; rows of a step.
        token_chunk_size: Prompt tokens of the steps that get graphs; larger steps run without one.
        steady: Gets the rows that need no share any more.
    """

    ahead = 1

    def __init__(self, model: FastRWKV7, slots: int, token_chunk_size: int, steady: SteadyRows) -> None:
        self._vocabulary = model.sizes.vocabulary
        self._slots = slots
        self._steps = Steps(model, slots, token_chunk_size)
        self._steady = steady

    def launch(self, shares: Sequence[Share]) -> Launched:
        """Start a step.

        Raises:
            IndexError: A token has no embedding.
        """
        tokens = [token for share in shares for token in share.row.decoding.take(share.tokens)]
        if tokens and max(tokens) >= self._vocabulary:
            raise IndexError(f"index {max(tokens)} is out of bounds: there are {self._vocabulary} embeddings")
        fed = self._steady.feed(len(shares))
        lengths = [1] * len(fed) + [share.tokens for share in shares]
        shape = batch_shape(lengths, self._slots)
        host = self._steps.staging(shape)
        told = host.numpy()
        _write_tokens(told, shape, len(fed), tokens, lengths)
        _write_rows(_row_fields(told, shape), fed, shares, self._slots)
        due = [i for i, share in enumerate(shares) if share.row.decoding.remaining == 0]
        rows, positions = [shares[i].row for i in due], [len(fed) + i for i in due]
        decodings = [row.decoding for row in rows]
        draws = told[shape.size :][: DRAW_FIELDS * aligned(shape.rows)].reshape(DRAW_FIELDS, -1)
        _write_draws(draws, fed, draw_fields(decodings), positions)
        ids = self._steps.run(host, shape)
        for row in rows:
            row.decoding.expect()
            self._steady.join(row)
        return Launched(len(lengths), fed, rows, decodings, _taken(ids, len(fed), positions))


def _row_fields(told: Ints, shape: Shape) -> Ints:
    return told[2 * aligned(shape.tokens) : shape.size].reshape(len(ROW_FIELDS), -1)


def _write_tokens(told: Ints, shape: Shape, steady: int, tokens: Sequence[int], lengths: Sequence[int]) -> None:
    """The tokens of all rows, and where each row's are."""
    n = steady + len(tokens)
    told[:steady], told[steady:n], told[n : shape.tokens] = unknown(0), tokens, 0
    owners = told[aligned(shape.tokens) :][: shape.tokens]
    starts, sizes, *_ = _row_fields(told, shape)
    if shape.single:
        owners[:], starts[:], sizes[:] = np.arange(len(owners)), np.arange(len(starts)), 1
    else:
        count, each = len(lengths), np.array(lengths, np.int32)
        owners[:n], owners[n:] = np.repeat(np.arange(count), each), shape.rows
        starts[:count], sizes[:count] = np.cumsum(each) - each, each
        starts[count:], sizes[count:] = 0, 0
    starts[shape.rows], sizes[shape.rows] = n, 1  # owns the padding tokens


def _write_rows(fields: Ints, fed: Fed, shares: Sequence[Share], scratch: int) -> None:
    """The slots of all rows, and which of them are not used yet."""
    *_, slots, fresh = fields
    steady, count = len(fed), len(fed) + len(shares)
    slots[:steady], fresh[:steady] = fed.slots, 0
    slots[steady:count], slots[count:] = [share.row.slot for share in shares], scratch
    fresh[steady:count], fresh[count:] = [share.row.steps == 0 for share in shares], 1


def _write_draws(fields: Ints, fed: Fed, draws: Ints, positions: Sequence[int]) -> None:
    """What the rows at ``positions`` draw with, and that others draw nothing."""
    fields[:, : len(fed)], fields[:, len(fed) :] = fed.draws, 0
    fields[:, positions] = draws


def _taken(ids: Callable[[], Tensor], steady: int, positions: Sequence[int]) -> Callable[[], Ints]:
    def taken() -> Ints:
        drawn = ids().numpy()  # waits also where nothing was drawn: the host array is written anew after that
        return np.concatenate((drawn[:steady], drawn[positions]))

    return taken
