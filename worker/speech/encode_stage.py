"""The encoder's thread: puts the parts of utterances together to audio, and lets utterances go."""

import queue
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from loguru import logger

from rwkv_tts.refusal import Cause, Refusal
from worker.speech.assembly import Assembly, TooLargeError
from worker.speech.inside import BACKGROUND_SHARE, Inside
from worker.speech.spoiled import NO_SPEECH
from worker.speech.stage import Stage, call
from worker.speech.utterance import Closed, Heard, Piece, Step, Utterance


class EncodeStage(Stage[Piece | Heard | Closed]):
    """Every part of every utterance comes here once, with a wave or without one, and word of their number.

    Args:
        sample_rate: Of the waves, Hz.
        inside: What is inside the pipeline.
        enough: Called with utterances whose further parts are not needed: there is enough audio, or will be none.
        advanced: Called with long texts whose audio has begun or has come to another part.
        made: Called with what listeners, or a worker that goes on after a crash, need of an utterance so far.
        done: Called with every utterance when its last part has come.

    Attributes:
        audio_seconds: Seconds of audio that were encoded.
    """

    def __init__(
        self,
        sample_rate: int,
        inside: Inside,
        enough: Callable[[Utterance], None],
        advanced: Callable[[Utterance], None],
        made: Callable[[Step], None],
        done: Callable[[Utterance], None],
    ) -> None:
        super().__init__("encoder")
        self._sample_rate, self._inside = sample_rate, inside
        self._enough, self._advanced = enough, advanced
        self._made, self._done = made, done
        self._assemblies: dict[Utterance, Assembly] = {}
        self._first, self._later = deque[Piece | Heard | Closed](), deque[Piece | Heard | Closed]()
        self._open = True
        self._resumed_at = 0.0  # with a long text's audio
        self.audio_seconds = 0.0

    def run(self) -> None:
        while self._take(self._next()):  # which holds nothing while it waits: an utterance may have a book's audio
            pass

    def _take(self, item: Piece | Heard | Closed | None) -> bool:
        """Work on what has come; False at the end."""
        if item is None:
            return False
        utterance = item.utterance
        if utterance not in self._assemblies:
            self._assemblies[utterance] = self._assembly(utterance)
        assembly = self._assemblies[utterance]
        self._encode(utterance, assembly, item)
        if assembly.over:
            del self._assemblies[utterance]
            self._finish(utterance)
        return True

    def _assembly(self, utterance: Utterance) -> Assembly:
        if utterance.background:
            return Assembly(utterance, self._sample_rate, between=self._serve_others)
        return Assembly(utterance, self._sample_rate)

    def _next(self) -> Piece | Heard | Closed | None:
        """What is encoded next, each utterance's in its order; files of long texts leave the others the way."""
        self._sort()
        waiting = self._first or self._later
        return waiting.popleft() if waiting else None

    def _sort(self) -> None:
        """Tell apart what has come; wait if there is nothing else to do."""
        while self._open:
            try:
                self._admit(self.inbox.get(block=not (self._first or self._later)))
            except queue.Empty:
                return

    def _admit(self, item: Piece | Heard | Closed | None) -> None:
        if item is None:
            self._open = False
        else:
            (self._later if item.utterance.background else self._first).append(item)

    def _serve_others(self) -> None:
        """Let pass, in the midst of a long text's part, those who wait, and leave them most of the processor."""
        start = time.monotonic()
        rest = start + (BACKGROUND_SHARE - 1) * (start - self._resumed_at)
        while self._open:
            patience = rest - time.monotonic() if self._inside.awaited else 0.0
            try:
                self._admit(self.inbox.get(timeout=max(0.0, patience)))
            except queue.Empty:
                break
            while self._first:
                self._take(self._first.popleft())
        self._resumed_at = time.monotonic()
        self.busy_seconds -= self._resumed_at - start  # no work, or counted already

    def _encode(self, utterance: Utterance, assembly: Assembly, item: Piece | Heard | Closed) -> None:
        """Go on with the audio as far as its parts have come."""
        assembly.count(item)
        if utterance.refusal is not None or self._inside.cancelled(utterance) is not None:
            self._enough(utterance)
            return
        enough, before = assembly.enough, _come_to(utterance)
        self._resumed_at = time.monotonic()
        try:
            with self.busy():
                assembly.take(item)
                if assembly.over:
                    self._complete(utterance, assembly)
                self._tell(assembly.step(item))
                assembly.forget()
        except TooLargeError as error:
            utterance.refuse(Refusal("text", Cause.INVALID, str(error)))
        except Exception as error:  # noqa: BLE001 - one utterance's fault must not end the thread
            logger.exception("encoding failed")
            problem = f"{utterance.request.format}: {type(error).__name__}: {error}"
            utterance.refuse(Refusal("format", Cause.INTERNAL, problem))
        self.completed += 1
        if utterance.refusal is not None or (assembly.enough and not enough):
            self._enough(utterance)
        elif utterance.reading is not None and _come_to(utterance) != before:
            self._advanced(utterance)

    def _complete(self, utterance: Utterance, assembly: Assembly) -> None:
        utterance.account = assembly.account()
        if not utterance.account.semantic:
            utterance.refuse(NO_SPEECH)
            return
        self.audio_seconds += utterance.account.seconds
        if not utterance.request.stream:
            utterance.audio = assembly.file()

    def _tell(self, step: Step | None) -> None:
        if step is not None:
            call("made", partial(self._made, step))

    def _finish(self, utterance: Utterance) -> None:
        cancelled = self._inside.leave(utterance)
        if cancelled is not None:
            utterance.refusal = cancelled
        if utterance.refusal is not None:
            utterance.audio = b""
        utterance.done_at = time.monotonic()
        self.completed += 1
        call("done", partial(self._done, utterance))


def _come_to(utterance: Utterance) -> tuple[int, bool]:
    """How far its audio has come: parts in it, and whether somebody hears it."""
    return utterance.joined, utterance.listening.began_at > 0
