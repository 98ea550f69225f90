"""Where sentences end in a text that still grows, in English and Chinese.

A text is cut at the same places however it comes. In doubt it is not cut: two sentences are then spoken as one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LONGEST = 500
"""Characters without an end, after which a text is cut between clauses, or else words."""

_WIDE = "。！？．｡﹖﹗‼‽⁇⁈⁉؟۔।॥"
_END = re.compile(
    rf"(?P<marks>[.!?…{_WIDE}]++)(?P<closed>[\"'”’」』》）)\]]*+)(?P<space>\s*+)(?P<next>\S)|(?P<blank>\n\s*\n\s*+)\S"
)
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_GOES_ON = re.compile(r"[a-z,，、;；:：)）\-–—]")
_ABBREVIATION = re.compile(
    r"(?:^|[^\w.])(?:[A-HJ-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mrs?|Ms|Mx|Drs?|Prof|St|Sr|Jr|Rev|Hon|Gen|Col|Capt|Cmdr|Lt|Sgt|"
    r"Maj|Gov|Sen|Rep|Pres|Mt|Ft|Ave|Blvd|Rd|vs|etc|cf|al|approx|ca|dept|est|Inc|Ltd|Co|Corp|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)$"
)
_BEFORE_NUMBER = re.compile(r"(?:^|\W)(?:No|Nr|Fig|Vol|Ch|Sec|Art|Eq|pp?|fig|vol|ch|sec|no)$")
_ITEM = re.compile(r"\W*(?:\d{1,3}|[a-zA-Z])$")
_CLAUSE = re.compile(r"[,;:，；：、][\"'”’」』]*+\s*+|\s[–—-]\s")
_SPOKEN = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text.

    Attributes:
        text: Without white space around it.
        start, end: Its span in the whole text, in characters.
        paragraph: Whether a paragraph begins with it.
    """

    text: str
    start: int
    end: int
    paragraph: bool = False


class Sentences:
    """Takes a text piece by piece, and gives the sentences that are complete."""

    def __init__(self) -> None:
        self._text, self._offset = "", 0
        self._paragraph = False

    def add(self, text: str) -> Iterator[Sentence]:
        """The sentences that are known to have ended, now that the text goes on with ``text``."""
        self._text += text
        begin = 0
        while (end := self._end(begin)) is not None:
            stop, following, paragraph = end
            yield from self._piece(begin, stop)
            self._paragraph |= paragraph
            begin = following
        self._drop(begin)

    def rest(self) -> Iterator[Sentence]:
        """The last sentence, if the text ends here; another may follow."""
        yield from self._piece(0, len(self._text))
        self._drop(len(self._text))

    def _drop(self, count: int) -> None:
        self._text, self._offset = self._text[count:], self._offset + count

    def _piece(self, begin: int, stop: int) -> Iterator[Sentence]:
        """A piece of the text without the space around it, if there is something to speak."""
        piece = self._text[begin:stop]
        if _SPOKEN.search(piece):
            start = self._offset + begin + len(piece) - len(piece.lstrip())
            text, paragraph, self._paragraph = piece.strip(), self._paragraph, False
            yield Sentence(text, start, start + len(text), paragraph)

    def _end(self, begin: int) -> tuple[int, int, bool] | None:
        """Where the sentence ends, where the next begins, and whether that begins a paragraph; None if unknown."""
        for found in _END.finditer(self._text, begin, begin + _LONGEST):
            if found["blank"] is not None:
                return found.start(), found.end() - 1, True
            if not _goes_on(self._text[begin : found.start()], found):
                return found.end("closed"), found.start("next"), found["space"].count("\n") > 1
        if len(self._text) - begin < _LONGEST:
            return None
        cut = _cut(self._text[begin : begin + _LONGEST]) + begin
        return cut, cut, False


def _goes_on(before: str, end: re.Match[str]) -> bool:
    """Whether a sentence goes on after a mark that could end it."""
    marks, space, following = end["marks"], end["space"], end["next"]
    if "\n" in space:
        return False
    if set(marks) & set(_WIDE):
        return following in ",，、;；:："
    if not space:
        return not end["closed"] and (set(marks) == {"…"} or not _CHINESE.match(following))
    if _GOES_ON.match(following):
        return True
    return marks == "." and not end["closed"] and _is_abbreviated(before, following)


def _is_abbreviated(before: str, following: str) -> bool:
    """Whether a full stop is one of an abbreviation, or of the number of an item."""
    tail = before[-20:]
    return (
        _ABBREVIATION.search(tail) is not None
        or (following.isdigit() and _BEFORE_NUMBER.search(tail) is not None)
        or _ITEM.fullmatch(before) is not None
    )


def _cut(text: str) -> int:
    """Where to cut what has no end: after the last clause of its second half, else the last word."""
    half = len(text) // 2
    ends = [clause.end() for clause in _CLAUSE.finditer(text, half)]
    return ends[-1] if ends else max(text.rfind(" ") + 1, text.rfind("\n") + 1) or len(text)
