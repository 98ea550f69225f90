"""The vocoder's thread: turns the tokens of parts into waves."""

import time
from collections.abc import Callable

import torch
from loguru import logger

from codec.vocoder import Vocoder
from rwkv_tts.refusal import Cause, Refusal
from worker.speech.inside import Inside
from worker.speech.stage import Stage
from worker.speech.utterance import Piece


class VocodeStage(Stage[Piece]):
    """Owns the codec's decoder.

    Args:
        vocoder: Turns tokens into waves.
        inside: What is inside the pipeline.
        most: Parts that are vocoded together at most.
        to_encoder: Gets every part, and None at the end.
    """

    def __init__(
        self, vocoder: Vocoder, inside: Inside, most: int, to_encoder: Callable[[Piece | None], None]
    ) -> None:
        super().__init__("vocoder")
        self._vocoder, self._inside, self._most = vocoder, inside, most
        self._to_encoder = to_encoder

    def run(self) -> None:
        while (batch := self.batch(self._most)) is not None:
            with self.busy():
                self._vocode(batch)
            for piece in batch:
                self._to_encoder(piece)
        self._to_encoder(None)

    def _vocode(self, batch: list[Piece]) -> None:
        """Decode those that are wanted; if the batch fails, each alone, so that only the faulty fail."""
        batch = [piece for piece in batch if self._wanted(piece)]
        if batch and not self._decode(batch):
            # Not where the error was caught: it would keep the failed batch's tensors in memory.
            for piece in batch:
                self._vocode([piece])

    def _wanted(self, piece: Piece) -> bool:
        return piece.utterance.refusal is None and self._inside.cancelled(piece.utterance) is None

    def _decode(self, batch: list[Piece]) -> bool:
        """Decode a batch; False if it failed and its parts are to be tried alone."""
        decodings = [piece.part.row.decoding for piece in batch]
        try:
            waves = self._vocoder([d.semantic for d in decodings], [d.globals_ for d in decodings])
        except torch.AcceleratorError:  # the device is lost to this process
            raise
        except Exception as error:  # noqa: BLE001 - one part's fault must not end the thread
            if len(batch) > 1:
                return False
            logger.exception("the vocoder failed")
            batch[0].utterance.refuse(Refusal("vocoder", Cause.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            now = time.monotonic()
            for piece, wave in zip(batch, waves, strict=True):
                piece.part.wave = wave
                piece.part.vocoded_at = now
        self.completed += 1
        return True
