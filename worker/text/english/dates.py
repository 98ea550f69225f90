"""Dates, times of day, time zones, years, decades and centuries."""

import re

from worker.text.english.numerals import MONTHS, cardinal, clock, date, decade, digits, ordinal, year
from worker.text.english.patterns import START, after, before, stop
from worker.text.rules import Match, rules

_HALF = r"([AaPp])(?:\.\s?[Mm]\b\.?|[Mm]\b\.?)"
_MONTH = "(" + "|".join([*MONTHS, *(rf"{month[:3]}\b\.?" for month in MONTHS), r"Sept\b\.?"]) + ")"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?\b(?![:.,]\d)"
_YEAR = r"(\d{4})\b(?![:.,-]\d)"
_YEAR_WORDS = (
    "in|since|by|from|until|till|to|of|year|circa|before|after|around|during|about|early|late|spring|summer|autumn|"
    "fall|winter|established|"
)
_YEAR_WORDS += "|".join(word.capitalize() for word in _YEAR_WORDS.split("|") if word) + "|" + "|".join(MONTHS)
_DATE_WORDS = "on|by|due|until|since|before|after|from|On|By|Due|Until|Since|Before|After|From"


def _date(match: Match) -> str:
    """A date in numbers, if it is one; day before month is understood where only that fits."""
    numbers = match.groupdict()
    first, second, year_ = int(numbers["month"]), int(numbers["day"]), numbers["year"]
    year_ = f"20{year_}" if len(year_) == 2 else year_
    words = date(first, second, year_) or date(second, first, year_)
    return f" {words} " if words else match[0]


def _stamp(match: Match) -> str:
    """A date and a time of day as programs write them."""
    words = date(int(match["month"]), int(match["day"]), match["year"])
    if words is None or int(match["hour"]) > 24 or int(match["minute"]) > 59:
        return match[0]
    seconds = f" and {_seconds(match['second'])}" if int(match["second"] or 0) else ""
    zone = match["zone"]
    zone = "" if not zone else " U T C" if zone == "Z" else f" U T C {_offset(zone[0], zone[1:3], zone[-2:])}"
    return f" {words} {clock(match['hour'], match['minute'])}{seconds}{zone} "


def _seconds(number: str) -> str:
    return f"{cardinal(str(int(number)))} second{'' if int(number) == 1 else 's'}"


def _offset(sign: str, hours: str, minutes: str | None = None) -> str:
    rest = f" {cardinal(minutes)}" if minutes and minutes != "00" else ""
    return f"{'plus' if sign == '+' else 'minus'} {cardinal(str(int(hours)))}{rest}"


def _zone(match: Match) -> str:
    return f" {' '.join(match[1])} {_offset(match[2], match[3], match[4])} "


def _short_date(match: Match) -> str:
    words = date(int(match[2]), int(match[3]))
    return f"{match[1]} {words} " if words else match[0]


def _month(name: str) -> int:
    return next(number for number, month in enumerate(MONTHS, start=1) if month.startswith(name[:3].capitalize()))


def _month_day(match: Match) -> str:
    words = date(_month(match[1]), int(match[2]), match[3])
    return f" {words} " if words else match[0]


def _days(match: Match) -> str:
    """ "March fifth to seventh"."""
    first, last = date(_month(match[1]), int(match[2])), date(_month(match[1]), int(match[3]))
    if not (first and last):
        return match[0]
    return f" {first} to {ordinal(match[3])}{f', {year(match[4])}' if match[4] else ''} "


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
    return f" {words} and {_seconds(seconds)} " if seconds else f" {words}{stop(match)}"


def _hour(match: Match) -> str:
    return f" {cardinal(match[1])} {match[2].upper()} M{stop(match)}"


def _duration(match: Match) -> str:
    names = ("hour", "minute", "second")
    counts = [(number, name) for number, name in zip(match.groups(), names, strict=True) if number]
    return " " + " ".join(f"{cardinal(n)} {name}{'' if n == '1' else 's'}" for n, name in counts) + " "


def _military(match: Match) -> str:
    hour = digits(match[1]) if match[1][0] == "0" else cardinal(match[1])
    return f" {hour} {'hundred' if match[2] == '00' else cardinal(match[2])} hours "


def _years(match: Match) -> str:
    first, last = match[1], match[2]
    last = first[:2] + last if len(last) == 2 else last
    if not first < last < "2100":
        return match[0]
    return f" {year(first)} to {cardinal(match[2]) if len(match[2]) == 2 else year(last)} "


def _era(match: Match) -> str:
    return f" {year(match[1])} {' '.join(match[2])} "


def _season(match: Match) -> str:
    return f" {year(match[1])} {cardinal(match[2])} "


def _bare_year(match: Match) -> str:
    """Years of the last and of this century, unless a unit or a sum follows."""
    return f" {year(match[1])} "


_NOT_YEARS = re.compile(r"(?i)(?:room|suite|box|extension|ext\.?|code|pin|model|no\.|number) $")

EARLY = rules(
    (
        (r"(?<![\w.,])'?((?:1\d|20)\d0|[2-9]0)'?s\b", lambda m: f" {decade(m[1])} ", "0"),
        (
            r"(?<![\w.,-])(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:T| T?)(?P<hour>\d\d):(?P<minute>\d\d)"
            r"(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)? ?(?P<zone>Z|[+-]\d\d:?\d\d)?(?![\w:])",
            _stamp,
            "0 - :",
        ),
        (r"(?<![\w.,-])(?P<year>\d{4})([-/.])(?P<month>\d\d?)\2(?P<day>\d\d?)(?![\w-]|[/.]\d)", _date, "0"),
        (
            r"(?<![\w.,/-])(?P<month>\d\d?)([/-])(?P<day>\d\d?)\2(?P<year>\d{4}|\d\d)(?![\w/-])",
            _date,
            "0 -/",
        ),
        (r"(?<![\w.,/-])(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>(?:19|20)\d\d)(?![\w/-]|\.\d)", _date, "0"),
        (
            r"(?=\d)(?<![\w.,/-])(\d\d?)-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}-(?=\d{4}\b)",
            r"\1 \2 ",
            "0 -",
        ),
    )
)
"""Dates in numbers, before their parts are anything else."""

RULES = rules(
    (
        (rf"(?<=\d) ?[-–] ?(?={_MONTH} \d)", " to ", "0 -–"),
        (r"(?:(?<=st)|(?<=nd)|(?<=rd)|(?<=th)) ?[-–] ?(?=\d{1,3}(?:st|nd|rd|th)\b)", " to ", "0 -–"),
        (r"(?:(?<=BC)|(?<=AD)|(?<=CE)) ?[-–] ?(?=\d)", " to ", "0 -–"),
        (rf"\b{_MONTH} (\d\d?) ?[-–] ?(\d\d?)\b(?![:.]\d|[/-])(?:,? {_YEAR})?", _days, "0 -–"),
        (rf"\b{_MONTH} {_DAY}(?:,? {_YEAR})?", _month_day, "0"),
        (rf"(?<![\w.,:])(the )?{_DAY}(?: of)? {_MONTH}(?![a-z])(?:,? {_YEAR})?", _day_of_month, "0"),
        (
            rf"\b({_DATE_WORDS}) (\d\d?)/(\d\d?)(?![\w/]|\.\d| (?:of|cup|inch|mile|cups|inches|miles)\b)",
            _short_date,
            "0 /",
        ),
        (rf"(?<=\d) ?[-–] ?(?=\d{{1,2}}(?::\d\d)? ?{_HALF})", " to ", "0 -–"),
        (r"(?<=\d[AaPp][Mm]) ?[-–] ?(?=\d)|(?<=\d [AaPp][Mm]) ?[-–] ?(?=\d)", " to ", "-–"),
        (r"(?<=[AaPp]\.[Mm]\.) ?[-–] ?(?=\d)", " to ", "0 -–"),
        (r"(?<=\d:\d\d) ?[-–] ?(?=\d{1,2}:\d\d)", " to ", "0 : -–"),
        (r"\b(UTC|GMT) ?([+−–-])(\d{1,2})(?::?([0-5]\d))?(?!\d)", _zone, "0 +-–−"),
        (
            rf"(?=\d)(?<![\w.,:])(\d{{1,2}}):(\d\d)(?::([0-5]\d)(?:\.\d{{1,6}})?)?(?: ?{_HALF})?(?![\d:])",
            _clock,
            "0 :",
        ),
        (rf"{START}(\d{{1,2}}) ?{_HALF}", _hour, "0"),
        (r"(?=\d)(?<![\w.,:])([0-2]\d)([0-5]\d) ?(?:hours|hrs)\b", _military, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,3})h ?(\d{1,2})m(?:in)?(?: ?(\d{1,2})s)?\b", _duration, "0"),
        (r"(?<![\w.,])()(\d{1,3})m ?(\d{1,2})s\b", _duration, "0"),
    )
)
"""Dates in words, and times."""

YEARS = rules(
    (
        (r"\b([12]\d{3}) ?[-–] ?([12]\d{3}|\d\d)(?![\w.,-])", _years, "0 -–"),
        (r"(?=\d)(?<![\w.,])(\d{3,4}) (BC|BCE|AD|CE)\b", _era, "0"),
        (r"(?<![\w.,/])((?:19|20)\d\d)/(\d\d)(?![\w/])", _season, "0 /"),
        (rf"\b({_YEAR_WORDS}) (1[0-8]\d\d)(?![\w,]|\.\d|[-–]\d| ?%)", lambda m: f"{m[1]} {year(m[2])}", "0"),
    )
)
BARE = rules(
    (
        (
            r"(?<![\w.,])((?:19|20)\d\d)(?![\d]|[.,]\d)",
            lambda m: m[0] if _NOT_YEARS.search(before(m, 12)) or after(m, 1) == "%" else _bare_year(m),
            "0",
        ),
    )
)
