"""What the rules of every kind are made of.

A rule has a pattern and its words, which are padded with blanks; the end tidies up. Every repetition in a pattern
is bounded or anchored, so that the time stays linear in the text.
"""

import re
from collections.abc import Iterable

from worker.text.rules import Match

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
