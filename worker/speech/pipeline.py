"""The threads that speak: cloner, reader, engine, vocoder, encoder; queues between them, one owner for each state.

An utterance enters by ``submit`` and leaves by the ``done`` callback, always, with audio or with a refusal.
Those with a recording go through the cloner, the others start at the engine and never wait for it.
"""

from collections.abc import Callable
from pathlib import Path

from rwkv_tts.refusal import Cause, Refusal
from worker.speech.clone_stage import CloneStage
from worker.speech.encode_stage import EncodeStage
from worker.speech.engine_stage import Advanced, Cancel, EngineStage, Enough, ForgetStats, Limits, Woken
from worker.speech.inside import Inside
from worker.speech.model import SpeechModel
from worker.speech.read_stage import ReadStage
from worker.speech.spoiled import Attempts
from worker.speech.utterance import Step, Utterance
from worker.speech.vocode_stage import VocodeStage

CANCELLED = Refusal("", Cause.CANCELLED, "cancelled on request")


_ATTEMPTS = 3
"""Further draws of a part whose draw was bad."""


class StageBrokenError(RuntimeError):
    """A stage has ended; nothing inside will ever come back."""


class Pipeline:
    """Runs utterances concurrently; its methods may be called from any thread.

    Args:
        speech: The loaded model; the pipeline's threads own it from now on.
        max_rows: Rows that decode at once.
        token_chunk_size: Prompt tokens that one step may prefill.
        done: Called from the encoder's thread with every utterance that has ended.
        made: Called from the encoder's thread with what a stream or a long text has come to.
        freed: Called from the engine's and the cloner's threads when rows have become free.
        vocoder_batch: Parts that are vocoded together at most.
        clone_batch: Recordings that are encoded together at most.

    Attributes:
        engine: To be read only.
    """

    def __init__(
        self,
        speech: SpeechModel,
        *,
        max_rows: int,
        token_chunk_size: int,
        done: Callable[[Utterance], None],
        made: Callable[[Step], None] = lambda _: None,
        freed: Callable[[], None] = lambda: None,
        vocoder_batch: int = 1,
        clone_batch: int = 1,
    ) -> None:
        self.speech = speech
        self.sample_rate = speech.compute.sample_rate
        self._inside = Inside()
        self.engine = speech.compute.engine(max_rows, token_chunk_size, lambda: self._engine.put(Woken()))
        self._encoder = EncodeStage(
            self.sample_rate,
            self._inside,
            lambda one: self._engine.put(Enough(one)),
            lambda one: self._engine.put(Advanced(one)),
            made,
            done,
        )
        to_encoder, lookahead = self._encoder.put, speech.config.lookahead
        self._vocoder = VocodeStage(
            speech.compute.vocoder,
            self._inside,
            vocoder_batch,
            lookahead,
            lambda: not len(self.engine),
            to_encoder,
        )
        self._reader = ReadStage(lambda read: self._engine.put(read))
        attempts = Attempts(speech.layout, _ATTEMPTS if speech.config.trained else 0)
        self._engine = EngineStage(
            self.engine,
            speech.layout,
            lookahead,
            attempts,
            self._reader.put,
            self._vocoder.put,
            to_encoder,
            freed,
        )
        self._cloner = CloneStage(speech, self._inside, clone_batch, self._engine.put, to_encoder, freed)
        self._closed = False  # under the lock
        self._stages = (self._cloner, self._reader, self._engine, self._vocoder, self._encoder)
        for stage in self._stages:
            stage.start()

    def submit(self, utterance: Utterance) -> None:
        """Hand an utterance over; it may come back by ``done`` before this returns.

        Raises:
            RuntimeError: The pipeline is closed.
            ValueError: It has a recording, for which the model has no encoder.
        """
        if utterance.recording is not None and not self._cloner.able:
            raise ValueError("the model has no voice encoder for a recording")
        with self._inside.lock:
            if self._closed:
                raise RuntimeError("the pipeline is closed")
            self._inside.enter(utterance)
            if utterance.recording is None:
                self._engine.put(utterance)
            else:
                self._cloner.jobs += 1
                self._cloner.put(utterance)

    def cancel(self, key: str, refusal: Refusal = CANCELLED) -> None:
        """End the utterance named ``key``, if it is inside; it comes back by ``done`` with this refusal.

        A stage that is at work on it finishes its batch first; no later stage touches it.
        """
        with self._inside.lock:
            utterance = self._inside.cancel(key, refusal)
            if utterance is not None:
                self._engine.put(Cancel(utterance))

    def progress(self) -> int | None:
        """A number that changes whenever a stage completes something; None when nothing is inside.

        Raises:
            StageBrokenError: A stage has ended; nothing inside will ever come back.
        """
        for stage in self._stages:
            if stage.broken is not None:
                raise StageBrokenError(stage.broken)
        completed = sum(stage.completed for stage in self._stages)
        return completed if self._inside else None

    def limit(self, max_rows: int, token_chunk_size: int, done: Callable[[], None]) -> None:
        """Change between two steps how many rows run at once and how many prompt tokens a step prefills.

        Args:
            max_rows: 1 to the number that the pipeline was made with; what runs beyond it finishes.
            token_chunk_size: At least 1.
            done: Called from the engine's thread when it is so.
        """
        self._engine.put(Limits(max_rows, token_chunk_size, done))

    def profile(self, steps: int, path: Path) -> None:
        """Write a trace of the engine's next steps to a file; for the main thread, before there are any."""
        self.engine.profile(steps, path)

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were encoded."""
        return self._encoder.audio_seconds

    def busy_seconds(self) -> dict[str, float]:
        """What each of the stages beside the engine has worked."""
        return {
            stage.name: stage.busy_seconds for stage in (self._cloner, self._reader, self._vocoder, self._encoder)
        }

    def streams(self) -> int:
        """Utterances inside that are heard while they are made."""
        return self._inside.listeners

    def free_rows(self) -> int:
        """Utterances that could start at once; negative when more are inside than may run.

        A row is taken as soon as a recording waits for the cloner; further parts of long texts take none.
        """
        return (
            self.engine.max_rows + self.engine.spare - (self._cloner.jobs + self._engine.jobs)
        )  # in an utterance's order

    def forget_stats(self) -> None:
        """Let the engine count anew, from its next step on."""
        self._engine.put(ForgetStats())

    def close(self) -> None:
        """Let what is inside finish, then end the threads."""
        with self._inside.lock:
            self._closed = True
            self._cloner.put(None)
        for stage in self._stages:
            stage.join()
