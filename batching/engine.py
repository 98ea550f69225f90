"""The engine: one step of every running row is one batch."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from loguru import logger

from batching.executor import Executor, Launched
from batching.pace import Pace
from batching.plain import PlainExecutor
from batching.row import Row
from batching.scheduler import Scheduler, Share
from batching.stats import StepStats
from batching.steady import SteadyRows
from model.native.forward import NativeRWKV7
from model.rwkv7 import RWKV7
from sampler.decoding import Phase
from sampler.layout import TokenLayout

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7

_SINGLE_ROW_MEMORY = "out of memory with a single row; a shorter text or a device with more memory may help"


def make_executor(
    model: "RWKV7 | NativeRWKV7 | FastRWKV7",
    layout: TokenLayout,
    slots: int,
    token_chunk_size: int,
    stats: StepStats,
    steady: SteadyRows,
) -> Executor:
    """What runs the model's steps."""
    if isinstance(model, RWKV7 | NativeRWKV7):
        return PlainExecutor(model, layout.head_size, slots, stats)
    from batching.fast import FastExecutor  # needs Triton

    return FastExecutor(model, slots, token_chunk_size, steady)


@dataclass(frozen=True)
class _Failure:
    """Why a step failed; not the error itself, whose traceback keeps the step's tensors in memory."""

    reason: str
    out_of_memory: bool


class Engine:
    """Owns a model and its state pool; not thread-safe, one thread drives it.

    On a GPU a step is launched before the results of the one before it are taken, so that the device does not wait
    for the host. A row that had ended in between has then drawn one token too many, which is dropped; its slot is
    used again by later steps only, which the device runs later too.

    A step that fails may have advanced some states, so it cannot be repeated. Its rows restart from their prompts,
    half as many at once, and draw the same tokens again. After out-of-memory it stays at that number; after any
    other error only until the row at fault has failed alone, or until the suspects have all left.

    Args:
        model: The forward pass; its head must have the layout's rows.
        layout: The token layout that rows were made with.
        max_rows: State slots, and rows of the logits buffer.
        token_chunk_size: Prompt tokens that one step may prefill.

    Attributes:
        stats: What the steps were and what they took.
        hurried: Whether rows that yield miss steps which would take long with them, beside rows that do not.
    """

    def __init__(
        self, model: "RWKV7 | NativeRWKV7 | FastRWKV7", layout: TokenLayout, max_rows: int, token_chunk_size: int
    ) -> None:
        self.scheduler = Scheduler(max_rows, token_chunk_size)
        self.stats = StepStats(max_rows)
        self.hurried = False
        self._pace = Pace()
        self._limit = max_rows  # the operator's
        self._fit = max_rows  # in the device's memory, as far as is known
        self._suspects: list[Row] = []
        self._model = model
        self._steady = SteadyRows(max_rows, layout)
        self._executor = make_executor(model, layout, max_rows, token_chunk_size, self.stats, self._steady)
        self._under_way: deque[Launched] = deque()

    def __len__(self) -> int:
        """Rows that wait or run."""
        return len(self.scheduler)

    @property
    def max_rows(self) -> int:
        """Rows that may run at once at present."""
        return self.scheduler.max_rows

    def phases(self) -> Counter[Phase]:
        """Rows that run, by what they do next; any thread may ask."""
        return Counter(row.decoding.phase for row in self.scheduler.running)

    def add(self, row: Row) -> None:
        """Queue a row; it takes part from the next step on that has a free slot."""
        self.scheduler.add(row)

    def cancel(self, key: str) -> list[Row]:
        """End the rows named ``key``; those that waited are returned, the others by the next step."""
        waiting = []
        while (row := self.scheduler.cancel(key)) is not None:
            waiting.append(row)
        return waiting

    def limit(self, max_rows: int, token_chunk_size: int) -> None:
        """Set, between steps, how many rows run at once and how many prompt tokens a step prefills.

        Rows that run beyond the limit finish. No limit brings back rows for which there was no memory.

        Args:
            max_rows: 1 to the number of state slots.
            token_chunk_size: At least 1.
        """
        self._limit = max_rows
        rows = min(self._limit, self._fit)
        self.scheduler.max_rows = min(rows, self.scheduler.max_rows) if self._suspects else rows
        self.scheduler.token_chunk_size = token_chunk_size

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Admit, run one batch, advance its rows; return the rows that finished.

        Raises:
            torch.AcceleratorError: The device cannot be used any more.
        """
        start = time.perf_counter()
        for row in self.scheduler.admit():
            row.started_at = time.monotonic()
        shares = self.scheduler.plan(self._yielding() if self.hurried else None)
        size = len(shares) + self._steady.feeding
        if size or self._under_way:
            failure = self._attempt(shares, size)
            if failure and self.scheduler.running:
                self._recover(failure, self._in_step(shares))
        if size:
            seconds = time.perf_counter() - start
            self.stats.count(size, seconds)
            if sum(share.tokens for share in shares) == len(shares):
                self._pace.count(size, seconds)
        return self._collect()

    def _yielding(self) -> int | None:
        """How many of the rows that yield take part in a step; None where all do."""
        others = sum(not row.yields for row in self.scheduler.running)
        return self._pace.room(others) if others else None

    def _in_step(self, shares: Sequence[Share]) -> list[Row]:
        """The rows of the present step, of which some may just have become steady; else all that run."""
        rows = dict.fromkeys([share.row for share in shares] + self._steady.rows)
        return list(rows) or list(self.scheduler.running)

    def _attempt(self, shares: Sequence[Share], size: int) -> _Failure | None:
        """Run one batch; the boundary that no error crosses."""
        try:
            if size:
                self._launch(shares)
            while len(self._under_way) > (self._executor.ahead if size else 0):
                self._settle(self._under_way.popleft())
        except (torch.OutOfMemoryError, MemoryError):
            return _Failure(_SINGLE_ROW_MEMORY, out_of_memory=True)
        except torch.AcceleratorError:  # the device is lost to this process: nothing can go on
            raise
        except Exception as error:  # noqa: BLE001 - rows fail or restart, the engine lives
            if len(rows := self._in_step(shares)) == 1:
                logger.exception("row {}: its step failed with it alone", rows[0].key)
            return _Failure(f"{type(error).__name__}: {error}", out_of_memory=False)
        return None

    def _recover(self, failure: _Failure, rows: list[Row]) -> None:
        """Fail a lone row; restart several, half as many at once."""
        if failure.out_of_memory and self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(rows) == 1:
            if failure.out_of_memory:
                logger.error("row {}: engine: {}", rows[0].key, failure.reason)
            rows[0].fail(failure.reason)
            self._clear_suspects()
            return
        for row in self._steady.rows:
            self._steady.leave(row)
        half = len(rows) // 2
        if failure.out_of_memory:
            logger.warning("engine: out of memory with {} rows; from now on {} at most", len(rows), half)
            self._fit = half
            self.scheduler.restart()
        else:
            logger.warning("engine: {}; its {} rows restart, {} at most at once", failure.reason, len(rows), half)
            self._suspects = rows
            self.scheduler.restart(newest_first=True)
        self.scheduler.max_rows = min(half, self._limit)

    def _clear_suspects(self) -> None:
        if self._suspects:
            self._suspects = []
            self.scheduler.max_rows = min(self._limit, self._fit)

    def _launch(self, shares: Sequence[Share]) -> None:
        for share in shares:
            if share.row.decoding.phase is Phase.PREFILL:
                self.stats.tokens[Phase.PREFILL] += share.tokens
        launched = self._executor.launch(shares)
        self._under_way.append(launched)
        for share in shares:
            share.row.steps += 1
            share.row.batch_total += launched.size

    def _settle(self, launched: Launched) -> None:
        """Wait for a step, and give its rows what they have drawn, but for those that ended meanwhile."""
        ids = launched.ids()
        now = time.monotonic()
        steady = len(launched.fed)
        if steady:
            self.stats.tokens[Phase.SEMANTIC] += self._steady.settle(launched.fed, ids[:steady])
        for row, decoding, token in zip(launched.rows, launched.decodings, ids[steady:].tolist(), strict=True):
            if row.decoding is decoding and not decoding.finish:
                row.prefilled_at = row.prefilled_at or now
                self.stats.tokens[decoding.awaited] += 1
                decoding.accept(token)
                if row.steady:
                    self._steady.load(row)

    def _collect(self) -> list[Row]:
        finished = self.scheduler.release()
        for row in finished:
            row.finished_at = time.monotonic()
            if row.steady:
                self._steady.leave(row)
        if self._suspects and all(row.finished for row in self._suspects):
            self._clear_suspects()
        return finished
