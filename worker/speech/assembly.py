"""An utterance's audio as it grows: its parts joined in order, brought to one loudness, and encoded."""

import io
from collections.abc import Callable

import numpy as np

from sampler.decoding import FinishReason
from worker.delivery.encoding import AudioEncoder, Wave, complete
from worker.delivery.joining import Joiner, faded_out
from worker.delivery.loudness import loudness, matched
from worker.speech.notes import Notes
from worker.speech.tally import Tally
from worker.speech.utterance import Account, Closed, Heard, Part, Piece, Step, Utterance

_MOST_BYTES = 500 << 20
"""Of a file: a value of Redis has 512 MiB at most."""


class TooLargeError(ValueError):
    """Audio that no result can hold; one line."""


class Assembly:
    """Takes the parts of one utterance in any order.

    Args:
        utterance: Whose parts they are.
        sample_rate: Of the waves, Hz.
        between: Called after every second of audio, so that others need not wait for a whole part.

    Attributes:
        enough: Whether the audio is as long as the request allows.
    """

    def __init__(self, utterance: Utterance, sample_rate: int, between: Callable[[], None] = lambda: None) -> None:
        self._utterance, self._rate, self._between = utterance, sample_rate, between
        self._joiner = Joiner(sample_rate)
        self._encoder = AudioEncoder(sample_rate, utterance.request.format, utterance.request.sample_rate)
        self._content = io.BytesIO()
        self._waiting: dict[int, Part] = {}
        self._arrived = 0
        self._expected: int | None = None
        self._loudness = 0.0
        self._first: list[Wave] = []  # what was heard of the first part
        self._present: Part | None = None
        self._joined: list[Part] = []
        self._samples = 0
        self._skip = utterance.kept.audio if utterance.kept else 0
        self._notes = Notes(utterance)
        most = utterance.request.max_seconds
        self._most = None if most is None else max(1, round(most * sample_rate))
        self._tally = Tally()
        self.enough = False

    @property
    def over(self) -> bool:
        """Whether all parts have come."""
        return self._arrived == self._expected

    def count(self, item: Piece | Heard | Closed) -> None:
        """Something has come: a part, word of how many there are, or samples ahead of their part."""
        if isinstance(item, Closed):
            self._expected = item.parts
        elif isinstance(item, Piece):
            self._arrived += 1

    def take(self, item: Piece | Heard | Closed) -> None:
        """Put what has come into the audio, and what has its turn with it."""
        if isinstance(item, Heard):
            self._begin(item.part)
            if self._utterance.reading is not None:
                self._first.append(item.wave)
            self._take(self._joiner.feed(item.wave))
        elif isinstance(item, Piece):
            self._waiting[item.part.number] = item.part
            self._advance()
        if self.over:
            self._finish()

    def step(self, item: Piece | Heard | Closed) -> Step | None:
        """What is to be told now that ``item`` has been put into the audio; None where there is nothing new.

        The bytes of a file that nobody listens to stay here; of a lone part of one there is nothing to tell.
        """
        utterance = self._utterance
        audio = self._heard() if utterance.request.stream else b""
        if not utterance.request.stream and utterance.reading is None:
            return None
        if isinstance(item, Closed):
            entry = self._notes.entry(utterance.parts[0], 0, len(audio))
        else:
            tokens = item.tokens if isinstance(item, Heard) else len(item.part.row.decoding.semantic)
            entry = self._notes.entry(item.part, tokens, len(audio))
        if entry is None:
            return None
        if audio:
            utterance.listening.deliver(self.seconds)
        return Step(utterance, audio, self._encoder.changes, entry, self.seconds)

    def forget(self) -> None:
        """Let go of the parts that are in the audio; of the first, the voice may be wanted."""
        for part in self._joined:
            if part.number:
                part.forget()
        self._joined.clear()

    def _heard(self) -> bytes:
        """The bytes that are ready, once, but for those that an earlier worker has let be heard."""
        content = self._content.getvalue()
        self._content = io.BytesIO()
        skipped = min(self._skip, len(content))
        self._skip -= skipped
        return content[skipped:]

    def _finish(self) -> None:
        """What is left becomes bytes."""
        if self._utterance.ending and not self.enough:
            self._take(self._joiner.feed(np.zeros(round(self._utterance.ending * self._rate), np.float32)))
        self._take(self._joiner.finish())
        self._content.write(self._encoder.close())

    def file(self) -> bytes:
        """The whole file, where no bytes were taken from it."""
        return complete(self._content, self._encoder)

    @property
    def seconds(self) -> float:
        """Length of the audio so far."""
        return self._samples / self._rate

    def account(self) -> Account:
        """What is told of the audio."""
        return self._tally.account(self.seconds, cut=self.enough)

    def _advance(self) -> None:
        while (part := self._waiting.pop(self._utterance.joined, None)) is not None:
            if not self.enough or part is self._present:  # also one that was heard as far as is allowed
                self._join(part)
            self._utterance.joined += 1
            self._joined.append(part)

    def _join(self, part: Part) -> None:
        self._begin(part)
        self._take(self._joiner.feed(self._leveled(part)))
        if part.row.finished is not FinishReason.EOS:
            self._joiner.cut()
        begin = self._joiner.ended_at if self._joiner.begun_at is None else self._joiner.begun_at
        self._tally.add(part, self._second(begin), self._second(self._joiner.ended_at))

    def _second(self, sample: int) -> float:
        """When a sample is heard, or the end where the request allows no more."""
        return (sample if self._most is None else min(sample, self._most)) / self._rate

    def _begin(self, part: Part) -> None:
        if part is not self._present:
            self._present = part
            self._joiner.begin(part.pause if part.pause or part.number else None)

    def _leveled(self, part: Part) -> Wave:
        """A part's wave as loud as the first."""
        wave = np.zeros(0, np.float32) if part.wave is None else part.wave
        if self._loudness:
            return matched(wave, self._rate, self._loudness)
        if self._utterance.reading is not None or len(self._utterance.parts) > 1:  # there will be others
            whole = np.concatenate((*self._first, wave))
            self._loudness = loudness(whole, self._rate) if len(whole) else 0.0
        self._first.clear()
        return wave

    def _take(self, wave: Wave) -> None:
        """Encode samples, as many as the request allows; the last of them fade where there would be more."""
        if self._most is not None and self._samples + len(wave) > self._most:
            wave = faded_out(wave[: self._most - self._samples], self._rate)
            self.enough = True
        for begin in range(0, len(wave), self._rate):
            piece = wave[begin : begin + self._rate]
            self._samples += len(piece)
            self._content.write(self._encoder.encode(piece))
            if self._content.tell() > _MOST_BYTES:
                kind = self._utterance.request.format
                raise TooLargeError(
                    f"its audio is more than {_MOST_BYTES >> 20} MiB of {kind}; accepted: a shorter text, opus or "
                    "mp3, or stream"
                )
            self._between()
