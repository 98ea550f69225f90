"""Roman numerals: of rulers, chapters, events and centuries, not the pronoun I, initials or sizes."""

import re
from collections.abc import Mapping

from worker.text.english.numerals import cardinal, ordinal, year
from worker.text.english.patterns import after, before
from worker.text.rules import Match, rules

_VALUES: Mapping[str, int] = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
_ROMAN = re.compile(r"(?=.)M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_COUNTED_NAMES = """
    amendment annex apollo appendix article act book canto category chapter class corps division episode
    exhibit fantasy figure gemini grade group lecture lesson level mark movement olympiad page panel part
    phase pp psalm quest rambo rocky round saturn scene schedule season section sonata sonnet soyuz stage
    symphony table tier titan title trek type ufc unit vatican vol volume war bowl wrestlemania
"""
_COUNTED = frozenset(_COUNTED_NAMES.split())
"""What is counted in Roman numerals."""

_OF_TEXTS = frozenset(
    [
        "chapter",
        "part",
        "act",
        "scene",
        "volume",
        "vol",
        "book",
        "article",
        "section",
        "canto",
        "psalm",
        "episode",
        "bowl",
    ]
)
_RULER_NAMES = """
    Abdul Adrian Albert Alexander Alfonso Amenhotep Baldwin Benedict Boniface Carl Carlos Casimir Catherine
    Charles Christian Clement Cleopatra Constantine Darius David Edward Elizabeth Emmanuel Eugene Felipe
    Ferdinand Francis Franz Frederick Friedrich George Gregory Gustav Haakon Harald Hassan Henry Innocent
    Isabella Ivan James John Joseph Juan Julius Justinian Leo Leopold Louis Malcolm Margaret Margrethe Mary
    Maximilian Mehmed Mohammed Murad Napoleon Nicholas Olav Otto Paul Pedro Peter Philip Philippe Pius Ptolemy
    Rama Ramesses Ramses Richard Robert Rudolf Selim Seti Sigismund Sixtus Stephen Suleiman Theodosius
    Thutmose Umberto Urban Victor Wilhelm William Xerxes
"""
_RULERS = frozenset(_RULER_NAMES.split())
_CROWNS = "king queen pope emperor empress tsar czar kaiser prince princess sultan shah pharaoh saint"
_CROWNED = re.compile(rf"(?i:\b(?:{_CROWNS.replace(' ', '|')})) (?:[A-Z][a-z]{{1,15}} )?[A-Z][a-z]{{1,15}}$")
_FULL_NAME = re.compile(
    r"\b(?!(?:Final|Grand|Star|Super|World|Mortal|Street|Dragon|The)\b)[A-Z][a-z]{2,15} [A-Z][a-z]{2,15}$"
)
_NOT_NAMES = frozenset(
    [
        "The",
        "An",
        "A",
        "This",
        "That",
        "Size",
        "Sizes",
        "I",
        "Or",
        "And",
        "Vitamin",
        "Generation",
        "Gen",
        "Model",
        "Plan",
    ]
)
_SURE = re.compile(r"[IVXL]{2,9}")
"""What is hardly anything else: neither "CD", "DC", "MC" nor "MD"."""

_RULED = re.compile(r"[.,;:!?)']|\s*$| (?:of|and|in|was|died|ruled|reigned|to|or|is|had)\b")
_FOLLOWING = re.compile(r" ([a-z']{1,16})")
_VERB_NAMES = """
    am was had have did do don't didn't think thought know knew saw see like love want need read wrote write
    took take went go got get made make said say would will could can can't couldn't should may might must
    never really just also still always slept found felt left put ate lost won bought heard told gave keep
    kept met ran sat spoke understand
"""
_VERBS = frozenset(_VERB_NAMES.split())


def value(numeral: str) -> int | None:
    """What a numeral in capitals counts; None where it is none."""
    if not _ROMAN.fullmatch(numeral):
        return None
    values = [_VALUES[letter] for letter in numeral]
    return sum(-one if one < two else one for one, two in zip(values, [*values[1:], 0], strict=True))


def _numeral(match: Match) -> str:
    """A numeral behind a word: counted, of a ruler, or as it was."""
    numeral = match[1]
    number = value(numeral.upper())
    text = before(match, 48)
    word = _LAST_WORD.search(text)
    if number is None or word is None:
        return match[0]
    noun = word[1]
    if noun.lower() in _COUNTED and (len(numeral) > 1 or _counts_alone(match, noun)):
        return f" {cardinal(str(number))}" if numeral.isupper() or "c" not in numeral else match[0]
    if not numeral.isupper():
        return match[0]
    if _is_ruler(match, noun, text) or (numeral in ("III", "IV") and _FULL_NAME.search(text)):
        return f" the {ordinal(str(number))}"
    return f" {cardinal(str(number))}" if _SURE.fullmatch(numeral) and _is_name(noun) else match[0]


_LAST_WORD = re.compile(r"([A-Za-z']{1,20})\.?$")


def _counts_alone(match: Match, noun: str) -> bool:
    """Whether a single letter is a numeral; "Part C" and "the part I slept through" have none."""
    if noun.lower() == "war":
        return before(match, 9).lower().startswith("world")
    if match[1] == "I":
        word = _FOLLOWING.match(after(match, 18))
        if word is None or word[1] in ("of", "and", "or", "to", "in", "is"):
            return True
        return noun[0].isupper() and word[1] not in _VERBS and not word[1].endswith("ed")
    return match[1] == "V" or (match[1] in "XL" and noun.lower() in _OF_TEXTS)


def _is_ruler(match: Match, noun: str, text: str) -> bool:
    """Whether it is a king, a queen, a pope: by the name, or by what stands before a name."""
    if not re.fullmatch("[IVX]{1,6}", match[1]):
        return False
    if _CROWNED.search(text):
        return True
    if noun not in _RULERS:
        return False
    return len(match[1]) > 1 or (match[1] in "IV" and noun != "Malcolm" and bool(_RULED.match(after(match, 9))))


def _is_name(noun: str) -> bool:
    return noun[0].isupper() and not noun.isupper() and noun not in _NOT_NAMES


def _century(match: Match) -> str:
    number = value(match[1])
    return f"{ordinal(str(number))} " if number else match[0]


def _in_list(match: Match) -> str:
    """The number of an item: "(iii)", or "ii." where something begins."""
    number = value(match[1].upper())
    starts = match[0][0] == "(" or before(match, 9).rstrip()[-1:] in (".", ",", ";", ":", "")
    return f" {cardinal(str(number))}, " if number and starts else match[0]


def _year(match: Match) -> str:
    number = value(match[0])
    return year(str(number)) if number and 1500 <= number < 2100 else match[0]


RULES = rules(
    (
        (r"\bWW ?(I{1,3})\b", lambda m: f"World War {cardinal(str(len(m[1])))}"),
        (r"\bWW ?([12])\b", lambda m: f"World War {cardinal(m[1])}", "0"),
        (r"\b([IVXL]{2,9})(?:th|st|nd|rd)? (?=[Cc]entur(?:y|ies)\b)", _century),
        (r" ([IVXLCDM]{1,12}|[ivxl]{2,9})(?![A-Za-z0-9]|['’-]?[A-Z]|\.[A-Za-z])", _numeral),
        (r"\bMM?[CDLXVI]{2,11}\b", _year),
        (r"(?:(?<=[.!?] )|^)([IVX]{2,5})\. (?=[A-Z])", lambda m: f"{cardinal(str(value(m[1]) or 0))}. "),
        (r"(?<![\w'])\(?(x{0,2}(?:ix|iv|v?i{0,3}))[.)](?= )", _in_list),
    )
)
