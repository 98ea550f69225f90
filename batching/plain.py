"""Runs steps through a forward that returns and the plain sampler; results are there when ``launch`` returns.

It makes no rows steady: a step of the few rows that it is used for costs far more than the host's work.
"""

import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from batching.executor import Launched
from batching.row import Row
from batching.scheduler import Share
from batching.stats import StepStats
from batching.steady import NOBODY
from model.native.forward import NativeRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from sampler.decoding import PhaseSampling
from sampler.sampling import SamplingRows, sample_

# A batch of decoding rows stays the same for many steps: what follows from its shape is worked out once.


@lru_cache(maxsize=8)
def _ragged(lengths: tuple[int, ...], slots: tuple[int, ...], device: torch.device) -> Ragged:
    return Ragged.of(lengths, slots, device)


@lru_cache(maxsize=8)
def _sampling_rows(
    columns: int, rows: tuple[tuple[int, PhaseSampling], ...], device: torch.device
) -> SamplingRows:
    """Rows as (allowed columns, parameters)."""
    return SamplingRows(
        columns,
        allowed=torch.tensor([allowed for allowed, _ in rows], device=device),
        temperature=torch.tensor([sampling.temperature for _, sampling in rows], device=device),
        top_p=torch.tensor([sampling.top_p for _, sampling in rows], device=device),
        top_k=torch.tensor([sampling.top_k or allowed for allowed, sampling in rows], device=device),
    )


class PlainExecutor:
    """Owns the state pool and the logits buffer.

    Args:
        model: The forward pass.
        columns: Rows of its head.
        slots: State slots, and rows of the logits buffer.
        stats: Gets the seconds of sampling.
    """

    ahead = 0

    def __init__(self, model: RWKV7 | NativeRWKV7, columns: int, slots: int, stats: StepStats) -> None:
        self._model = model
        self._stats = stats
        self._state = model.state(slots)
        self._buffer = torch.empty(model.padded(slots), columns, device=model.device)

    def launch(self, shares: Sequence[Share]) -> Launched:
        """Run a step."""
        residual = self._forward(shares)
        rows = [share.row for share in shares]
        due = [i for i, row in enumerate(rows) if row.decoding.remaining == 0]
        ready = [rows[i] for i in due]
        if len(due) < len(rows):
            residual = residual[torch.tensor(due, device=residual.device, dtype=torch.int64)]
        start = time.perf_counter()
        tokens = self._sample(residual, ready) if ready else []
        self._stats.sampling_seconds += time.perf_counter() - start
        ids = np.array(tokens, np.int32)
        return Launched(len(rows), NOBODY, ready, [row.decoding for row in ready], lambda: ids)

    def _forward(self, shares: Sequence[Share]) -> Tensor:
        """Feed every share's tokens; the residual stream at the last token of each, [R, width]."""
        tokens = [token for share in shares for token in share.row.decoding.take(share.tokens)]
        rows = _ragged(
            tuple(share.tokens for share in shares), tuple(share.row.slot for share in shares), self._model.device
        )
        for share in shares:
            if share.row.steps == 0:
                self._state.reset(share.row.slot)
        return self._model.forward(torch.tensor(tokens, device=self._model.device), rows, self._state)

    def _sample(self, residual: Tensor, rows: Sequence[Row]) -> list[int]:
        """Draw a token for every row."""
        logits = self._model.logits(residual, out=self._buffer)
        decodings = [row.decoding for row in rows]
        parameters = _sampling_rows(
            logits.shape[-1], tuple((d.allowed, d.sampling) for d in decodings), self._model.device
        )
        draws = torch.tensor([d.draw for d in decodings], device=self._model.device)
        tokens: list[int] = sample_(logits, parameters, draws).tolist()
        return tokens
