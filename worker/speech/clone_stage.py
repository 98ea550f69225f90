"""The cloner's thread: gives utterances with a recording their voice."""

from collections.abc import Callable

from codec.voice_encoder import EncodedVoice
from rwkv_tts.refusal import Cause, Refusal, RequestError
from worker.speech.cloning import Cloner, Recording
from worker.speech.inside import Inside
from worker.speech.model import SpeechModel
from worker.speech.preparation import with_voice
from worker.speech.stage import Stage, call
from worker.speech.utterance import Closed, Utterance


class CloneStage(Stage[Utterance]):
    """Owns the cache of voices.

    Args:
        speech: The loaded model.
        inside: What is inside the pipeline.
        most: Recordings that are encoded together at most.
        to_engine: Gets utterances with a voice, and None at the end.
        to_encoder: Gets word of those without one.
        freed: Called when rows have become free.

    Attributes:
        jobs: Utterances that have not left the stage; changed under the lock of ``inside``.
    """

    def __init__(
        self,
        speech: SpeechModel,
        inside: Inside,
        most: int,
        to_engine: Callable[[Utterance | None], None],
        to_encoder: Callable[[Closed], None],
        freed: Callable[[], None],
    ) -> None:
        super().__init__("cloner")
        self._speech, self._inside, self._most = speech, inside, most
        encoder = speech.compute.voice_encoder
        self._cloner = None if encoder is None else Cloner(encoder)
        self._to_engine, self._to_encoder, self._freed = to_engine, to_encoder, freed
        self.jobs = 0

    @property
    def able(self) -> bool:
        """Whether recordings can be used."""
        return self._cloner is not None

    def run(self) -> None:
        while (batch := self.batch(self._most)) is not None:
            with self.busy():
                self._clone(batch)
            for utterance in batch:
                self._leave(utterance)
            if any(utterance.refusal for utterance in batch):
                call("freed", self._freed)
        self._to_engine(None)

    def _clone(self, batch: list[Utterance]) -> None:
        """Give those that are not cancelled their voice, or the reason why they get none."""
        batch = [utterance for utterance in batch if self._inside.cancelled(utterance) is None]
        if not batch:
            return
        assert self._cloner is not None
        voices = self._cloner([_recording(utterance) for utterance in batch])
        for utterance, voice in zip(batch, voices, strict=True):
            utterance.refuse(voice if isinstance(voice, Refusal) else self._give(utterance, voice))

    def _give(self, utterance: Utterance, voice: EncodedVoice) -> Refusal | None:
        """Complete an utterance, or say why that cannot be done."""
        try:
            with_voice(utterance, self._speech, voice)
        except RequestError as error:
            return error.refusal
        except ValueError as error:
            return Refusal("", Cause.INTERNAL, str(error))
        return None

    def _leave(self, utterance: Utterance) -> None:
        """Hand over; what is cancelled until now skips the engine, what is cancelled later is found there."""
        utterance.recording = None
        self.completed += 1
        with self._inside.lock:
            utterance.refuse(self._inside.cancelled(utterance))
            if utterance.refusal is None:
                self._to_engine(utterance)
            else:
                self._to_encoder(Closed(utterance, 0))
            self.jobs -= 1


def _recording(utterance: Utterance) -> Recording:
    assert utterance.recording is not None
    return Recording(utterance.recording, utterance.request.reference_text is not None)
