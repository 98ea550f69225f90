"""The engine's thread: owns the engine and the parts that decode."""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from batching.row import Row
from rwkv_tts.refusal import Refusal
from sampler.layout import TokenLayout
from worker.compute.contract import RowEngine
from worker.speech.cast import Cast, Role
from worker.speech.read_stage import Order, Read
from worker.speech.schedule import HeardParts
from worker.speech.spoiled import Attempts
from worker.speech.stage import Stage, call
from worker.speech.utterance import Closed, Growing, Piece, Utterance

_COUNT_IDLE_SECONDS = 1.0


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


@dataclass(frozen=True)
class Enough:
    """An utterance has all the audio that it may have; what is left of it ends."""

    utterance: Utterance


@dataclass(frozen=True)
class Advanced:
    """The audio of an utterance has come further, so that more of its parts may start."""

    utterance: Utterance


class ForgetStats:
    """The engine counts anew."""


class Woken:
    """The engine has something to do again."""


ToEngine = Utterance | Read | Cancel | Enough | Advanced | Limits | ForgetStats | Woken


class EngineStage(Stage[ToEngine]):
    """Steps as long as there are rows.

    Args:
        engine: The engine; the stage's thread owns it from now on.
        layout: The token layout of its model.
        lookahead: Tokens that a stream's samples wait for.
        attempts: Decides which parts are tried again.
        to_reader: Asks for further parts; gets None at the end.
        to_vocoder: Gets the parts that were decoded, those that are heard meanwhile as well, and None at the end.
        to_encoder: Gets those that have nothing to say, and word of every utterance that has left the engine.
        freed: Called when rows have become free.
    """

    def __init__(
        self,
        engine: RowEngine,
        layout: TokenLayout,
        lookahead: int,
        attempts: Attempts,
        to_reader: Callable[[Order | None], None],
        to_vocoder: Callable[[Piece | Growing | None], None],
        to_encoder: Callable[[Piece | Closed], None],
        freed: Callable[[], None],
    ) -> None:
        super().__init__("engine")
        self.engine = engine
        self._layout, self._attempts = layout, attempts
        self._to_reader, self._to_vocoder, self._to_encoder = to_reader, to_vocoder, to_encoder
        self._freed = freed
        self._cast = Cast(to_reader, layout.globals_per_voice)
        self._running: dict[Row, Piece] = {}
        self._heard = HeardParts(lookahead)
        self._entered = self._left = 0

    @property
    def jobs(self) -> int:
        """Utterances that wait to be taken, wait for a row or have one."""
        return self._entered - self._left

    def put(self, item: ToEngine | None) -> None:
        """As any stage's; whoever puts utterances holds the lock of what is inside."""
        self._entered += isinstance(item, Utterance)
        super().put(item)

    def run(self) -> None:
        open_ = True
        while open_ or len(self._cast):
            self._admit()
            while not self.inbox.empty() or ((open_ or len(self._cast)) and not self.engine.pending):
                message = self._next_message()
                if message is None:
                    open_ = False
                else:
                    self._take(message)
                self._admit()
            finished = self.engine.step()
            self.completed += 1
            for growing in self._heard.due():
                self._to_vocoder(growing)
            for row in finished:
                self._leave(row)
            if finished:
                call("freed", self._freed)
        self.engine.end()
        self._to_reader(None)
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
                self.engine.idle(time.perf_counter() - start)

    def _take(self, message: ToEngine) -> None:
        if isinstance(message, Utterance):
            self._cast.enter(message)
        elif isinstance(message, Read):
            self._take_read(message)
        elif isinstance(message, Cancel):
            self._end(self._cast.role(message.utterance))
        elif isinstance(message, Enough):
            self._end(self._cast.role(message.utterance), enough=True)
        elif isinstance(message, Limits):
            self.engine.limit(message.max_rows, message.token_chunk_size)
            call("done", message.done)
        elif isinstance(message, ForgetStats):
            self.engine.forget_stats()

    def _take_read(self, read: Read) -> None:
        role = self._cast.read(read)
        if read.refusal is not None:
            self._refuse(role, read.refusal)
        self._see_off(role)

    def _admit(self) -> None:
        """Give free rows to parts that wait, in their order."""
        engine = self.engine
        while piece := self._cast.next(
            engine.max_rows + engine.spare - len(engine), engine.max_rows, now=time.monotonic()
        ):
            if not piece.part.row.decoding.prompt:
                assert piece.utterance.speaker is not None
                piece.part.prompt(self._layout, piece.utterance.speaker)
            self._start(piece)
        engine.hurried = self._cast.hurried

    def _start(self, piece: Piece) -> None:
        self._cast.begin(piece)
        row = piece.part.row
        row.yields = piece.part.number > 0 and piece.utterance.background
        self._running[row] = piece
        if row.finished is None:
            self._heard.begin(piece)
            self.engine.add(row)
        else:  # it was drawn by an earlier worker
            self._leave(row)

    def _end(self, role: Role | None, *, enough: bool = False) -> None:
        """End the rows of an utterance, at once those that wait, by the next step those that run; none follow."""
        if role is None:
            return
        role.end(enough=enough)
        for waiting in self.engine.cancel(role.utterance.id):
            self._leave(waiting)
        self._see_off(role)

    def _leave(self, row: Row) -> None:
        piece = self._running.pop(row)
        heard = self._heard.end(row)
        role = self._cast.end(piece)
        if not role.ended and self._attempts.again(piece):
            self._start(piece)
            return
        role.sent += 1
        refusal = None if role.enough else self._attempts.failure(piece)
        if refusal is not None:
            self._refuse(role, refusal)
        speaks = refusal is None and bool(row.decoding.semantic) and not role.enough
        (self._to_vocoder if speaks or heard else self._to_encoder)(piece)
        self._see_off(role)

    def _refuse(self, role: Role, refusal: Refusal) -> None:
        """There will be no audio, so the other parts are of no use."""
        first = role.utterance.refusal is None
        role.utterance.refuse(refusal)
        if first:
            self._end(role)

    def _see_off(self, role: Role) -> None:
        """Let an utterance go that has nothing left to decode."""
        if role.done and self._cast.role(role.utterance) is role:
            self._cast.leave(role)
            self._left += 1
            self._to_encoder(Closed(role.utterance, role.sent))
