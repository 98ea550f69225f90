"""The vocoder's thread: turns the tokens of parts into waves, and those of streams piece by piece."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from loguru import logger

from codec.streaming import Span, settled
from rwkv_tts.refusal import Cause, Refusal
from worker.compute.contract import ComputeLostError, MakesWaves
from worker.delivery.encoding import Wave
from worker.speech.heap import trim_heap
from worker.speech.inside import BACKGROUND_SHARE, Inside
from worker.speech.schedule import is_heard, piece_size, urgency
from worker.speech.stage import Stage
from worker.speech.utterance import Growing, Heard, Part, Piece

_SHORT_SPAN = 200
"""Tokens that are vocoded at once while somebody listens, so that no listener waits for a long text."""

_BACKGROUND_SPAN = 100
"""Tokens of a long text's further parts that are vocoded at once while others are inside, where parts are vocoded
one after another."""


_TRIMMED_PARTS = 8
"""After so many parts of a long text the heap is trimmed: of waves that wait, and tensors, gaps are left."""


@dataclass(eq=False)
class Work:
    """A part that is being vocoded.

    Attributes:
        done: Tokens whose samples are made.
        ended: Whether it has all its tokens, as the engine says after the last.
        waves: Those samples, where they are not heard at once.
    """

    piece: Piece
    done: int = 0
    ended: bool = False
    waves: list[Wave] = field(default_factory=list)

    def span(self, lookahead: int, most: int | None) -> Span | None:
        """The tokens whose samples are to be made next; None while there are not enough.

        Where the spans of a stream end depends on nothing but their number: in half precision others would sound
        the same, but not be the same samples for a worker that goes on after a crash.
        """
        known = len(self.piece.part.row.decoding.semantic)
        if is_heard(self.piece):
            end = self.done + piece_size(self.done)
            if end > settled(known, ended=self.ended, lookahead=lookahead):
                end = known if self.ended else self.done
        else:
            end = known if most is None else min(known, self.done + most)
        return Span(self.done, end) if end > self.done else None

    @property
    def complete(self) -> bool:
        """Whether all samples are made."""
        return self.ended and self.done >= len(self.piece.part.row.decoding.semantic)


class VocodeStage(Stage[Piece | Growing]):
    """Owns the codec's decoder.

    Args:
        vocoder: Turns tokens into waves.
        inside: What is inside the pipeline.
        most: Parts that are vocoded together at most.
        lookahead: Tokens that a stream's samples wait for.
        alone: Whether nothing decodes at present.
        to_encoder: Gets every part, what is heard of it before, and None at the end.
    """

    def __init__(
        self,
        vocoder: MakesWaves,
        inside: Inside,
        most: int,
        lookahead: int,
        alone: Callable[[], bool],
        to_encoder: Callable[[Piece | Heard | None], None],
    ) -> None:
        super().__init__("vocoder")
        self._vocoder, self._inside, self._most, self._lookahead = vocoder, inside, most, lookahead
        self._alone, self._to_encoder = alone, to_encoder
        self._works: dict[Part, Work] = {}
        self._open = True
        self._resume_at = 0.0  # with what yields

    def run(self) -> None:
        while self._open or self._works:
            self._gather()
            batch = self._pick()
            start = time.monotonic()
            with self.busy():
                self._vocode(batch)
            if any(self._yields(work) for work, _ in batch):
                self._resume_at = start + BACKGROUND_SHARE * (time.monotonic() - start)
            for work in list(self._works.values()):
                self._hand_on(work)
        self._to_encoder(None)

    def _gather(self) -> None:
        """Take in what has come; wait if there is nothing else to do."""
        patience = self._patience()
        while True:
            try:
                message = self.inbox.get(block=patience != 0, timeout=patience or None)
            except queue.Empty:
                return
            patience = 0.0
            if message is None:
                self._open = False
                return
            if message.part not in self._works:
                self._works[message.part] = Work(Piece(*message))
                message.part.vocoding_at = message.part.vocoding_at or time.monotonic()
            self._works[message.part].ended |= isinstance(message, Piece)

    def _patience(self) -> float | None:
        """Seconds for which there is nothing to do; None where that may be for ever."""
        if next(self._ready(), None) is not None:
            return 0.0
        ended = [work for work in self._works.values() if work.ended]
        if not ended:
            return None
        return max(0.0, self._resume_at - time.monotonic()) if all(map(self._rests, ended)) else 0.0

    def _yields(self, work: Work) -> bool:
        """Whether others go first, on a processor that does one thing at a time."""
        piece = work.piece
        further = bool(piece.part.number) and piece.utterance.background
        return further and self._most == 1 and self._inside.awaited > 0

    def _rests(self, work: Work) -> bool:
        """Whether nothing is done for a part at present, for the sake of others."""
        return self._wanted(work) and self._yields(work) and time.monotonic() < self._resume_at

    def _ready(self) -> Iterator[tuple[Work, Span]]:
        """What is wanted and can be made."""
        most = _SHORT_SPAN if self._inside.listeners else None
        for work in self._works.values():
            span = None
            if self._wanted(work) and not self._rests(work):
                span = work.span(self._lookahead, _BACKGROUND_SPAN if self._yields(work) else most)
            if span is not None:
                yield work, span

    def _pick(self) -> list[tuple[Work, Span]]:
        """What is made next."""
        return sorted(self._ready(), key=lambda pair: urgency(*pair[0].piece))[: self._most]

    def _vocode(self, batch: list[tuple[Work, Span]]) -> None:
        """Decode a batch; if it fails, each part alone, so that only the faulty fail."""
        if batch and not self._decode(batch):
            # Not where the error was caught: it would keep the failed batch's tensors in memory.
            for pair in batch:
                self._vocode([pair])

    def _wanted(self, work: Work) -> bool:
        utterance = work.piece.utterance
        return utterance.refusal is None and self._inside.cancelled(utterance) is None

    def _decode(self, batch: list[tuple[Work, Span]]) -> bool:
        """Decode a batch; False if it failed and its parts are to be tried alone."""
        decodings = [work.piece.part.row.decoding for work, _ in batch]
        tokens, spans = [list(decoding.semantic) for decoding in decodings], [span for _, span in batch]
        try:
            voices = [one.globals_ for one in decodings]
            waves = self._vocoder(tokens, voices, spans, self._lookahead, self._alone())
        except (torch.AcceleratorError, ComputeLostError):  # nothing can go on
            raise
        except Exception as error:  # noqa: BLE001 - one part's fault must not end the thread
            if len(batch) > 1:
                return False
            logger.exception("the vocoder failed")
            refusal = Refusal("vocoder", Cause.INTERNAL, f"{type(error).__name__}: {error}")
            batch[0][0].piece.utterance.refuse(refusal)
        else:
            for (work, span), wave in zip(batch, waves, strict=True):
                work.done = span.end
                work.waves.append(wave)
        self.completed += 1
        return True

    def _hand_on(self, work: Work) -> None:
        """Give the encoder what is complete, or what is to be heard of it already."""
        utterance, part = work.piece
        wanted = self._wanted(work)
        if work.ended and (work.complete or not wanted):
            if wanted:
                part.wave = np.concatenate(work.waves) if work.waves else np.zeros(0, np.float32)
                part.vocoded_at = time.monotonic()
            del self._works[part]
            self._to_encoder(work.piece)
            if part.number and not part.number % _TRIMMED_PARTS:
                trim_heap()
        elif is_heard(work.piece) and work.waves:
            self._to_encoder(Heard(utterance, part, np.concatenate(work.waves), work.done))
            work.waves.clear()
