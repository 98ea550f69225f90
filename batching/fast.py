"""Runs steps on a GPU: one copy to the device, one graph, one copy of ids back, and nothing waits for anything.

The host writes a step while the device runs the one before: what is fed next is known but for ids just drawn, and
those the device looks up itself.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from batching.executor import Launched
from batching.scheduler import Share
from batching.steps import Steps, batch_shape
from model.fast.batch import ROW_FIELDS, Shape, aligned
from model.fast.forward import FastRWKV7
from sampler.decoding import Decoding
from sampler.device import DRAW_FIELDS

Ints = npt.NDArray[np.int32]


class FastExecutor:
    """Owns the state pool and the graphs.

    Args:
        model: The forward pass.
        slots: State slots; rows of a step.
        token_chunk_size: Prompt tokens of the steps that get graphs; larger steps run without one.
    """

    ahead = 1

    def __init__(self, model: FastRWKV7, slots: int, token_chunk_size: int) -> None:
        self._vocabulary = model.sizes.vocabulary
        self._slots = slots
        self._steps = Steps(model, slots, token_chunk_size)

    def launch(self, shares: Sequence[Share]) -> Launched:
        """Start a step.

        Raises:
            IndexError: A token has no embedding.
        """
        shape = batch_shape([share.tokens for share in shares], self._slots)
        host = self._steps.staging(shape)
        due = self._write(host.numpy(), shape, shares)
        decodings = [shares[i].row.decoding for i in due]
        ids = self._steps.run(host, shape)
        for decoding in decodings:
            decoding.expect()
        return Launched([shares[i].row for i in due], decodings, _taken(ids, due))

    def _write(self, host: Ints, shape: Shape, shares: Sequence[Share]) -> list[int]:
        """Fill the step's array; the positions of the rows that draw."""
        lengths = np.array([share.tokens for share in shares], np.int32)
        tokens = [token for share in shares for token in share.row.decoding.take(share.tokens)]
        if max(tokens) >= self._vocabulary:
            raise IndexError(f"index {max(tokens)} is out of bounds: there are {self._vocabulary} embeddings")
        count, n = len(shares), len(tokens)
        stride = aligned(shape.tokens)
        host[:n] = tokens
        host[n : shape.tokens] = 0
        owners = host[stride : stride + shape.tokens]
        owners[:n] = np.repeat(np.arange(count, dtype=np.int32), lengths)
        owners[n:] = np.arange(count, shape.tokens - n + count) if shape.single else shape.rows
        rows = host[2 * stride : shape.size].reshape(len(ROW_FIELDS), -1)
        starts, sizes, slots, fresh = rows
        starts[:count], sizes[:count] = np.cumsum(lengths) - lengths, lengths
        starts[count:], sizes[count:] = (np.arange(count, rows.shape[1]), 1) if shape.single else (0, 0)
        starts[shape.rows], sizes[shape.rows] = n, 1  # owns the padding tokens
        slots[:count], slots[count:] = [share.row.slot for share in shares], self._slots
        fresh[:count], fresh[count:] = [share.row.steps == 0 for share in shares], 1
        return _write_draws(host[shape.size :], shape.rows, [share.row.decoding for share in shares])


def _write_draws(host: Ints, rows: int, decodings: Sequence[Decoding]) -> list[int]:
    fields = host[: DRAW_FIELDS * aligned(rows)].reshape(DRAW_FIELDS, -1)
    fields[0] = 0
    due = [i for i, decoding in enumerate(decodings) if decoding.remaining == 0]
    drawing = [decodings[i] for i in due]
    if not due:
        return due
    fields[:6, due] = np.array(
        [
            (d.allowed, d.sampling.top_k or d.allowed, d.phase, d.step, d.seed & 0xFFFFFFFF, d.seed >> 32)
            for d in drawing
        ],
        np.uint32,
    ).T.view(np.int32)
    samplings = np.array([(d.sampling.temperature, d.sampling.top_p) for d in drawing], np.float32)
    fields[6:, due] = samplings.T.view(np.int32)
    return due


def _taken(ids: Callable[[], Tensor], due: Sequence[int]) -> Callable[[], list[int]]:
    def tokens() -> list[int]:
        drawn = ids().numpy()  # waits also where nothing was drawn: the host array is written anew after that
        taken: list[int] = drawn[due].tolist() if due else []
        return taken

    return tokens
