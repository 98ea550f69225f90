"""Puts the parts of an utterance together: the pause that belongs between two, and no click."""

import numpy as np

from worker.delivery.encoding import Wave

SILENT = 0.004
"""Samples up to so much of full scale count as silence (-48 dB): two edges of it differ by less than 0.01."""

FADE_SECONDS = 0.005
"""How long speech that is cut off takes to fade."""

_LOOK = 4096
"""Samples that are looked at together for the last loud one."""

_LEAST_GAP_SECONDS = 0.02
"""Silence between two parts at least, where nothing stands between them."""


class Joiner:
    """Takes parts piece by piece and gives their audio as soon as it is settled.

    The silence that parts carry at their ends is counted in, and cut where it is longer than the pause. What the
    first part begins with and the last one ends with stays as it is.

    Args:
        sample_rate: Hz.

    Attributes:
        position: Samples that were given so far.
        begun_at: Where the speech of the present part begins, in samples; None before its first.
        ended_at: Where it ends, as far as is known.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._fade = round(FADE_SECONDS * sample_rate)
        self._tail = np.zeros(0, np.float32)  # not settled: silence, or what may have to fade
        self._gap: int | None = None  # samples of silence before the part's first speech; None: as it comes
        self._seam = 0  # how much of the tail is of the part before
        self._rising = 0  # samples that still belong to a soft beginning
        self.position = 0
        self.begun_at: int | None = None
        self.ended_at = 0

    def begin(self, pause: float | None) -> None:
        """The next pieces belong to a new part, ``pause`` seconds after the one before; None for the first."""
        self.begun_at = None
        if pause is None:
            self._gap = None
            return
        self._gap, self._seam = round(max(pause, _LEAST_GAP_SECONDS) * self._rate), len(self._tail)
        if len(self._tail) and abs(self._tail[-1]) > SILENT:
            self._tail = faded_out(self._tail, self._rate)

    def feed(self, wave: Wave) -> Wave:
        """Take a piece, float32 [n]; return what is settled, float32 [m]."""
        if not len(wave):
            return wave
        if self._gap is None:
            return self._settle(np.concatenate((self._tail, self._faded_in(wave))))
        loud = np.flatnonzero(np.abs(wave) > SILENT)
        if not len(loud):  # it may all be part of the gap
            self._tail = np.concatenate((self._tail, wave))
            return wave[:0]
        before = self._bridge(wave[: loud[0]])
        self._gap = None
        self.begun_at = self.position + len(before)
        if len(before) and abs(wave[loud[0]]) > 2 * SILENT:  # it begins at once
            self._rising = self._fade
        return self._settle(np.concatenate((before, self._faded_in(wave[loud[0] :]))))

    def cut(self) -> None:
        """The part did not end by itself: what comes last of it fades."""
        self._tail = faded_out(self._tail, self._rate)

    def finish(self) -> Wave:
        """There are no more parts; return the rest."""
        rest, self._tail = self._tail, self._tail[:0]
        self.position += len(rest)
        return rest

    def _bridge(self, lead: Wave) -> Wave:
        """What was held of the part before, and the silence up to the new one's first speech."""
        assert self._gap is not None
        lead = np.concatenate((self._tail[self._seam :], lead))
        before = self._tail[: self._seam]
        end = _last_loud(before)
        spoken, silence = before[:end], before[end:]
        missing = self._gap - len(silence) - len(lead)
        if missing < 0:
            silence = silence[: self._gap - min(len(lead), self._gap // 2)]
            lead = lead[len(lead) - (self._gap - len(silence)) :]
        return np.concatenate((spoken, silence, np.zeros(max(0, missing), np.float32), lead))

    def _faded_in(self, speech: Wave) -> Wave:
        """Samples of which those come softly that still have to."""
        count = min(self._rising, len(speech))
        if not count:
            return speech
        done = self._fade - self._rising
        self._rising -= count
        ramp = np.linspace(0, 1, self._fade, dtype=np.float32)[done : done + count]
        return np.concatenate((speech[:count] * ramp, speech[count:]))

    def _settle(self, wave: Wave) -> Wave:
        """Give all but the silence at the end, and at least the samples that a fade needs are held."""
        end = _last_loud(wave)
        if end:
            if self.begun_at is None:
                self.begun_at = self.position + int(np.argmax(np.abs(wave) > SILENT))
            self.ended_at = self.position + end
        end = max(0, min(end, len(wave) - self._fade))
        self._tail = wave[end:]
        self.position += end
        return wave[:end]


def _last_loud(wave: Wave) -> int:
    """One more than the index of the last sample that is no silence; 0 without one."""
    for begin in range(len(wave), 0, -_LOOK):
        loud = np.flatnonzero(np.abs(wave[max(0, begin - _LOOK) : begin]) > SILENT)
        if len(loud):
            return max(0, begin - _LOOK) + int(loud[-1]) + 1
    return 0


def faded_out(wave: Wave, sample_rate: int) -> Wave:
    """Samples float32 [n] whose last 5 ms go down to silence."""
    count = min(round(FADE_SECONDS * sample_rate), len(wave))
    if not count:
        return wave
    return np.concatenate((wave[:-count], wave[-count:] * np.linspace(1, 0, count, dtype=np.float32)))
