"""Numbers as Mandarin words."""

import re

_DIGITS = "零一二三四五六七八九"
_TELEPHONE = str.maketrans("一", "幺")
_TENS = ("", "十", "百", "千")
_SCALES = ("", "万", "亿", "万亿")
_LONGEST = 16
"""Numbers of more digits are read digit by digit."""


def digits(number: str) -> str:
    """``1998`` as 一九九八; anything else than digits is skipped."""
    return "".join(_DIGITS[int(digit)] for digit in number if digit.isdecimal())


def telephone(number: str) -> str:
    """Digit by digit, with 幺 for one, as in telephone, room and train numbers; groups are apart."""
    return "，".join(digits(group).translate(_TELEPHONE) for group in re.findall(r"\d+", number))


def cardinal(number: str) -> str:
    """``12300`` as 一万二千三百; digit by digit after a leading zero or when it is very long."""
    if len(number) > _LONGEST:
        return telephone(number)
    if number.startswith("0"):
        return digits(number)
    words = ""
    for scale in range((len(number) - 1) // 4, -1, -1):
        end = len(number) - 4 * scale
        words = _with_group(words, int(number[max(end - 4, 0) : end]), _SCALES[scale])
    words = words.removeprefix("一") if words.startswith("一十") else words
    return "两" + words[1:] if re.match("二[百千万亿]", words) else words


def _with_group(words: str, group: int, scale: str) -> str:
    """The words so far and those of the next four digits."""
    if not group:
        return words
    return f"{words}{'零' if words and group < 1000 else ''}{_group(group)}{scale}"


def _group(number: int) -> str:
    words = ""
    for place, digit in zip((3, 2, 1, 0), f"{number:04}", strict=True):
        words += digits(digit) + _TENS[place] if digit != "0" else "零"
    return re.sub("零+", "零", words).strip("零")


def decimal(number: str) -> str:
    """``3.14`` as 三点一四, ``1.12.3`` as 一点一二点三, ``15`` as a cardinal."""
    whole, *parts = number.split(".")
    return "点".join((cardinal(whole), *map(digits, parts)))


def fraction(top: str, bottom: str) -> str:
    """``3/4`` as 四分之三."""
    return f"{decimal(bottom)}分之{decimal(top)}"


def percent(number: str, whole: str = "百") -> str:
    """``50`` as 百分之五十; of a thousand with ``whole`` 千."""
    return f"{whole}分之{'百' if number == '100' and whole == '百' else decimal(number)}"
