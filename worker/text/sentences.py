"""Where sentences end: sentencex, which knows the abbreviations, and what it misses in mixed text."""

import re
from collections.abc import Iterator

from sentencex import get_sentence_boundaries

_WINDOW = 1000
"""Characters to look at at once; on nested quotation marks sentencex takes the square of them."""

_MARK = re.compile(r"[.!?。！？…．｡﹖﹗‼‽⁇⁈⁉؟۔।॥]")
_STRANGE = re.compile(r"[\u3400-\u9fff](?=[A-Za-z])|[^\S\n]")
"""What sentencex gets a blank for: Chinese before a Latin word, which it takes to be one word with it, and white
space, of which it takes kinds of several bytes for one byte and then panics, which nobody can catch."""

QUOTES = re.compile(r"[\"“”„«»「」『』()（）\[\]]")
_STRANGE_OR_QUOTES = re.compile(f"{_STRANGE.pattern}|{QUOTES.pattern}")

_NUMBER_OF_ITEM = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z])[.)]\s*")
_ASIDE = re.compile(r"\([^()]{1,400}[.!?]\)\s+(?=[A-Z\"“])|（[^（）]{1,400}[。！？]）")
"""A sentence in brackets; sentencex goes on to the end of the next."""

_NUMBERED = re.compile(r"\b(?:[Ff]ig|[Vv]ol|[Cc]h|[Ss]ec|pp?|N[or]|[Aa]pprox|ca)\.\s+$")
_LONGEST_NUMBERED = 12
_SAID = re.compile(r"[^\s。！？；，、”」]{0,8}[说說道问問喊叫答想]")
_CLOSED = re.compile(r"[”」』\"]")


def sentence_ends(text: str, start: int, end: int, *, quotes: bool = True) -> Iterator[int]:
    """Ends of the sentences in ``text[start:end]``, the last one's too, after the white space that follows.

    Args:
        quotes: Whether sentences in quotation marks or brackets are parts of the sentence around them.
    """
    begin = start
    for stop in _boundaries(text, start, end, _STRANGE if quotes else _STRANGE_OR_QUOTES):
        if stop == end or not _goes_on(text, begin, stop):
            aside = _ASIDE.match(text, begin, stop)
            if aside and aside.end() < stop:
                yield aside.end()
            yield stop
            begin = stop


def _boundaries(text: str, start: int, end: int, hidden: re.Pattern[str]) -> Iterator[int]:
    """What sentencex finds, window by window; the last sentence of a window is looked at again."""
    while start < end:
        window = hidden.sub(" ", text[start : min(start + _WINDOW, end)])
        found = get_sentence_boundaries("en", window) if _MARK.search(window) else ()
        ends = [start + boundary["end_index"] for boundary in found] or [start + len(window)]
        if start + len(window) == end:
            yield from ends
            return
        yield from ends[:-1]
        start = ends[-2] if len(ends) > 1 else start + (window.rfind(" ") + 1 or len(window))


def _goes_on(text: str, start: int, stop: int) -> bool:
    """Whether a sentence goes on where sentencex sees its end."""
    if text[stop - 1] == "." and text[stop].isalnum():  # "U.S.", "3.5"; after Chinese it is an end
        return text[stop - 2 : stop - 1].isascii()
    if _NUMBER_OF_ITEM.fullmatch(text, start, stop):
        return True
    if text[stop].isdigit() and _NUMBERED.search(text, max(start, stop - _LONGEST_NUMBERED), stop):
        return True
    return _CLOSED.match(text, stop - 1) is not None and _SAID.match(text, stop) is not None
