"""Text that was changed in places, and where each of its characters stood before."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

Edit = tuple[int, int, str]
"""Start and end of what goes, and what stands there instead."""

Place = tuple[int, int, int, int]
"""Start and end of an edit in the text after it, and in the text before it."""


@dataclass(frozen=True)
class _Edits:
    places: tuple[Place, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [place[0] for place in self.places]

    def start(self, at: int) -> int:
        """Where what begins at ``at`` began; what an edit wrote began where that was."""
        found = bisect_right(self._starts, at) - 1
        if found < 0:
            return at
        _, stop, before, until = self.places[found]
        return before if at < stop else until + at - stop

    def end(self, at: int) -> int:
        """Where what ends at ``at`` ended."""
        found = bisect_left(self._starts, at) - 1
        if found < 0:
            return at
        _, stop, _, until = self.places[found]
        return until + max(at - stop, 0)


@dataclass(frozen=True)
class Edited:
    """A text and the rounds of edits that made it.

    Attributes:
        text: As it is now.
        rounds: The edits, the first round first.
    """

    text: str
    rounds: tuple[_Edits, ...] = ()

    def edited(self, edits: Iterable[Edit]) -> "Edited":
        """The text with one more round of edits, in order and apart from each other."""
        pieces, places = [], []
        last = length = 0
        for start, end, written in edits:
            pieces += [self.text[last:start], written]
            length += start - last
            places.append((length, length + len(written), start, end))
            length += len(written)
            last = end
        if not places:
            return self
        return Edited("".join([*pieces, self.text[last:]]), (*self.rounds, _Edits(tuple(places))))

    def sub(self, pattern: re.Pattern[str], written: str | Callable[[re.Match[str]], str | None]) -> "Edited":
        """The text with every match replaced; a match for which there is None stays."""
        return self.edited(
            (*match.span(), words)
            for match in pattern.finditer(self.text)
            if (words := written if isinstance(written, str) else written(match)) is not None
        )

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the first text from which ``text[start:end]`` comes."""
        for edits in reversed(self.rounds):
            start, end = edits.start(start), edits.end(end)
        return start, max(start, end)
