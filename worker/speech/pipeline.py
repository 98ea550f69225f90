"""The threads that speak: cloner, engine, vocoder, encoder, with queues between them and one owner for each state.

An utterance enters by ``submit`` and leaves by the ``done`` callback, always, with audio or with an error.
Those with reference audio go through the cloner, the others start at the engine and never wait for it.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from loguru import logger

from batching.engine import Engine
from batching.row import Row
from codec.vocoder import Vocoder
from codec.voice_encoder import EncodedVoice
from worker.broker.backend import BackendBrokenError
from worker.delivery.encoding import encode_audio
from worker.ops.profiling import StepProfile
from worker.speech.cloning import Cloner, Reference
from worker.speech.directory import SpeechModel
from worker.speech.synthesis import Utterance, failure, with_voice

_COUNT_IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class _Cancel:
    key: str


class _ForgetStats:
    pass


@dataclass(frozen=True)
class _Limits:
    max_rows: int
    token_chunk_size: int
    done: Callable[[], None]


_ToEngine = Utterance | _Cancel | _Limits | StepProfile | _ForgetStats


@dataclass(frozen=True)
class Figures:
    """What the pipeline does and has done.

    Attributes:
        rows: Utterances that decode.
        most_rows: How many may; fewer than the limit after the device was out of memory.
        steps: Steps of the engine.
        row_steps: The sum of their rows.
        tokens: Tokens that were drawn.
        audio_seconds: Seconds of audio that were encoded.
    """

    rows: int
    most_rows: int
    steps: int
    row_steps: int
    tokens: int
    audio_seconds: float


class Pipeline:
    """Runs utterances concurrently; its methods may be called from any thread.

    Args:
        speech: The loaded model; the pipeline's threads own it from now on.
        max_rows: Utterances that decode at once.
        token_chunk_size: Prompt tokens that one step may prefill.
        done: Called from the encoder's thread with every utterance that has ended.
        freed: Called from the engine's and the cloner's threads when rows have become free.
        vocoder_batch: Utterances that are vocoded together at most.
        clone_batch: References that are encoded together at most.

    Attributes:
        stats: What the engine has done; to be read only.
        scheduler: The engine's rows; to be read only.
        busy_seconds: What each of the other stages has worked; to be read only.
    """

    def __init__(
        self,
        speech: SpeechModel,
        *,
        max_rows: int,
        token_chunk_size: int,
        done: Callable[[Utterance], None],
        freed: Callable[[], None] = lambda: None,
        vocoder_batch: int = 1,
        clone_batch: int = 1,
    ) -> None:
        self.speech = speech
        self.sample_rate = speech.codec.sample_rate
        self._engine = Engine(speech.model, speech.layout, max_rows, token_chunk_size)
        self.stats, self.scheduler = self._engine.stats, self._engine.scheduler
        self._vocoder = Vocoder(speech.codec)
        self._vocoder_batch = vocoder_batch
        self._cloner = None if speech.voice_encoder is None else Cloner(speech.voice_encoder)
        self._clone_batch = clone_batch
        self._done = done
        self._freed = freed
        self._to_cloner: queue.SimpleQueue[Utterance | None] = queue.SimpleQueue()
        self._to_engine: queue.SimpleQueue[_ToEngine | None] = queue.SimpleQueue()
        self._to_vocoder: queue.SimpleQueue[Utterance | None] = queue.SimpleQueue()
        self._to_encoder: queue.SimpleQueue[Utterance | None] = queue.SimpleQueue()
        self._step: Callable[[], list[Row]] = self._engine.step
        self._running: dict[Row, Utterance] = {}
        self._inside: dict[Utterance, str | None] = {}  # with the reason of those that are cancelled
        self._cloning = 0  # utterances that have not left the cloner
        self._closed = False
        self._broken: str | None = None
        self._lock = threading.Lock()  # taken to write the three; never in a step
        self._cloned = self._steps = self._vocoded = self._encoded = 0  # each is counted by one thread
        self._audio_seconds = 0.0  # by the encoder's
        self.busy_seconds = {"cloner": 0.0, "vocoder": 0.0, "encoder": 0.0}  # each by its thread
        self._threads = [
            threading.Thread(target=self._guard, args=(target,), name=name, daemon=True)
            for name, target in (
                ("cloner", self._run_cloner),
                ("engine", self._run_engine),
                ("vocoder", self._run_vocoder),
                ("encoder", self._run_encoder),
            )
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, utterance: Utterance) -> None:
        """Hand an utterance over; it may come back by ``done`` before this returns.

        Raises:
            RuntimeError: The pipeline is closed.
            ValueError: It has a reference, for which the model has no encoder.
        """
        if utterance.reference is not None and self._cloner is None:
            raise ValueError("the model has no voice encoder for a reference")
        with self._lock:
            if self._closed:
                raise RuntimeError("the pipeline is closed")
            self._inside[utterance] = None
            if utterance.reference is None:
                self._to_engine.put(utterance)
            else:
                self._cloning += 1
                self._to_cloner.put(utterance)

    def cancel(self, key: str, reason: str = "cancelled on request") -> None:
        """End the utterance named ``key``, if it is inside; it comes back by ``done`` with the reason as error.

        A stage that is at work on it finishes its batch first; no later stage touches it.
        """
        with self._lock:
            for utterance, earlier in self._inside.items():
                if utterance.id == key and earlier is None:
                    self._inside[utterance] = reason
                    self._to_engine.put(_Cancel(key))

    def progress(self) -> int | None:
        """A number that changes whenever a stage completes something; None when nothing is inside.

        Raises:
            BackendBrokenError: A stage has ended; nothing inside will ever come back.
        """
        if self._broken is not None:
            raise BackendBrokenError(self._broken)
        completed = self._cloned + self._steps + self._vocoded + self._encoded
        return completed if self._inside else None

    def limit(self, max_rows: int, token_chunk_size: int, done: Callable[[], None]) -> None:
        """Change between two steps how many rows run at once and how many prompt tokens a step prefills.

        Args:
            max_rows: 1 to the number that the pipeline was made with; what runs beyond it finishes.
            token_chunk_size: At least 1.
            done: Called from the engine's thread when it is so.
        """
        self._to_engine.put(_Limits(max_rows, token_chunk_size, done))

    def profile(self, steps: int, path: Path) -> None:
        """Write a trace of the next ``steps`` steps to ``path``, from the main thread; see ``StepProfile``."""
        self._to_engine.put(StepProfile(self._engine.step, steps, path))

    def figures(self) -> Figures:
        """What it does now, and has done until now."""
        return Figures(
            rows=len(self.scheduler.running),
            most_rows=self.scheduler.max_rows,
            steps=self.stats.steps,
            row_steps=self.stats.row_steps,
            tokens=self.stats.drawn,
            audio_seconds=self._audio_seconds,
        )

    def free_rows(self) -> int:
        """Rows that could start at once; negative when more are inside than may run.

        A row is taken as soon as its reference waits for the cloner.
        """
        taken = self._cloning + self._to_engine.qsize() + len(self._running)  # in an utterance's order
        return self._engine.scheduler.max_rows - taken

    def forget_stats(self) -> None:
        """Let the engine count anew, from its next step on."""
        self._to_engine.put(_ForgetStats())

    def close(self) -> None:
        """Let what is inside finish, then end the threads."""
        with self._lock:
            self._closed = True
            self._to_cloner.put(None)
        for thread in self._threads:
            thread.join()

    def _guard(self, run: Callable[[], None]) -> None:
        """Run a stage; should it end by an error, tell whoever asks for progress."""
        try:
            run()
        except Exception as error:  # noqa: BLE001 - the end of the thread
            logger.exception("a stage of the pipeline has ended")
            self._broken = f"{threading.current_thread().name}: {type(error).__name__}: {error}"

    @contextmanager
    def _busy(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds[stage] += time.perf_counter() - start

    # The cloner's thread: owns the cache of voices.

    def _run_cloner(self) -> None:
        while (batch := _next_batch(self._to_cloner, self._clone_batch)) is not None:
            with self._busy("cloner"):
                self._clone(batch)
            for utterance in batch:
                self._leave_cloner(utterance)
            if any(utterance.error for utterance in batch):
                _call("freed", self._freed)
        self._to_engine.put(None)

    def _clone(self, batch: list[Utterance]) -> None:
        """Give those that are not cancelled their voice, or the reason why they get none."""
        batch = [utterance for utterance in batch if self._inside[utterance] is None]
        if not batch:
            return
        assert self._cloner is not None
        voices = self._cloner([_reference(utterance) for utterance in batch])
        for utterance, voice in zip(batch, voices, strict=True):
            utterance.error = voice if isinstance(voice, str) else self._give(utterance, voice)

    def _give(self, utterance: Utterance, voice: EncodedVoice) -> str | None:
        """Complete an utterance, or say why that cannot be done."""
        try:
            with_voice(utterance, self.speech, voice)
        except ValueError as error:
            return str(error)
        return None

    def _leave_cloner(self, utterance: Utterance) -> None:
        """Hand over; what is cancelled until now skips the engine, what is cancelled later is found there."""
        utterance.reference = None
        self._cloned += 1
        with self._lock:
            utterance.error = utterance.error or self._inside[utterance]
            (self._to_encoder if utterance.error else self._to_engine).put(utterance)
            self._cloning -= 1

    # The engine's thread: owns the engine and the running utterances.

    def _run_engine(self) -> None:
        open_ = True
        while open_ or len(self._engine.scheduler):
            while not self._to_engine.empty() or (open_ and not len(self._engine.scheduler)):
                message = self._next_message()
                if message is None:
                    open_ = False
                else:
                    self._take(message)
            finished = self._step()
            self._steps += 1
            for row in finished:
                self._leave(row)
            if finished:
                _call("freed", self._freed)
        if isinstance(self._step, StepProfile):
            self._step.close()
        self._to_vocoder.put(None)

    def _next_message(self) -> _ToEngine | None:
        """Wait for a message; the time is counted as it passes, so that a long wait shows before it ends."""
        while True:
            start = time.perf_counter()
            try:
                return self._to_engine.get(timeout=_COUNT_IDLE_SECONDS)
            except queue.Empty:
                continue
            finally:
                self.stats.idle_seconds += time.perf_counter() - start

    def _take(self, message: _ToEngine) -> None:
        if isinstance(message, Utterance):
            self._running[message.row] = message
            self._engine.add(message.row)
        elif isinstance(message, _Cancel):
            waiting = self._engine.scheduler.cancel(message.key)
            if waiting is not None:
                self._leave(waiting)
        elif isinstance(message, _Limits):
            self._engine.limit(message.max_rows, message.token_chunk_size)
            _call("done", message.done)
        elif isinstance(message, _ForgetStats):
            self.stats.reset()
        else:
            self._step = message

    def _leave(self, row: Row) -> None:
        utterance = self._running.pop(row)
        utterance.error = row.error or failure(row)
        (self._to_encoder if utterance.error else self._to_vocoder).put(utterance)

    # The vocoder's thread.

    def _run_vocoder(self) -> None:
        while (batch := _next_batch(self._to_vocoder, self._vocoder_batch)) is not None:
            with self._busy("vocoder"):
                self._vocode(batch)
            for utterance in batch:
                self._to_encoder.put(utterance)
        self._to_encoder.put(None)

    def _vocode(self, batch: list[Utterance]) -> None:
        """Decode those that are not cancelled; if the batch fails, each alone, so that only the faulty fail."""
        batch = [utterance for utterance in batch if self._inside[utterance] is None]
        if batch and not self._decode_waves(batch):
            # Not where the error was caught: it would keep the failed batch's tensors in memory.
            for utterance in batch:
                self._vocode([utterance])

    def _decode_waves(self, batch: list[Utterance]) -> bool:
        """Decode a batch; False if it failed and its utterances are to be tried alone."""
        decodings = [utterance.row.decoding for utterance in batch]
        try:
            waves = self._vocoder([d.semantic for d in decodings], [d.globals_ for d in decodings])
        except torch.AcceleratorError:  # the device is lost to this process
            raise
        except Exception as error:  # noqa: BLE001 - one utterance's fault must not end the thread
            if len(batch) > 1:
                return False
            logger.exception("the vocoder failed")
            batch[0].error = f"vocoder: {type(error).__name__}: {error}"
        else:
            now = time.monotonic()
            for utterance, wave in zip(batch, waves, strict=True):
                utterance.wave = wave
                utterance.vocoded_at = now
        self._vocoded += 1
        return True

    # The encoder's thread.

    def _run_encoder(self) -> None:
        while (utterance := self._to_encoder.get()) is not None:
            if utterance.wave is not None and self._inside[utterance] is None:
                with self._busy("encoder"):
                    self._encode(utterance)
            self._end(utterance)
            self._encoded += 1
            _call("done", partial(self._done, utterance))

    def _encode(self, utterance: Utterance) -> None:
        assert utterance.wave is not None
        try:
            utterance.audio = encode_audio(utterance.wave, self.sample_rate, utterance.request.format)
        except Exception as error:  # noqa: BLE001 - one utterance's fault must not end the thread
            logger.exception("encoding failed")
            utterance.error = f"format: {utterance.request.format}: {type(error).__name__}: {error}"
        else:
            self._audio_seconds += len(utterance.wave) / self.sample_rate

    def _end(self, utterance: Utterance) -> None:
        """Let go of an utterance; a cancel that comes from now on is too late."""
        with self._lock:
            reason = self._inside.pop(utterance)
        if reason is not None:
            utterance.error = reason
            utterance.audio = b""
        utterance.done_at = time.monotonic()


def _reference(utterance: Utterance) -> Reference:
    assert utterance.reference is not None
    return Reference(utterance.reference, utterance.request.reference_text is not None)


def _next_batch(source: "queue.SimpleQueue[Utterance | None]", most: int) -> list[Utterance] | None:
    """Wait for one utterance and take along those that are there already; None at the end."""
    batch: list[Utterance] = []
    while len(batch) < most and not (batch and source.empty()):
        utterance = source.get()
        if utterance is None:
            source.put(None)
            return batch or None
        batch.append(utterance)
    return batch


def _call(name: str, callback: Callable[[], None]) -> None:
    """Call back; an error in it is not the pipeline's."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - a caller's fault must not end the thread
        logger.exception("the callback {!r} failed", name)
