"""What the rules of every kind are made of.

A rule has a pattern and its words, which are padded with blanks; the end tidies up. Every repetition in a pattern
is bounded or anchored, so that the time stays linear in the text.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Match = re.Match[str]
Words = str | Callable[[Match], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, its words, and groups of signs or words; a text that has none of a group has nothing to match."""

    pattern: re.Pattern[str]
    words: Words
    needs: tuple[frozenset[str], ...]


Row = tuple[str, Words] | tuple[str, Words, str] | tuple[str, Words, str, Iterable[str]]


def rules(table: Iterable[Row]) -> tuple[Rule, ...]:
    """The rules of a table, in its order.

    Args:
        table: Patterns, their words, and what they need: groups of signs apart by blanks, "0" for digits, and a
            group of words.
    """
    return tuple(_rule(*row) for row in table)


def _rule(pattern: str, words: Words, signs: str = "", named: Iterable[str] = ()) -> Rule:
    group = frozenset(_LETTERS.match(word.lower())[0] for word in named)  # type: ignore[index]
    return Rule(re.compile(pattern), words, (*map(frozenset, signs.split()), *([group] if group else ())))


_LETTERS = re.compile("[a-z]+")


def apply(table: Iterable[Rule], text: str) -> str:
    """A text with every rule applied in turn. No rule needs a sign, a digit or a word that another one writes."""
    found = {"0" if char.isdigit() else char for char in set(text)}
    found.update(_LETTERS.findall(text.lower()))
    for rule in table:
        if not any(map(found.isdisjoint, rule.needs)):
            text = rule.pattern.sub(rule.words, text)
    return text


NUMBER = r"(?:(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|\d{1,15})(?:\.\d{1,15})?|(?<!\.)\.\d{1,15})"
START = r"(?=[\d.])(?<![\w.,])"
"""Where a number begins."""

BEGIN, END = "(?<![A-Za-z])", "(?![A-Za-z])"
"""Edges of a word that may touch digits."""

SIGNS = "[$£€¥₹₩₽₺₫₱₪₦฿₴]"


def alternatives(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def before(match: Match, most: int = 40) -> str:
    """What stands before a match, up to so many characters."""
    return match.string[max(match.start() - most, 0) : match.start()]


def after(match: Match, most: int = 40) -> str:
    """What stands after a match, up to so many characters."""
    return match.string[match.end() : match.end() + most]


_END_OF_TEXT = re.compile(r"\s*+\Z")
_CAPITAL_FOLLOWS = re.compile(
    r"\s+(?!(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:s|nes|rs|ur)?(?:day)?\b)(?:[A-Z][a-z']|[AI]\b)"
)


def last_stop(match: Match) -> str:
    """The full stop of an abbreviation that ends the text."""
    return ". " if match[0].endswith(".") and _END_OF_TEXT.match(match.string, match.end()) else " "


def stop(match: Match) -> str:
    """The full stop of an abbreviation that ends the text, or that a capital follows."""
    if match[0].endswith(".") and _CAPITAL_FOLLOWS.match(match.string, match.end(), match.end() + 9):
        return ". "
    return last_stop(match)
