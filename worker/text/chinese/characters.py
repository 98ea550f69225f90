"""Characters: full-width forms as ASCII, signs as the words or marks that the rules know, the others dropped."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from anyascii import anyascii

from worker.text.spoken import Spoken

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Ideographs, inside a class of characters."""

_KEPT = frozenset("′″，。！？；：、（）“”‘’《》〈〉「」『』【】…—·～〇々∶√π°¥€£₩₹¢‰×÷±≈≠≤≥")
_SIGNS: Mapping[str, str] = {
    **{chr(0x2460 + at): f" {at + 1}、" for at in range(20)},
    **{chr(0x2474 + at): f" {at + 1}、" for at in range(20)},
    **{chr(0x2488 + at): f" {at + 1}、" for at in range(20)},
    **{chr(0x2776 + at): f" {at + 1}、" for at in range(10)},
    **{chr(0x2160 + at): str(at + 1) for at in range(12)},
    **{char: f" {unicodedata.normalize('NFKC', char)}".replace("⁄", "/") for char in "½¼¾⅓⅔⅛⅜⅝⅞⅕⅖⅗⅘⅙⅚"},
    **dict.fromkeys("‐‑⁃−﹣－", "-"),
    **dict.fromkeys("‒–", "–"),
    **dict.fromkeys("―⸺⸻", "—"),
    **dict.fromkeys("•●‣▪", "·"),
    **dict.fromkeys("´`ʼ＇", "'"),
    **dict.fromkeys("｡．", "。"),
    **dict.fromkeys("〔［【", "【"),
    **dict.fromkeys("〕］】", "】"),
    "\u3000": " ",
    "²": "^2",
    "³": "^3",
    "⁻": "^-",
    "〜": "～",
    "￥": "¥",
    "μ": "μ",
    "µ": "μ",
    "º": "°",
    "№": "No.",
    "≦": "≤",
    "≧": "≥",
    "∞": "无穷大",
    "→": "，",
    "™": "",
    "®": "",
    "©": "",
}
_GREEK_NAMES = """
    阿尔法 贝塔 伽马 德尔塔 艾普西龙 泽塔 伊塔 西塔 约塔 卡帕 拉姆达 谬 纽 克西 奥密克戎 派 柔 西格玛 西格玛
    陶 宇普西龙 斐 希 普西 欧米伽
"""
GREEK: Mapping[str, str] = {
    chr(first + at): name for first in (0x391, 0x3B1) for at, name in enumerate(_GREEK_NAMES.split())
}
"""Greek letters by their Chinese names."""

_POSSESSIVE = re.compile(rf"(?<=[{HAN}])の(?=[{HAN}])")
"""Chinese signs use it for what it means."""

_BELOW = re.compile(r"([₀-₉])(?=\d)")
_OTHER_WORD = re.compile(
    rf"[^\W\d_A-Za-z\u00a1-\u036f\u0370-\u03ff\u1d00-\u1eff\u2070-\u2bff\u3005-\u3007\ufb00-\ufb06\uff00-\uff5f"
    rf"\U0001d400-\U0001f9ff{HAN}]+"
)
_WIDE_MARKS = frozenset("！（），：；？～．－＇｡")


def fold(text: str) -> Spoken:
    """A text in Han and Latin letters, digits and marks; words in other letters are written in Latin ones."""
    words: dict[str, None] = {}
    text = _BELOW.sub(r"\1 ", _POSSESSIVE.sub("的", text))
    text = _OTHER_WORD.sub(lambda match: _latin(match[0], words), text)
    parts = [_character(char) for char in text]
    dropped = dict.fromkeys(char for char, part in zip(text, parts, strict=True) if part is None)
    return Spoken("".join(" " if part is None else part for part in parts), "".join(dropped), tuple(words))


def _latin(word: str, words: dict[str, None]) -> str:
    latin = "".join(filter(str.isalpha, anyascii(word)))
    if not latin:
        return word
    words[word] = None
    return f" {latin} "


@lru_cache(maxsize=8192)
def _character(char: str) -> str | None:
    """What stands for one character, or None: it has no words."""
    if char in _SIGNS:
        return _SIGNS[char]
    if char.isascii():
        return char if char.isprintable() else "\n" if char == "\n" else " "
    if char in _KEPT or char in GREEK or _is_han(char):
        return char
    category = unicodedata.category(char)
    if category[0] == "M" or category == "Cf":
        return ""
    if category[0] == "Z" or category == "Cc":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if char in _WIDE_MARKS:
        return char
    return _compatible(char)


def _compatible(char: str) -> str | None:
    """Full-width letters, ligatures, letters with marks: what they are made of."""
    parts = unicodedata.normalize("NFKD", char)
    if parts == char:
        return None
    known = [_character(part) for part in parts]
    return None if None in known else "".join(map(str, known)).strip("\n")


def _is_han(char: str) -> bool:
    return unicodedata.name(char, "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH"))


_TRADITIONAL = str.maketrans("两万亿点负号个", "兩萬億點負號個")
_ONLY_TRADITIONAL = frozenset(
    "個們這說時會國對過來為與學後開關麼買賣讓還從見話語車電號書長門問間東點萬億幾臺灣舊實現發無隻貓條"
    "張輛嗎歲塊樓層場線聽讀寫飯錢圖歡樂愛氣溫遠運動員體區縣鄉鎮級產業務價質單雙數據網絡腦機應該當麗華漢"
)


def as_written(spoken: str, text: str) -> str:
    """Words of numbers in traditional characters, where the text is in them."""
    return spoken if _ONLY_TRADITIONAL.isdisjoint(text) else spoken.translate(_TRADITIONAL)
