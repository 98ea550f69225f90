"""How many jobs a second end while all rows are taken: what those who wait can reckon with."""

from collections import deque

_FULL_SECONDS = 60.0
"""Of full rows that are looked back on, however long ago they were."""

_UTTERANCES = 200
"""The last ones whose length is averaged."""


class Capacity:
    """Tokens drawn in a second while all rows are taken, over the tokens of a mean utterance.

    Time in which rows stand empty does not count: it says nothing about what a queue has to wait for. Nor do
    utterances have to end before a burst can be judged, once any have been spoken.
    """

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_UTTERANCES)
        self._last: tuple[float, int] | None = None
        self._full: deque[tuple[float, int]] = deque()
        self._seconds, self._tokens = 0.0, 0

    def ended(self, tokens: int) -> None:
        """An utterance of so many tokens has ended; called by another thread than the other methods."""
        self._lengths.append(tokens)

    def look(self, now: float, drawn: int, *, full: bool) -> None:
        """Take the present state.

        Args:
            now: Seconds, of a clock that does not jump.
            drawn: Tokens that were drawn so far.
            full: Whether all rows are taken.
        """
        if full and self._last is not None and drawn >= self._last[1]:
            self._add(now - self._last[0], drawn - self._last[1])
        self._last = (now, drawn) if full else None

    def jobs_per_second(self) -> float | None:
        """None while it is not known."""
        lengths = list(self._lengths)
        if not lengths or not self._tokens:
            return None
        return self._tokens / self._seconds / (sum(lengths) / len(lengths))

    def _add(self, seconds: float, tokens: int) -> None:
        self._full.append((seconds, tokens))
        self._seconds, self._tokens = self._seconds + seconds, self._tokens + tokens
        while self._seconds - self._full[0][0] >= _FULL_SECONDS:
            before, fewer = self._full.popleft()
            self._seconds, self._tokens = self._seconds - before, self._tokens - fewer
