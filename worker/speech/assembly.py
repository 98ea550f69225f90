"""An utterance's audio as it grows: its parts joined in order, brought to one loudness, and encoded."""

import numpy as np

from sampler.decoding import FinishReason
from worker.delivery.encoding import AudioEncoder, complete
from worker.delivery.joining import Joiner, faded_out
from worker.delivery.loudness import loudness, matched
from worker.speech.tally import Tally
from worker.speech.utterance import Account, Part, Utterance, Wave


class Assembly:
    """Takes the parts of one utterance in any order.

    Args:
        utterance: Whose parts they are.
        sample_rate: Of the waves, Hz.

    Attributes:
        enough: Whether the audio is as long as the request allows.
    """

    def __init__(self, utterance: Utterance, sample_rate: int) -> None:
        self._utterance, self._rate = utterance, sample_rate
        self._joiner = Joiner(sample_rate)
        self._encoder = AudioEncoder(sample_rate, utterance.request.format)
        self._content = bytearray()
        self._waiting: dict[int, Part] = {}
        self._arrived = 0
        self._expected: int | None = None
        self._loudness = 0.0
        self._samples = 0
        most = utterance.request.max_seconds
        self._most = None if most is None else round(most * sample_rate)
        self._tally = Tally()
        self.enough = False

    @property
    def over(self) -> bool:
        """Whether all parts have come."""
        return self._arrived == self._expected

    def add(self, part: Part) -> None:
        """A part has come, with a wave or without one."""
        self._arrived += 1
        self._waiting[part.number] = part

    def close(self, parts: int) -> None:
        """There are so many parts."""
        self._expected = parts

    def advance(self) -> None:
        """Put into the audio what has its turn."""
        while (part := self._waiting.pop(self._utterance.joined, None)) is not None:
            if not self.enough:
                self._join(part)
            self._utterance.joined += 1
            if part.number:
                part.forget()

    def file(self) -> bytes:
        """The whole file, once all parts have come."""
        if self._utterance.ending and not self.enough:
            self._take(self._joiner.feed(np.zeros(round(self._utterance.ending * self._rate), np.float32)))
        self._take(self._joiner.finish())
        self._content += self._encoder.close()
        return complete(self._content, self._encoder)

    def account(self) -> Account:
        """What is told of the audio."""
        return self._tally.account(self._samples / self._rate, cut=self.enough)

    def _join(self, part: Part) -> None:
        first = part.number == 0
        self._joiner.begin(part.pause if part.pause or not first else None)
        self._take(self._joiner.feed(self._leveled(part)))
        if part.row.finished is not FinishReason.EOS:
            self._joiner.cut()
        begin = self._joiner.ended_at if self._joiner.begun_at is None else self._joiner.begun_at
        self._tally.add(part, begin / self._rate, self._joiner.ended_at / self._rate)

    def _leveled(self, part: Part) -> Wave:
        """A part's wave as loud as the first."""
        wave = np.zeros(0, np.float32) if part.wave is None else part.wave
        if self._loudness:
            return matched(wave, self._rate, self._loudness)
        self._loudness = loudness(wave, self._rate) if len(wave) else 0.0
        return wave

    def _take(self, wave: Wave) -> None:
        """Encode samples, as many as the request allows; the last of them fade where there would be more."""
        if self._most is not None and self._samples + len(wave) > self._most:
            wave = faded_out(wave[: self._most - self._samples], self._rate)
            self.enough = True
        if len(wave):
            self._samples += len(wave)
            self._content += self._encoder.encode(wave)
