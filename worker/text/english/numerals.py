"""Numbers, dates and times as American English words, on top of num2words."""

from collections.abc import Callable
from functools import lru_cache

from num2words import num2words

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST = 15
"""Numbers of more digits are read digit by digit."""


def digits(number: str) -> str:
    """Each digit as a word; anything else is skipped."""
    return " ".join(cardinal(digit) for digit in number if digit.isdigit())


def cardinal(number: str) -> str:
    """``1,234`` or ``1234`` in words; digit by digit after a leading zero or when it is very long."""
    plain = number.replace(",", "")
    if len(plain) > _LONGEST or (len(plain) > 1 and plain.startswith("0")):
        return digits(plain)
    return _words(int(plain), "cardinal")


def ordinal(number: str) -> str:
    """``21`` as "twenty-first"."""
    plain = number.replace(",", "")
    return cardinal(plain) + "th" if len(plain) > _LONGEST else _words(int(plain), "ordinal")


def decimal(number: str) -> str:
    """``1,234.50`` as "... point five zero", ``.5`` as "point five", ``12`` as a cardinal."""
    whole, point, part = number.partition(".")
    return " ".join(filter(None, (whole and cardinal(whole), point and "point", digits(part))))


def year(number: str) -> str:
    """``1999`` as "nineteen ninety-nine", ``2005`` as "two thousand five"."""
    return _words(int(number), "year")


def decade(number: str) -> str:
    """``1990`` as "nineteen nineties", ``90`` as "nineties", ``2000`` as "two thousands"."""
    return plural(year(number) if len(number) == 4 else cardinal(number))


def fraction(top: str, bottom: str) -> str:
    """``1/2`` as "one half"; bottoms that have no name of their own are "over"."""
    one, many = {"2": ("half", "halves"), "4": ("quarter", "quarters")}.get(bottom, ("", ""))
    if not one and (not bottom.isdigit() or bottom.startswith("0") or not 3 <= int(bottom) <= 20):
        return f"{cardinal(top)} over {cardinal(bottom)}"
    one = one or ordinal(bottom)
    return f"{cardinal(top)} {one if top == '1' else many or one + 's'}"


def clock(hour: str, minute: str, half: str | None = None) -> str:
    """A time of day; ``half`` is "A M", "P M" or None."""
    if int(hour) == int(minute) == 0 and not half:
        return "midnight"
    spoken = cardinal(str(int(hour)))
    if int(minute) == 0:
        whole = spoken if half else f"{spoken} o'clock" if int(hour) <= 12 else f"{spoken} hundred"
        return f"{whole} {half}" if half else whole
    minutes = f"oh {cardinal(minute[1])}" if minute[0] == "0" else cardinal(minute)
    return " ".join(filter(None, (spoken, minutes, half)))


def date(month: int, day: int, year_: str | None = None) -> str | None:
    """``5/3/2026`` as "May third, twenty twenty-six", or None when there is no such day."""
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1]:
        return None
    words = f"{MONTHS[month - 1]} {ordinal(str(day))}"
    return words if year_ is None else f"{words}, {year(year_)}"


def pairs(number: str) -> str:
    """A number that names a thing: ``747`` as "seven forty-seven", ``101`` as "one oh one"."""
    if len(number) not in (3, 4) or number.startswith("0") or number.endswith("000"):
        return cardinal(number)
    first, last = number[:-2], number[-2:]
    if last == "00":
        return f"{cardinal(first)} hundred"
    return f"{cardinal(first)} {'oh ' + cardinal(last[1]) if last[0] == '0' else cardinal(last)}"


def plural(words: str) -> str:
    """The words of a number as those of many: "nineties", "fifty-twos"."""
    return words[:-1] + "ies" if words.endswith("y") else words + ("es" if words.endswith("x") else "s")


def read_number(number: str) -> str:
    """A number with or without a decimal point."""
    return decimal(number) if "." in number else cardinal(number)


@lru_cache(maxsize=4096)
def _words(number: int, kind: str) -> str:
    """num2words speaks British English: the "and" and the commas go."""
    speak: Callable[..., str] = num2words
    return speak(number, to=kind).replace(",", "").replace(" and ", " ").replace("oh-", "oh ")
