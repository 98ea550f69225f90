"""The vocoder's thread: turns the tokens of parts into waves, and those of streams piece by piece."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from loguru import logger

from codec.streaming import Span, settled
from codec.vocoder import Vocoder
from rwkv_tts.refusal import Cause, Refusal
from worker.delivery.encoding import Wave
from worker.speech.inside import Inside
from worker.speech.schedule import is_heard, piece_size, urgency
from worker.speech.stage import Stage
from worker.speech.utterance import Growing, Heard, Part, Piece

_SHORT_SPAN = 200
"""Tokens that are vocoded at once while somebody listens, so that no listener waits for a long text."""


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
        to_encoder: Gets every part, what is heard of it before, and None at the end.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        inside: Inside,
        most: int,
        lookahead: int,
        to_encoder: Callable[[Piece | Heard | None], None],
    ) -> None:
        super().__init__("vocoder")
        self._vocoder, self._inside, self._most, self._lookahead = vocoder, inside, most, lookahead
        self._to_encoder = to_encoder
        self._works: dict[Part, Work] = {}
        self._open = True

    def run(self) -> None:
        while self._open or self._works:
            self._gather()
            batch = self._pick()
            with self.busy():
                self._vocode(batch)
            for work in list(self._works.values()):
                self._hand_on(work)
        self._to_encoder(None)

    def _gather(self) -> None:
        """Take in what has come; wait if there is nothing else to do."""
        wait = next(self._ready(), None) is None and not any(work.ended for work in self._works.values())
        while True:
            try:
                message = self.inbox.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if message is None:
                self._open = False
                return
            if message.part not in self._works:
                self._works[message.part] = Work(Piece(*message))
                message.part.vocoding_at = message.part.vocoding_at or time.monotonic()
            self._works[message.part].ended |= isinstance(message, Piece)

    def _ready(self) -> Iterator[tuple[Work, Span]]:
        """What is wanted and can be made."""
        most = _SHORT_SPAN if self._inside.listeners else None
        for work in self._works.values():
            span = work.span(self._lookahead, most) if self._wanted(work) else None
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
            waves = self._vocoder(tokens, [one.globals_ for one in decodings], spans, self._lookahead)
        except torch.AcceleratorError:  # the device is lost to this process
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
        elif is_heard(work.piece) and work.waves:
            self._to_encoder(Heard(utterance, part, np.concatenate(work.waves), work.done))
            work.waves.clear()
