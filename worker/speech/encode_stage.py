"""The encoder's thread: puts the parts of an utterance together to a file, and lets the utterance go."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from loguru import logger

from rwkv_tts.refusal import Cause, Refusal
from worker.delivery.encoding import encode_audio
from worker.speech.inside import Inside
from worker.speech.stage import Stage, call
from worker.speech.utterance import Piece, Utterance


class EncodeStage(Stage[Piece]):
    """Every part of every utterance comes here once, with a wave or without one.

    Args:
        sample_rate: Of the waves, Hz.
        inside: What is inside the pipeline.
        done: Called with every utterance when its last part has come.

    Attributes:
        audio_seconds: Seconds of audio that were encoded.
    """

    def __init__(self, sample_rate: int, inside: Inside, done: Callable[[Utterance], None]) -> None:
        super().__init__("encoder")
        self._sample_rate, self._inside, self._done = sample_rate, inside, done
        self._arrived: Counter[Utterance] = Counter()
        self.audio_seconds = 0.0

    def run(self) -> None:
        while (piece := self.inbox.get()) is not None:
            utterance = piece.utterance
            self._arrived[utterance] += 1
            if self._arrived[utterance] == len(utterance.parts):
                del self._arrived[utterance]
                self._finish(utterance)

    def _finish(self, utterance: Utterance) -> None:
        if utterance.refusal is None and self._inside.cancelled(utterance) is None:
            with self.busy():
                self._encode(utterance)
        cancelled = self._inside.leave(utterance)
        if cancelled is not None:
            utterance.refusal, utterance.audio = cancelled, b""
        utterance.done_at = time.monotonic()
        self.completed += 1
        call("done", partial(self._done, utterance))

    def _encode(self, utterance: Utterance) -> None:
        waves, audio_format = utterance.waves(), utterance.request.format
        try:
            utterance.audio = encode_audio(waves, self._sample_rate, audio_format)
        except Exception as error:  # noqa: BLE001 - one utterance's fault must not end the thread
            logger.exception("encoding failed")
            problem = f"{audio_format}: {type(error).__name__}: {error}"
            utterance.refuse(Refusal("format", Cause.INTERNAL, problem))
        else:
            self.audio_seconds += sum(map(len, waves)) / self._sample_rate
