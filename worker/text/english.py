"""English text as an American reads it aloud: words of plain letters and ``. , ? ! ' - ; :``, nothing else.

``RULES`` is an ordered table of patterns and their words. Every repetition in a pattern is bounded or anchored, so
that the time stays linear in the text. Words are padded with blanks; the end tidies up.
"""

import re
from collections.abc import Callable, Mapping

from worker.text.capitals import lower_capitals
from worker.text.characters import UnreadableError, fold
from worker.text.numerals import (
    CURRENCIES,
    MONTHS,
    cardinal,
    clock,
    date,
    decade,
    decimal,
    digits,
    fraction,
    money,
    ordinal,
    year,
)

Match = re.Match[str]
Words = str | Callable[[Match], str]


def read_aloud(text: str) -> tuple[str, str]:
    """Return the words to speak, and the characters that have none and were dropped (each once).

    Raises:
        UnreadableError: There are letters of other scripts, or nothing to speak.
    """
    spoken, dropped = fold(_PARAGRAPH.sub(". ", text))
    for pattern, words in RULES:
        spoken = pattern.sub(words, spoken)
    spoken = _tidy(lower_capitals(_tidy(spoken)))
    if not re.search("[A-Za-z]", spoken):
        raise UnreadableError("nothing to speak")
    return spoken, dropped


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


# What the patterns are made of.

_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|\d{1,15})(?:\.\d{1,15})?|\.\d{1,15})"
_TLD = "com|org|net|edu|gov|io|dev|ai|info|uk|de|fr|eu|us|ca"
_DOMAIN = rf"(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{_TLD})\b(?!\.\w)"
_START = r"(?<![\w.,])"
_B, _E = "(?<![A-Za-z])", "(?![A-Za-z])"
_SIGN = "[" + "".join(CURRENCIES) + "]"
_HALF = r"([AaPp])(?:\.\s?[Mm]\b\.?|[Mm]\b\.?)"
_MONTH = "(" + "|".join([*MONTHS, *(rf"{month[:3]}\b\.?" for month in MONTHS), r"Sept\b\.?"]) + ")"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?\b(?![:.,]\d)"
_YEAR = r"(\d{4})\b(?![:.,-]\d)"
_YEAR_WORDS = (
    "in|since|by|from|until|till|to|of|year|circa|before|after|around|during|In|Since|By|From|Until|After|Before"
)
_MAGNITUDES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "t": "trillion"}
_MAGNITUDE = r"(?:\s?(k|K|m|M|bn|b|B|T|thousand|million|billion|trillion)\b)?"
_REGULAR_UNITS: Mapping[str, str] = {
    "km": "kilometer",
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "μm": "micrometer",
    "nm": "nanometer",
    "km2": "square kilometer",
    "m2": "square meter",
    "cm2": "square centimeter",
    "m3": "cubic meter",
    "cm3": "cubic centimeter",
    "mi": "mile",
    "yd": "yard",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "μg": "microgram",
    "lb": "pound",
    "lbs": "pound",
    "tsp": "teaspoon",
    "tbsp": "tablespoon",
    "oz": "ounce",
    "L": "liter",
    "l": "liter",
    "ml": "milliliter",
    "mL": "milliliter",
    "kB": "kilobyte",
    "KB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "ms": "millisecond",
    "μs": "microsecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "mins": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "kWh": "kilowatt hour",
    "V": "volt",
    "mAh": "milliampere hour",
    "dB": "decibel",
    "°": "degree",
    "¢": "cent",
}
_UNITS: Mapping[str, tuple[str, str]] = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "m/s": ("meter per second", "meters per second"),
    "mph": ("mile per hour", "miles per hour"),
    "ft": ("foot", "feet"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "%": ("percent", "percent"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    **{unit: (name, name + "s") for unit, name in _REGULAR_UNITS.items()},
}
"""One and many of each."""

_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))

_ADDRESS: Mapping[str, str] = {
    ".": " dot ",
    "/": " slash ",
    "@": " at ",
    "-": " dash ",
    "_": " underscore ",
    ":": " colon ",
    "?": " question mark ",
    "=": " equals ",
    "&": " and ",
    "#": " hash ",
    "%": " percent ",
    "+": " plus ",
    "~": " tilde ",
}
_TITLES = {"dr": "Doctor", "mr": "Mister", "mrs": "Missus", "prof": "Professor", "jr": "Junior", "sr": "Senior"}
_ABBREVIATIONS: Mapping[str, str] = {
    **_TITLES,
    "vs": "versus",
    "approx": "approximately",
    "inc": "Incorporated",
    "ltd": "Limited",
    "corp": "Corporation",
    "dept": "department",
    "govt": "government",
    "sept": "September",
    "oct": "October",
    "nov": "November",
    "feb": "February",
}
_CAPITALIZED: Mapping[str, str] = {
    "Ms": "Miz",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Dec": "December",
    "Aug": "August",
    "Apr": "April",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Thu": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "PhD": "P H D",
}
_EXACT = {**{word.upper(): name for word, name in _CAPITALIZED.items()}, **_CAPITALIZED, "Ms": "Miz"}
_MARK_WORDS: Mapping[str, str] = {
    "&": "and",
    "@": "at",
    "#": "hash",
    "+": "plus",
    "=": "equals",
    "/": "slash",
    "%": "percent",
    "°": "degrees",
    "¢": "cents",
    "μ": "mu",
}
_PARTS = {"fig": "figure", "vol": "volume", "ch": "chapter", "sec": "section", "p": "page", "pp": "pages"}


def _read(number: str) -> str:
    return decimal(number) if "." in number else cardinal(number)


def _last(match: Match) -> str:
    """The full stop of an abbreviation that ends the text."""
    return ". " if match[0].endswith(".") and not match.string[match.end() :].strip() else " "


def _end(match: Match) -> str:
    """The full stop of an abbreviation that ends the text, or that a capital follows."""
    return (
        ". " if match[0].endswith(".") and re.match(r"\s+[A-Z]", match.string[match.end() :][:9]) else _last(match)
    )


def _address(match: Match) -> str:
    """An address with its marks as words; "https" and a final slash are not read."""
    address = re.sub(r"^(?:https?|ftp)://", "", match[0], flags=re.IGNORECASE).rstrip("/")
    address = re.sub(r"^www\b", "WWW", address, flags=re.IGNORECASE)
    address = re.sub(r"(?<=\.)[a-z]{2}(?=/|$)", lambda country: country[0].upper(), address)
    return "".join(_ADDRESS.get(char, char if char.isalnum() else " ") for char in address)


def _digit_groups(match: Match) -> str:
    plus = " plus " if match[0].startswith("+") else " "
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0])) + " "


def _long_number(match: Match) -> str:
    whole, _, part = match[0].rpartition(".")
    return f" {cardinal(whole)} point {digits(part)} " if whole else f" {digits(part)} "


def _date(match: Match) -> str:
    """A date in numbers, if it is one; day before month is understood where only that fits."""
    numbers = match.groupdict()
    first, second, year_ = int(numbers["month"]), int(numbers["day"]), numbers["year"]
    year_ = f"20{year_}" if len(year_) == 2 else year_
    words = date(first, second, year_) or date(second, first, year_)
    return f" {words} " if words else match[0]


def _month(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, start=1) if month.startswith(name[:3]))


def _month_day(match: Match) -> str:
    words = date(_month(match[1]), int(match[2]), match[3])
    return f" {words} " if words else match[0]


def _day_of_month(match: Match) -> str:
    """ "the third of May, twenty twenty-six"."""
    month = _month(match[3])
    if date(month, int(match[2])) is None:
        return match[0]
    words = f" {match[1] or 'the '}{ordinal(match[2])} of {MONTHS[month - 1]}"
    return f"{words}, {year(match[4])} " if match[4] else f"{words} "


def _clock(match: Match) -> str:
    hour, minute, seconds, half = match.groups()
    if int(hour) > 24 or int(minute) > 59:
        return match[0]
    words = clock(hour, minute, f"{half.upper()} M" if half and int(hour) <= 12 else None)
    return f" {words} and {cardinal(str(int(seconds)))} seconds " if seconds else f" {words}{_end(match)}"


def _hour(match: Match) -> str:
    return f" {cardinal(match[1])} {match[2].upper()} M{_end(match)}"


def _initials(match: Match) -> str:
    return f" {' '.join(match[0].replace('.', '').upper())}{_last(match)}"


def _street(match: Match) -> str:
    """ "Saint" before a name, unless a name comes before it as well; else "Street"."""
    before = re.search(r"\W[A-Z]\w* ?$", match.string[max(match.start() - 30, 0) : match.start()])
    saint = before is None and re.match(r" ?[A-Z]", match.string[match.end() :][:2])
    return "Saint " if saint else f"Street{_end(match)}"


def _money(match: Match) -> str:
    sign, number, size = match.groups()
    magnitude = None if size is None else _MAGNITUDES.get(size.lower(), size.lower())
    return f" {money(sign, number, magnitude)} "


def _quantity(match: Match) -> str:
    number, link, unit = match.groups()
    one, many = _UNITS[unit]
    return f" {_read(number)} {one if number == '1' or link == '-' else many} "


def _mixed(match: Match) -> str:
    """A whole number and a fraction: "two and a half"."""
    part = fraction(match[2], match[3])
    return f" {cardinal(match[1])} and {'a' + part[3:] if match[2] == '1' else part} "


def _version(match: Match) -> str:
    return f" {' point '.join(cardinal(part) for part in match[0].split('.'))} "


_TABLE: tuple[tuple[str, Words], ...] = (
    # Addresses
    (r"(?i)\b(?:https?|ftp)://[^\s\"<>]{0,2000}[\w/]", _address),
    (r"(?i)(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}\b", _address),
    (
        rf"(?i)(?<![\w.-]){_DOMAIN}(?:/[^\s\"<>]{{0,2000}}[\w/])?",
        _address,
    ),
    (r"_", " "),
    # Digits that are no number, and what needs quotes, brackets and hyphens
    (r"(?:\d{1,15}\.)?\d{16,}", _long_number),
    (r"(?<![\w.])(\d)' ?(\d{1,2})(?:\"|''|(?![\w']))", lambda m: f" {cardinal(m[1])} foot {cardinal(m[2])} "),
    (r"(?<![\w.,])'?((?:1\d|20)\d0|[2-9]0)'?s\b", lambda m: f" {decade(m[1])} "),
    (r"(?<![\w.])(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\w)", _digit_groups),
    (r"\+\d{1,3}(?:[ .-]\d{2,5}){2,5}(?!\w)", _digit_groups),
    (r"(?<![\w.,-])(?P<year>\d{4})-(?P<month>\d\d?)-(?P<day>\d\d?)(?![\w-])", _date),
    (r"(?<![\w.,/-])(?P<month>\d\d?)([/-])(?P<day>\d\d?)\2(?P<year>\d{4}|\d\d)(?![\w/-])", _date),
    (r"(?<![\w.,-])(?:\d{3}-\d{4}|\d{1,6}(?:-\d{1,6}){2,6})(?![\w-])", _digit_groups),
    (r"[()\[\]{}]", ", "),
    (r"(?<![A-Za-z0-9])'+|'+(?![A-Za-z])|\"", " "),
    # Abbreviations
    (rf"(?i){_B}e\. ?g{_E}\.?", " for example "),
    (rf"(?i){_B}i\. ?e{_E}\.?", " that is "),
    (rf"{_B}Ph\. ?D{_E}\.?", " P H D "),
    (rf"(?i){_B}etc{_E}\.?", lambda m: f"et cetera{_end(m)}"),
    (r"\bNo\. ?(?=\d)", "number "),
    (r"(?i)\b(fig|vol|ch|sec|pp?)\. ?(?=\d)", lambda m: f"{_PARTS[m[1].lower()]} "),
    # Dates and times
    (rf"\b{_MONTH} {_DAY}(?:,? {_YEAR})?", _month_day),
    (rf"(?<![\w.,:])(the )?{_DAY}(?: of)? {_MONTH}(?![a-z])(?:,? {_YEAR})?", _day_of_month),
    (rf"(?<=\d) ?[-–] ?(?=\d{{1,2}}(?::\d\d)? ?{_HALF})", " to "),
    (rf"(?<![\w.,:])(\d{{1,2}}):(\d\d)(?::([0-5]\d))?(?: ?{_HALF})?(?![\d:])", _clock),
    (rf"{_START}(\d{{1,2}}) ?{_HALF}", _hour),
    # More abbreviations
    (rf"(?i){_B}({'|'.join(_ABBREVIATIONS)}){_E}\.?", lambda m: _ABBREVIATIONS[m[1].lower()] + _last(m)),
    (rf"{_B}({'|'.join(_EXACT)}){_E}\.?", lambda m: _EXACT[m[1]] + _last(m)),
    (rf"{_B}St{_E}\.?", _street),
    (rf"{_B}(?:[A-Za-z]\.){{2,}}(?:[A-Za-z](?![A-Za-z.]))?", _initials),
    (r"(?<=\w)\.(?=[a-z])", " dot "),
    # Years, ranges and signs
    (
        r"\b([12]\d{3}) ?[-–] ?([12]\d{3})(?![\w.,-])",
        lambda m: f" {year(m[1])} to {year(m[2])} " if m[1] < m[2] < "2100" else m[0],
    ),
    (rf"\b({_YEAR_WORDS}) (1[0-8]\d\d)(?![\w,]|\.\d|[-–]\d| ?%)", lambda m: f"{m[1]} {year(m[2])}"),
    (r"(?<=\d) +- +(?=\d)", " minus "),
    (rf"(?<=[\d%]) ?[-–] ?(?={_SIGN}?\.?\d)", " to "),
    (rf"(?<![\w.%°-])-(?={_SIGN}?\.?\d)", " minus "),
    (r"(?<=[A-Za-z])[-–](?=\d)", " "),
    # Quantities
    (r"(?<=\d) ?x ?(?=\d)", " by "),
    (rf"({_SIGN}) ?({_NUMBER}){_MAGNITUDE}", _money),
    (r"(?<![\w.,/])(\d{1,4}) +(\d{1,2})/(\d{1,3})(?![\d/])", _mixed),
    (r"(?<![\w.,/])24/7(?![\d/])", " twenty-four seven "),
    (r"(?<![\w.,/])50/50(?![\d/])", " fifty-fifty "),
    (r"(?<![\w.,/])(\d{1,4})/(\d{1,4})(?![\d/])", lambda m: f" {fraction(m[1], m[2])} "),
    (rf"{_START}({_NUMBER})([ -]?)({_UNIT})(?![A-Za-z0-9°])(?:\.(?= [a-z]))?", _quantity),
    (r"(?<![\w.,])\d{1,6}(?:\.\d{1,6}){2,8}(?!\.?\d)", _version),
    (
        r"(?<![\w.,])(\d{1,3}(?:,\d{3}){1,5}|\d{1,15})(?:st|nd|rd|th)\b",
        lambda m: f" {ordinal(m[1])} ",
    ),
    (r"(?<![\w.,])((?:19|20)\d\d)(?![\d]|[.,]\d)", lambda m: f" {year(m[1])} "),
    (r"(?<=\d) ?: ?(?=\d)", " to "),
    (r"(?<=\d) ?\* ?(?=\d)", " times "),
    (r"\^(?=\d)", " to the power of "),
    (r"#(?=\d)", " number "),
    (r"~(?=\d)", " about "),
    (r"(?<=\d) ?< ?(?=\d)", " less than "),
    (r"(?<=\d) ?> ?(?=\d)", " greater than "),
    (_NUMBER, lambda m: f" {_read(m[0])} "),
    # Marks
    (r"(?i)\band/or\b", "and or"),
    (r"(?i)\bw/o\b", "without "),
    (r"(?i)\bw/(?= )", "with "),
    (r"(?<=(?<![A-Za-z])[A-G])#", " sharp "),
    *((re.escape(sign), f" {names[1]} ") for sign, names in CURRENCIES.items()),
    *((re.escape(mark), f" {words} ") for mark, words in _MARK_WORDS.items()),
    (r" -+ |--+| – ", ", "),
    (r"–", "-"),
    (r"[^A-Za-z .,?!';:-]", " "),
)
RULES = tuple((re.compile(pattern), words) for pattern, words in _TABLE)
