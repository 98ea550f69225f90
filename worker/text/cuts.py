"""Cutting what is too long for one part into pieces of about the same length, where it hurts least."""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from operator import attrgetter
from unicodedata import category

from worker.text.sentences import QUOTES, sentence_ends

Measure = Callable[[str], int]
Span = tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """What a part should measure, and how to measure it."""

    longest: int
    shortest: int
    measure: Measure


class Break(Enum):
    """What stands between a part and the next."""

    NONE = "none"
    """Words of one clause that was too long."""
    CLAUSE = "clause"
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"
    HEADING = "heading"
    """The part is a heading."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A span of the text, without white space around it, and what stands after it."""

    start: int
    end: int
    after: Break


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cut may be; its cost is what it is, plus how far off as a share of the length that is wanted."""

    at: int
    cost: float
    after: Break


_IN_QUOTES = 0.15
_AHEAD = 24
"""Characters after the longest piece that tell whether a sentence ends with it."""

_NUMERIC = r"[\d$£€¥₹%#]"
_HAN = "\u3041-\u9fff"
_CLOSERS = r"[\"'”’»」』)）\]]*"
_NEXT = r"(?=[\s\u2010-\u203a\u2e80-\uffef])"
_JOINING = "and|or|but|because|which|that|when|while|where|who|if|as|for|with|until|so|than|in|on|at|to|of"

_CUTS: tuple[tuple[float, Break, re.Pattern[str]], ...] = tuple(
    (cost, after, re.compile(pattern))
    for cost, after, pattern in (
        (
            0.15,
            Break.CLAUSE,
            rf"(?:[;:]|\.{{3}}){_CLOSERS}{_NEXT}|(?:[；…]+|：(?!\d)){_CLOSERS}|[—―]+|\s[-–]+(?=\s)|\n",
        ),
        (0.25, Break.CLAUSE, rf"(?:(?<!\d),|,(?!\s\d)){_CLOSERS}{_NEXT}|[，、]{_CLOSERS}|[)）](?=\s)|(?=[(（])"),
        (0.6, Break.NONE, rf"(?<!\.)(?=\s+(?:{_JOINING})\s)"),
        (0.75, Break.NONE, rf"(?<![\d$£€¥₹%#.])(?=\s+(?!{_NUMERIC}))"),
        (0.9, Break.NONE, rf"(?<=[{_HAN}])(?=[{_HAN}A-Za-z])|(?<=[A-Za-z])(?=[{_HAN}])"),
        (1.3, Break.NONE, r"(?<=\S)(?=\s)"),
        (1.6, Break.NONE, r"(?<=[/?&=_.+-])(?=\w)"),
    )
)
"""Between clauses, words, ideographs, then next to numbers and abbreviations, then inside addresses."""

_DANGLING = re.compile(r"(?:\s[\"'‘]?|[“„«「『(（\[])+$")
_MOST_DANGLING = 8
_ANYWHERE = 2.0
_COST = attrgetter("cost")
_OPENERS = frozenset("“„«「『(（[")


def cut(text: str, span: Span, limits: Limits) -> Iterator[Piece]:
    """A span in pieces that are neither too long nor too short; ``SENTENCE`` stands after the last."""
    start, end = span
    rest = limits.measure(text[start:end])
    while max(rest, end - start) > limits.longest and end - start > 1:
        place = _best(text, start, end, rest, limits)
        yield Piece(start, place.at, place.after)
        rest -= limits.measure(text[start : place.at])
        start, _ = trimmed(text, place.at, end)
        if end - start <= 2 * limits.longest:
            rest = limits.measure(text[start:end])
    yield Piece(start, end, Break.SENTENCE)


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without white space around it."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _reach(text: str, start: int, end: int, limits: Limits) -> int:
    """An index to which the text is not too long, near the last such; at least one character further."""
    reach = min(start + limits.longest, end)
    while reach > start + 1 and (length := limits.measure(text[start:reach])) > limits.longest:
        reach = start + max((reach - start) * limits.longest // length, 1)
    return reach


def _best(text: str, start: int, end: int, rest: int, limits: Limits) -> Place:
    """Where to cut off the next piece, so that those that follow can be about as long."""
    reach = _reach(text, start, end, limits)
    density = limits.measure(text[start:reach]) / (reach - start)
    high = max(min(reach, end - limits.shortest / density - 1), start + 1)
    low = min(start + max(limits.shortest / density, 1), high)
    length = rest / -(-rest // limits.longest) / density
    window = _Window(text, start, min(reach + _AHEAD, end), low, high, length)
    best = window.anywhere()
    for cost, after, stops in window.stops():
        best = window.better(best, cost, after, stops)
    return best


@dataclass(frozen=True)
class _Window:
    """The text from ``start`` to ``end``; a cut may be at ``low`` to ``high`` and had best leave ``length``."""

    text: str
    start: int
    end: int
    low: float
    high: float
    length: float

    def stops(self) -> Iterator[tuple[float, Break, Iterable[int]]]:
        """Ends of sentences, clauses, words and so on, the best first: what each costs and what it is."""
        sentences = pairwise(sentence_ends(self.text, self.start, self.end, quotes=False))
        yield 0, Break.SENTENCE, (stop for stop, _ in sentences)
        for cost, after, pattern in _CUTS:
            yield cost, after, (match.end() for match in pattern.finditer(self.text, self.start, self.end))

    def better(self, best: Place, cost: float, after: Break, stops: Iterable[int]) -> Place:
        """The best of a place and these stops, those first that are nearest to the length that is wanted."""
        if cost >= best.cost:
            return best
        for stop in sorted(stops, key=self._off):
            if cost + self._off(stop) >= best.cost:
                break
            at = self._without_opening(stop)
            if self.low <= at <= self.high:
                best = min(best, Place(at, cost + self._off(at) + self._in_quotes(at), after), key=_COST)
        return best

    def anywhere(self) -> Place:
        """A place inside a word, but not before a mark that changes the letter before it."""
        at = max(int(min(self.start + self.length, self.high)), self.start + 1)
        nearest = max(at - _MOST_DANGLING, self.start + 1)
        while at > nearest and category(self.text[at]) in ("Mn", "Mc", "Me", "Cf"):
            at -= 1
        return Place(self._without_opening(at), _ANYWHERE, Break.NONE)

    def _without_opening(self, at: int) -> int:
        """White space and opening marks belong to what follows."""
        dangling = _DANGLING.search(self.text, max(at - _MOST_DANGLING, self.start + 1), at)
        return max(trimmed(self.text, self.start, dangling.start() if dangling else at)[1], self.start + 1)

    def _off(self, at: int) -> float:
        return abs(at - self.start - self.length) / self.length

    def _in_quotes(self, at: int) -> float:
        marks, depths = self._depths
        return _IN_QUOTES if depths[bisect(marks, at - 1)] else 0.0

    @cached_property
    def _depths(self) -> tuple[list[int], list[int]]:
        """Indices of quotation marks and brackets; how many pairs are open before the first and after each."""
        marks, depths = [], [0]
        for mark in QUOTES.finditer(self.text, self.start, self.end):
            opens = mark[0] in _OPENERS or (mark[0] == '"' and depths[-1] == 0)
            marks.append(mark.start())
            depths.append(depths[-1] + 1 if opens else max(depths[-1] - 1, 0))
        return marks, depths
