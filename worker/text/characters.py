"""Characters: to ASCII, or to the words of a symbol; letters of other scripts are refused."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from worker.text.numerals import CURRENCIES


class UnreadableError(ValueError):
    """Text that cannot be read as English; the message names the characters."""


_SYMBOLS: Mapping[str, str] = {
    **dict.fromkeys("‘’‚‛′ʻʼʹ`´", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑⁃", "-"),
    **dict.fromkeys("‒–", "–"),
    **dict.fromkeys("—―⸺⸻", ", "),
    **dict.fromkeys("•·‣▪●。、", ", "),
    **dict.fromkeys("™®©†‡¶¬", " "),
    **{char: f" {unicodedata.normalize('NFKC', char)}".replace("⁄", "/") for char in "½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚"},
    "⁄": "/",
    "²": " squared ",
    "³": " cubed ",
    "º": "°",
    "µ": "μ",
    "…": ". ",
    "−": "-",
    "№": " No. ",
    "§": " section ",
    "×": " times ",
    "÷": " divided by ",
    "±": " plus or minus ",
    "≈": " about ",
    "∞": " infinity ",
    "≤": " less than or equal to ",
    "≥": " greater than or equal to ",
    "≠": " not equal to ",
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "þ": "th",
    "ð": "d",
    "Æ": "Ae",
    "Œ": "Oe",
    "Ø": "O",
    "Þ": "Th",
    "¡": " ",
    "¿": " ",
}
_KEPT = frozenset("–°¢μ" + "".join(CURRENCIES))
_SCRIPTS: Mapping[str, str] = {
    "CJK": "Chinese",
    "HANGUL": "Korean",
    "LATIN": "non-English",
    "MODIFIER": "phonetic",
    **dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"), "Japanese"),
}
"""What people call the letters whose Unicode names start so, where it is not the script's own name."""

_BASE_LETTER = re.compile(r"LATIN (SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z])(?: WITH .*)?")
_SQUARE_METERS = re.compile(r"(?<=m)([²³])")
_EXCERPT = 6


def fold(text: str) -> tuple[str, str]:
    """Return ASCII and ``_KEPT``, single Greek letters as their names, and the dropped characters (each once).

    Raises:
        UnreadableError: There are letters of other scripts.
    """
    if text.isascii():
        return "".join(char if char.isprintable() else " " for char in text), ""
    text = _SQUARE_METERS.sub(lambda match: "2" if match[1] == "²" else "3", text)
    text = "".join(_SYMBOLS.get(char, char) for char in text)
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    text = "".join(_SYMBOLS.get(char, char) for char in text)  # what was inside compatibility characters
    parts = [_character(char) for char in text]
    _check_script(text, parts)
    dropped = dict.fromkeys(
        char for char, part in zip(text, parts, strict=True) if part is None and not char.isalpha()
    )
    return _GREEK_LETTER.sub(_greek, "".join(" " if part is None else part for part in parts)), "".join(dropped)


_GREEK = r"[\u0391-\u03a9\u03b1-\u03c9]"
_GREEK_LETTER = re.compile(_GREEK + r"(?<!μ(?=[gms]\b))")
_GREEK_WORD = re.compile(_GREEK + "{2}")


def _greek(match: re.Match[str]) -> str:
    name = unicodedata.name(match[0], "").rpartition(" ")[2].lower()
    return f" {'lambda' if name == 'lamda' else name} "


@lru_cache(maxsize=4096)
def _character(char: str) -> str | None:
    """What stands for one character, or None: it is dropped if it is a symbol, refused if it is a letter."""
    category = unicodedata.category(char)
    if char.isascii():
        return char if char.isprintable() else " "
    if char in _KEPT or _GREEK_LETTER.fullmatch(char):
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


def _check_script(text: str, parts: list[str | None]) -> None:
    """Refuse letters that are not Latin, by the script of the first."""
    foreign = [char for char, part in zip(text, parts, strict=True) if part is None and char.isalpha()]
    foreign = foreign or _GREEK_WORD.findall(text)
    if foreign:
        letters = unicodedata.normalize("NFC", "".join(foreign))
        script = unicodedata.name(letters[0], "UNKNOWN").split(" ")[0]
        shown = letters if len(letters) <= _EXCERPT else letters[:_EXCERPT] + "…"
        raise UnreadableError(f"{_SCRIPTS.get(script, script.title())} letters {shown!r}")
