"""English text as an American reads it aloud: words of plain letters and ``. , ? ! ' - ; :``, nothing else.

Each module knows one kind of writing and has tables of rules; their order is here. The text has no markup.
"""

import re

from worker.text.english import (
    abbreviations,
    addresses,
    capitals,
    dates,
    money,
    numbers,
    romans,
    signs,
    units,
)
from worker.text.english.letters import fold
from worker.text.rules import Match, Rule, apply, rules
from worker.text.spoken import Spoken, UnreadableError


def read_aloud(text: str) -> Spoken:
    """The words of a text without markup.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    folded = fold(_PARAGRAPH.sub(". ", text))
    spoken = apply(RULES, _BLANKS.sub(" ", folded.text))
    spoken = _tidy(capitals.lower_capitals(_tidy(spoken)))
    if not _LETTER.search(spoken):
        raise UnreadableError("nothing to speak")
    return Spoken(spoken, folded.dropped, folded.transliterated)


_BLANKS = re.compile(r"\s+")
_LETTER = re.compile("[A-Za-z]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_MARKS_RUN = re.compile(r"[ .,;:?!]*[.,;:?!][ .,;:?!]*")


def _tidy(text: str) -> str:
    """One blank between words, one mark where several meet, hyphens and apostrophes only inside words."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?<=[A-Za-z]) ?(['-]) ?(?=[A-Za-z])", r"\1", text)
    text = re.sub(r"(?<![A-Za-z])['-]|['-](?![A-Za-z])", " ", text)
    text = _MARKS_RUN.sub(_strongest, re.sub(" +", " ", text))
    return text.strip(" ,;:").lstrip(" .,;:?!")


def _strongest(match: Match) -> str:
    marks = match[0].replace(" ", "")
    return next((mark for mark in "?!." if mark in marks), marks[0]) + " "


_BRACKETS = rules(
    (
        (r"[()\[\]{}]", ", "),
        (r"(?<![A-Za-z0-9.])'+|'+(?![A-Za-z])|[\"″′]", " ", "'\"″′"),
    )
)
RULES: tuple[Rule, ...] = (
    *addresses.RULES,
    *numbers.EARLY,
    *dates.EARLY,
    *units.EARLY,
    *signs.EARLY,
    *numbers.GROUPS,
    *capitals.JOINED,
    *abbreviations.EARLY,
    *dates.RULES,
    *romans.RULES,
    *signs.COMPARISONS,
    *_BRACKETS,
    *units.STOPPED,
    *abbreviations.RULES,
    *money.RULES,
    *dates.YEARS,
    *signs.SERIALS,
    *numbers.VERSIONS,
    *signs.RANGES,
    *signs.QUANTITIES,
    *units.RULES,
    *dates.BARE,
    *signs.NUMBERED,
    *numbers.RULES,
    *signs.LATE,
)
"""In the order in which they are applied."""
