"""What is inside the stages, and what of it is cancelled."""

import threading

from rwkv_tts.refusal import Refusal
from worker.speech.utterance import Utterance

BACKGROUND_SHARE = 3
"""While others are inside, one part in so many of a stage's time goes to further parts of long texts for files."""


class Inside:
    """The utterances that have entered and have not left; written under ``lock``, read without it.

    Attributes:
        lock: Held to change what is inside, and to hand over what a cancel must not miss; never in a step.
        listeners: How many of the utterances are streams.
        awaited: How many are not made in the background.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._utterances: dict[Utterance, Refusal | None] = {}
        self.listeners = self.awaited = 0

    def __len__(self) -> int:
        return len(self._utterances)

    def enter(self, utterance: Utterance) -> None:
        """Take an utterance in; for the holder of the lock."""
        self._utterances[utterance] = None
        self.listeners += utterance.request.stream
        self.awaited += not utterance.background

    def cancel(self, key: str, refusal: Refusal) -> Utterance | None:
        """Mark the utterance of an id as cancelled, unless it is already; for the holder of the lock."""
        for utterance, earlier in self._utterances.items():
            if utterance.id == key and earlier is None:
                self._utterances[utterance] = refusal
                return utterance
        return None

    def cancelled(self, utterance: Utterance) -> Refusal | None:
        """Why an utterance is cancelled, or None."""
        return self._utterances[utterance]

    def leave(self, utterance: Utterance) -> Refusal | None:
        """Let an utterance go, and tell why it was cancelled, or None; a later cancel is too late."""
        with self.lock:
            self.listeners -= utterance.request.stream
            self.awaited -= not utterance.background
            return self._utterances.pop(utterance)
