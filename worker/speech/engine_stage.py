"""The engine's thread: owns the engine and the parts that decode."""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from batching.engine import Engine
from batching.row import Row
from rwkv_tts.refusal import Cause, Refusal
from sampler.decoding import FinishReason
from worker.speech.stage import Stage, call
from worker.speech.utterance import Piece, Utterance

_COUNT_IDLE_SECONDS = 1.0


class Step(Protocol):
    """What stands in for the engine's step, such as a profiler around it."""

    def __call__(self) -> list[Row]:
        """Do the step."""

    def close(self) -> None:
        """There are no more steps."""


@dataclass(frozen=True)
class Cancel:
    """An utterance is cancelled."""

    utterance: Utterance


@dataclass(frozen=True)
class Limits:
    """How many rows run at once, and how many prompt tokens a step prefills; ``done`` when it is so."""

    max_rows: int
    token_chunk_size: int
    done: Callable[[], None]


class ForgetStats:
    """The engine counts anew."""


ToEngine = Utterance | Cancel | Limits | Step | ForgetStats


class EngineStage(Stage[ToEngine]):
    """Steps as long as there are rows.

    Args:
        engine: The engine; the stage's thread owns it from now on.
        to_vocoder: Gets the parts that were decoded, and None at the end.
        to_encoder: Gets those that have nothing to say.
        freed: Called when rows have become free.
    """

    def __init__(
        self,
        engine: Engine,
        to_vocoder: Callable[[Piece | None], None],
        to_encoder: Callable[[Piece | None], None],
        freed: Callable[[], None],
    ) -> None:
        super().__init__("engine")
        self.engine = engine
        self._to_vocoder, self._to_encoder, self._freed = to_vocoder, to_encoder, freed
        self._step: Callable[[], list[Row]] = engine.step
        self._profile: Step | None = None
        self._running: dict[Row, Piece] = {}

    @property
    def rows(self) -> int:
        """Utterances that wait to be taken, and rows that wait or run."""
        return self.inbox.qsize() + len(self._running)  # in an utterance's order

    def run(self) -> None:
        open_ = True
        while open_ or len(self.engine.scheduler):
            while not self.inbox.empty() or (open_ and not len(self.engine.scheduler)):
                message = self._next_message()
                if message is None:
                    open_ = False
                else:
                    self._take(message)
            finished = self._step()
            self.completed += 1
            for row in finished:
                self._leave(row)
            if finished:
                call("freed", self._freed)
        if self._profile is not None:
            self._profile.close()
        self._to_vocoder(None)

    def _next_message(self) -> ToEngine | None:
        """Wait for a message; the time is counted as it passes, so that a long wait shows before it ends."""
        while True:
            start = time.perf_counter()
            try:
                return self.inbox.get(timeout=_COUNT_IDLE_SECONDS)
            except queue.Empty:
                continue
            finally:
                self.engine.stats.idle_seconds += time.perf_counter() - start

    def _take(self, message: ToEngine) -> None:
        if isinstance(message, Utterance):
            for part in message.parts:
                self._running[part.row] = Piece(message, part)
                self.engine.add(part.row)
        elif isinstance(message, Cancel):
            self._cancel(message.utterance)
        elif isinstance(message, Limits):
            self.engine.limit(message.max_rows, message.token_chunk_size)
            call("done", message.done)
        elif isinstance(message, ForgetStats):
            self.engine.stats.reset()
        else:
            self._step = self._profile = message

    def _cancel(self, utterance: Utterance) -> None:
        """End the rows of an utterance: at once those that wait, by the next step those that run."""
        for part in utterance.parts:
            waiting = self.engine.scheduler.cancel(part.row.key) if part.row in self._running else None
            if waiting is not None:
                self._leave(waiting)

    def _leave(self, row: Row) -> None:
        piece = self._running.pop(row)
        refusal = failure(row)
        if refusal is None:
            self._to_vocoder(piece)
            return
        first = piece.utterance.refusal is None
        piece.utterance.refuse(refusal)
        self._to_encoder(piece)
        if first:  # its other parts are of no use
            self._cancel(piece.utterance)


def failure(row: Row) -> Refusal | None:
    """Why a finished row has nothing to say, or None."""
    if row.error is not None:
        return Refusal("engine", Cause.INTERNAL, row.error)
    if row.finished is FinishReason.ERROR:
        return Refusal("model", Cause.MODEL, "it produced logits that are not finite; the row was ended")
    if row.finished is FinishReason.CANCELLED:
        return Refusal("", Cause.CANCELLED, "cancelled on request")
    if not row.decoding.semantic:
        return Refusal("model", Cause.MODEL, "speech ended before its first token; another seed or text may help")
    return None
