"""Letters: to ASCII and the signs that rules know; those of other scripts by their names or in Latin ones."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from anyascii import anyascii

from worker.text.english.money import LONE_SIGNS
from worker.text.english.romans import value
from worker.text.spoken import UnreadableError


@dataclass(frozen=True)
class Folded:
    """A text in ASCII and ``_KEPT``.

    Attributes:
        text: The text.
        dropped: Characters that have no words, each once.
        transliterated: Words in other letters that were written in Latin ones, each once.
    """

    text: str
    dropped: str = ""
    transliterated: tuple[str, ...] = ()


_SYMBOLS: Mapping[str, str] = {
    **dict.fromkeys("‘’‚‛ʻʼʹ`´＇", "'"),
    **dict.fromkeys("“”„‟«»‹›「」『』《》", '"'),
    **dict.fromkeys("‐‑⁃", "-"),
    **dict.fromkeys("‒–", "–"),
    **dict.fromkeys("—―⸺⸻", ", "),
    **dict.fromkeys("•·‣▪●。、", ", "),
    **dict.fromkeys("™®†‡¶¬✓✔♪♫", " "),
    **{char: f" {unicodedata.normalize('NFKC', char)}".replace("⁄", "/") for char in "½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚"},
    "©": " copyright ",
    "⁄": "/",
    "∕": "/",
    "º": "°",
    "µ": "μ",
    "…": ". ",
    "‽": "?",
    "−": "−",
    "№": " No. ",
    "§": " section ",
    "÷": " divided by ",
    "∞": " infinity ",
    "∴": " therefore ",
    "∑": " sum ",
    "∆": " delta ",
    "∈": " in ",
    "≡": " is equivalent to ",
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "þ": "th",
    "ð": "d",
    "đ": "d",
    "ł": "l",
    "Æ": "Ae",
    "Œ": "Oe",
    "Ø": "O",
    "Þ": "Th",
    "Ð": "D",
    "Đ": "D",
    "Ł": "L",
    "¡": " ",
    "¿": " ",
}
_KEPT = frozenset("–−°¢μ×±≈≤≥≠→↔⇒➔➜′″★☆♥❤♯♭‰" + "".join(LONE_SIGNS))
_SCRIPTS: Mapping[str, str] = {
    "CJK": "Chinese",
    "HANGUL": "Korean",
    "LATIN": "non-English",
    "MODIFIER": "phonetic",
    **dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"), "Japanese"),
}
"""What people call the letters whose Unicode names start so, where it is not the script's own name."""

_LOOKALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТХУаеѕіјорсхуΑΒΕΖΗΙΚΜΝΟΡΤΥΧοΛΔΣΞΘΦ", "ABESIJKMHOPCTXYaesijopcxyABEZHIKMNOPTYXoAAEEOO"
)
"""Cyrillic and Greek letters that stand for Latin ones inside of words ("Pаypal", "BLΛCK")."""

_BASE_LETTER = re.compile(r"LATIN (SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z])(?: WITH .*)?")
_EXCERPT = 6

# Digits above and below the line

_LENGTH = re.compile(
    r"(?:(?<=(?<![A-Za-z])m)|(?<=(?<![A-Za-z])[kcmd]m)|(?<=(?<![A-Za-z])(?:ft|in|yd|mi))|(?<=m/s))[²³]"
)
_NOTE = re.compile(r"(?:(?<=[.,;!?”\"’])|(?<=[a-z]{4}))[⁰¹²³⁴-⁹]{1,3}(?!\w)")
_RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]{1,6}|[⁺⁻]?[ⁿˣⁱ]")
_LOWER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿˣⁱ", "0123456789-nxi", "⁺")
_ROOT = re.compile(r"√(?=[\d(]|[a-z]\b)")
_PHONETIC = re.compile(r"[/\[](?=[^/\s\[\]]{0,40}[\u0250-\u02ff])([^/\s\[\]]{1,40})[/\]]")
_NUMERALS = re.compile(r"[\u2160-\u217f]{1,12}")


def _raised(match: re.Match[str]) -> str:
    power = match[0].translate(_LOWER)
    return {"2": " squared ", "3": " cubed "}.get(power) or f"^{power} "


def _length(match: re.Match[str]) -> str:
    return "2" if "²" in match[0] else "3"


def _roman_sign(match: re.Match[str]) -> str:
    """Roman numerals that are characters of their own count always."""
    number = value(unicodedata.normalize("NFKC", match[0]).upper())
    return f" {number} " if number else " "


def fold(text: str) -> Folded:
    """A text in ASCII and in the signs that rules know."""
    if text.isascii():
        return Folded("".join(char if char.isprintable() else " " for char in text))
    text = _LENGTH.sub(_length, text)
    text = _RAISED.sub(_raised, _NOTE.sub("", text))
    text = _PHONETIC.sub(r" \1 ", _ROOT.sub(" square root of ", text))
    text = _NUMERALS.sub(_roman_sign, text)
    text = "".join(_SYMBOLS.get(char, char) for char in text)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text)).replace("′′", "″")
    text = "".join(_SYMBOLS.get(char, char) for char in text)  # what was inside compatibility characters
    words: dict[str, None] = {}
    text = _WORD.sub(lambda match: _latin_word(match[0], words), text)
    text = "".join(char if char in _KEPT else unicodedata.normalize("NFD", char) for char in text)
    parts = [_character(char) for char in text]
    dropped = dict.fromkeys(char for char, part in zip(text, parts, strict=True) if part is None)
    return Folded("".join(" " if part is None else part for part in parts), "".join(dropped), tuple(words))


# Letters of other scripts

_GREEK = r"[\u0391-\u03a9\u03b1-\u03c9]"
_GREEK_LETTER = re.compile(_GREEK)
_MICRO = re.compile(r"\d*μ(?:[gmsLlFVWA]|mol|Pa)?\b")
_UNIT_OF_OHM = re.compile(r"\d*[kMm]Ω|\d+Ω")
_WORD = re.compile(r"[\w\u0300-\u036f]++")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _latin_word(word: str, words: dict[str, None]) -> str:
    """A word whose letters of other scripts are Latin ones now; it is noted in ``words`` then."""
    foreign = "" if word.isascii() else [char for char in word if _is_foreign(char)]
    if not foreign or _MICRO.match(word) or _UNIT_OF_OHM.fullmatch(word):
        return word
    has_latin = any("a" <= char.lower() <= "z" for char in word)
    if len(foreign) == 1 and _GREEK_LETTER.fullmatch(foreign[0]) and not _is_inside(word, foreign[0]):
        return word.replace(foreign[0], f" {_name(foreign[0])} ")
    words[word] = None
    if has_latin:
        word = word.translate(_LOOKALIKES)
    latin = "".join(anyascii(char) if _is_foreign(char) else char for char in word)
    return f" {_HUMP.sub(' ', latin)} " if not has_latin else latin


def _is_inside(word: str, letter: str) -> bool:
    """Whether Latin letters stand on both sides of a letter."""
    at = word.index(letter)
    return word[at - 1 : at].isalpha() and word[at + 1 : at + 2].isalpha()


def _name(letter: str) -> str:
    name = unicodedata.name(letter, "").rpartition(" ")[2].lower()
    return "lambda" if name == "lamda" else name


def check_script(text: str) -> None:
    """Refuse a text in which nothing is for an English voice to say.

    Raises:
        UnreadableError: All its letters are of other scripts, and there are no digits.
    """
    if text.isascii():
        return
    folded = unicodedata.normalize("NFKD", text)
    letters = filter(_is_foreign, unicodedata.normalize("NFKC", text))
    foreign = "".join(char for char in letters if not unicodedata.name(char, "").startswith("LATIN "))
    lone_greek = len(foreign) == 1 and _GREEK_LETTER.fullmatch(foreign)
    if foreign and not lone_greek and not _SAYABLE.search(folded):
        script = unicodedata.name(foreign[0], "UNKNOWN").split(" ")[0]
        shown = foreign if len(foreign) <= _EXCERPT else foreign[:_EXCERPT] + "…"
        raise UnreadableError(f"{_SCRIPTS.get(script, script.title())} letters {shown!r}")


_SAYABLE = re.compile(r"[A-Za-z0-9æœøßþðđłÆŒØÞÐĐŁ]")


@lru_cache(maxsize=4096)
def _is_foreign(char: str) -> bool:
    """Whether it is a letter that has no Latin base letter."""
    if char.isascii() or not char.isalpha() or (char in _KEPT and char != "μ"):
        return False
    base = unicodedata.normalize("NFD", char)[0]
    return not base.isascii() and _BASE_LETTER.fullmatch(unicodedata.name(base, "")) is None


@lru_cache(maxsize=4096)
def _character(char: str) -> str | None:
    """What stands for one character, or None: it is dropped."""
    category = unicodedata.category(char)
    if char.isascii():
        return char if char.isprintable() else " "
    if char in _KEPT or char == "Ω":
        return char
    if category[0] == "M" or category == "Cf":
        return ""
    if category[0] == "Z" or category == "Cc":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(char))
    letter = _BASE_LETTER.fullmatch(unicodedata.name(char, ""))
    if letter is None:
        return None
    return letter[2] if letter[1] == "CAPITAL" else letter[2].lower()
