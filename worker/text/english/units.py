"""Quantities: a number and its unit, in inches and feet, and what it is per."""

import re
from collections.abc import Iterator, Mapping

from worker.text.english.numerals import cardinal, fraction, read_number
from worker.text.english.patterns import NUMBER, START, after, alternatives, before, stop
from worker.text.rules import Match, rules

_PREFIXES = {
    "T": "tera",
    "G": "giga",
    "M": "mega",
    "k": "kilo",
    "h": "hecto",
    "d": "deci",
    "c": "centi",
    "m": "milli",
    "μ": "micro",
    "n": "nano",
    "p": "pico",
}
_METRIC: Mapping[str, tuple[str, str]] = {
    "m": ("meter", " kdcmμn"),
    "g": ("gram", " kmμn"),
    "L": ("liter", " hdcmμ"),
    "l": ("liter", " hdcmμ"),
    "s": ("second", " mμn"),
    "W": ("watt", " kMGTm"),
    "Wh": ("watt hour", " kMGT"),
    "V": ("volt", " kmMμ"),
    "A": ("ampere", "mkμ"),
    "Ah": ("ampere hour", " mk"),
    "Ω": ("ohm", " kMm"),
    "F": ("farad", "μnpm"),
    "J": ("joule", " kM"),
    "cal": ("calorie", "k"),
    "eV": ("electronvolt", " kMG"),
    "Pa": ("pascal", " hkM"),
    "N": ("newton", "k"),
    "mol": ("mole", " mμ"),
    "bar": ("bar", " m"),
    "B": ("byte", "kMGT"),
    "b": ("bit", "kMG"),
}
"""Units that take prefixes, which a blank means, too."""


def _metric() -> Iterator[tuple[str, str]]:
    for unit, (name, prefixes) in _METRIC.items():
        for prefix in prefixes.replace(" ", ""):
            yield prefix + unit, "kilohm" if prefix + unit == "kΩ" else _PREFIXES[prefix] + name
        if " " in prefixes:
            yield unit, name


_REGULAR: Mapping[str, str] = {
    **dict(_metric()),
    **{f"{prefix}m2": f"square {_PREFIXES.get(prefix, '')}meter" for prefix in ("", "k", "c", "m")},
    **{f"{prefix}m3": f"cubic {_PREFIXES.get(prefix, '')}meter" for prefix in ("", "c", "m")},
    "mi": "mile",
    "mi2": "square mile",
    "sq mi": "square mile",
    "nmi": "nautical mile",
    "yd": "yard",
    "yds": "yard",
    "sq yd": "square yard",
    "ha": "hectare",
    "mcg": "microgram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "fl oz": "fluid ounce",
    "tsp": "teaspoon",
    "tbsp": "tablespoon",
    "pt": "pint",
    "qt": "quart",
    "gal": "gallon",
    "doz": "dozen",
    "KB": "kilobyte",
    "PB": "petabyte",
    "KiB": "kibibyte",
    "MiB": "mebibyte",
    "GiB": "gibibyte",
    "TiB": "tebibyte",
    "px": "pixel",
    "pts": "point",
    "sec": "second",
    "secs": "second",
    "min": "minute",
    "mins": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "wk": "week",
    "wks": "week",
    "mo": "month",
    "mos": "month",
    "yr": "year",
    "yrs": "year",
    "kt": "knot",
    "kts": "knot",
    "cc": "cubic centimeter",
    "dB": "decibel",
    "°": "degree",
    "¢": "cent",
}
_BITS = {
    "bps": "bit",
    "kbps": "kilobit",
    "Kbps": "kilobit",
    "Mbps": "megabit",
    "Gbps": "gigabit",
    "Tbps": "terabit",
}
_UNITS: Mapping[str, tuple[str, str]] = {
    **{unit: (name, name + "s") for unit, name in _REGULAR.items()},
    **{unit: (f"{name} per second", f"{name}s per second") for unit, name in _BITS.items()},
    "kph": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "mpg": ("mile per gallon", "miles per gallon"),
    "fps": ("frame per second", "frames per second"),
    "wpm": ("word per minute", "words per minute"),
    "bpm": ("beat per minute", "beats per minute"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "dpi": ("dot per inch", "dots per inch"),
    "ppi": ("pixel per inch", "pixels per inch"),
    "psi": ("pound per square inch", "pounds per square inch"),
    "ppm": ("part per million", "parts per million"),
    "ppb": ("part per billion", "parts per billion"),
    "m/s2": ("meter per second squared", "meters per second squared"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    "ft": ("foot", "feet"),
    "ft2": ("square foot", "square feet"),
    "sq ft": ("square foot", "square feet"),
    "sqft": ("square foot", "square feet"),
    "cu ft": ("cubic foot", "cubic feet"),
    "ft3": ("cubic foot", "cubic feet"),
    "in2": ("square inch", "square inches"),
    "sq in": ("square inch", "square inches"),
    "hp": ("horsepower", "horsepower"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "%": ("percent", "percent"),
    "‰": ("per mille", "per mille"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
}
"""One and many of each."""

PER_NAMES: Mapping[str | None, str] = {
    **{unit: one for unit, (one, _) in _UNITS.items() if unit[-1].isalnum() and "per" not in one},
    "in": "inch",
    "d": "day",
    "y": "year",
    **{
        word: word
        for word in [
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "year",
            "night",
            "person",
            "user",
            "page",
            "inch",
            "foot",
            "mile",
        ]
    },
}
PER = alternatives(unit for unit in PER_NAMES if unit)
_BARE = [
    unit for unit in _REGULAR if unit.isalnum() and unit not in ("min", "mo", "pt", "pts", "l", "h", "s", "N")
]
_TIMES = "day|week|month|year|hour|night|minute|second|person|hr|min|sec|wk|mo|yr|s"
_WITH_STOPS = (
    "ft|lb|lbs|oz|min|mins|hr|hrs|sec|secs|yd|yds|mi|tsp|tbsp|yr|yrs|wk|wks|mo|mos|gal|pt|pts|qt|doz|kt|kts"
)
_STOPPED = rf"(?:sq|cu|fl)\. ?(?:ft|in|mi|yd|oz)|{_WITH_STOPS}|in"
"""Units that are written with a full stop, too."""


def _quantity(match: Match) -> str:
    number, link, unit, per, many_per, dot = match.groups()
    one, many = _UNITS[unit]
    name = one if number == "1" or link == "-" else many
    per = f" per {PER_NAMES[per]}" if per else " per" if many_per else ""
    ends = dot and not (unit in _WITH_STOPS.split("|") and after(match, 2)[1:2].islower())
    return f" {read_number(number)} {name}{per}{'. ' if ends else ' '}"


def _feet_and_inches(match: Match) -> str:
    feet, inches = "foot" if match[1] == "1" else "feet", "inch" if match[2] == "1" else "inches"
    return f" {cardinal(match[1])} {feet} {read_number(match[2])} {inches}{stop(match)}"


def _inch_fraction(match: Match) -> str:
    """``7 1/2"``"""
    part = fraction(match[2], match[3])
    part = f"{cardinal(match[1])} and {'a' + part[3:] if match[2] == '1' else part}" if match[1] else part
    return f" {part} {'inches' if match[1] and not _names(match) else 'inch'} "


def _stopped(match: Match) -> str:
    """Units with full stops: ``5 ft. 10 in.``"""
    number, link, unit = match.groups()
    unit = unit.replace(". ", ".").replace(".", " ")
    one, many = _UNITS.get(unit) or ("inch", "inches")
    following = after(match, 9).lstrip()[:1]
    ends = not following or (following.isupper() and match.string[match.end() : match.end() + 1].isspace())
    return f" {read_number(number)} {one if number == '1' or link == '-' else many}{'. ' if ends else ' '}"


def _foot_and_inch(match: Match) -> str:
    return f" {cardinal(match[1])} foot {read_number(match[2])} "


def _marked_inch(match: Match) -> str:
    """Inches, unless the mark closes what is quoted."""
    opened = len(_QUOTATION.findall(match.string, max(match.start() - 400, 0), match.start())) % 2
    if opened and match[2] == '"':
        return match[0]
    return f" {read_number(match[1])} {'inch' if _names(match) or match[1] == '1' else 'inches'} "


_QUOTATION = re.compile(r'(?<!\d)"')


def _names(match: Match) -> bool:
    """Whether a thing follows that the length describes: ``a 12" pizza``."""
    noun = after(match, 24).partition(" ")
    return (
        not noun[0] and noun[2][:2].isalpha() and noun[2][:2].islower() and not noun[2].startswith(("x ", "by "))
    )


_COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}


def _arc(match: Match) -> str:
    """Degrees, minutes and seconds."""
    counts = zip(match.groups(), ("degree", "minute", "second"), strict=True)
    return " " + " ".join(f"{read_number(n)} {name}{'' if n == '1' else 's'}" for n, name in counts if n) + " "


def _marked_foot(match: Match) -> str:
    return f" {read_number(match[1])} {'foot' if _names(match) or match[1] == '1' else 'feet'} "


def _each(match: Match) -> str:
    """A number of things per time: ``3 times/day``."""
    thing = match[2] or ""
    return f" {read_number(match[1])} {thing} per {PER_NAMES.get(match[3], match[3])} "


def _bare(match: Match) -> str:
    """A rate whose number is in words already, or that has none."""
    return f" {_UNITS[match[1]][1]} per {PER_NAMES[match[2]]} "


def _named(match: Match) -> str:
    return _UNITS[match[1]][1]


_LONG = [unit for unit in _REGULAR if len(unit) > 1]
_ALONE_NAMES = """
    kWh km kg cm mg ml mL mph kph GHz MHz kHz Mbps Gbps kbps fps psi rpm dB mmHg GB MB TB KB kB lbs kcal sqft km2
    cm2
"""
_ALONE = _ALONE_NAMES.split()
"""Units that are read as such without a number, too."""


def _is_quote_free(match: Match) -> bool:
    return "'" not in before(match, 60)


EARLY = rules(
    (
        (r"(?<=[°′″]) ?([NSEW])(?![A-Za-z])", lambda m: f" {_COMPASS[m[1]]} ", "°′″"),
        (r"(\d{1,3})° ?(\d{1,2})′(?: ?(\d{1,2}(?:\.\d{1,3})?)″)?", _arc, "0 ° ′"),
        (r"(?<=\d[\"″'′]) ?[x×] ?(?=\d)", " by ", "0 \"'′″"),
        (
            r"(?<![\w.,/])(?:(\d{1,3})[ -])?(\d{1,2})/(\d{1,2}) ?(?:″|\"|'')(?![A-Za-z0-9])",
            _inch_fraction,
            "0 / \"'″",
        ),
        (r"(?=\d)(?<![\w.])(\d{1,2})[′'] ?(\d{1,2}(?:\.\d)?)(?:[″\"]|''|(?![\w'′]))", _foot_and_inch, "0 '′"),
        (rf"{START}({NUMBER}) ?(″|\"|'')(?![A-Za-z0-9])", _marked_inch, "\"'″"),
        (
            rf"{START}({NUMBER})(?:′|'(?=[ -](?:x|by|\d|[a-z]{{4}})))(?! ?')",
            lambda match: _marked_foot(match) if "′" in match[0] or _is_quote_free(match) else match[0],
            "'′",
        ),
    )
)
"""What needs quotation marks."""

STOPPED = rules(
    (
        (rf"(?<=\d) ?[-–] ?(?={NUMBER}[ -]?(?:{_STOPPED})\.(?![A-Za-z0-9]))", " to ", "0 -–"),
        (
            r"(?=\d)(?<![\w.,])(\d{1,2}) ?(?:ft|foot|feet)\.?,? (\d{1,2}(?:\.\d)?) ?in(?:ches|ch)?\b\.?",
            _feet_and_inches,
            "0",
        ),
        (rf"{START}({NUMBER}) in(?= (?:wide|long|tall|deep|high|thick)\b)", r"\1 inches", "0"),
        (rf"{START}({NUMBER})([ -]?)({_STOPPED})\.(?![A-Za-z0-9])", _stopped, "0"),
    )
)
"""Units with full stops, some of which are abbreviations of other words, too."""

RULES = rules(
    (
        (
            rf"(?<=half|irds|rter|ters|hird|ghth|lves) +({alternatives(_LONG)})(?![A-Za-z0-9])",
            lambda m: f" {_UNITS[m[1]][0]} ",
        ),
        (rf"{START}({NUMBER}) ?(in)(?= ?x ?\d)", lambda m: f" {read_number(m[1])} inches ", "0"),
        (
            rf"{START}({NUMBER})([ -]?)({alternatives(_UNITS)})(?:/({PER})|(/)(?=\d))?"
            r"(?![A-Za-z°]|(?<!/)[\d/])(\.(?= [a-z]))?",
            _quantity,
        ),
        (rf"{START}({NUMBER})(?: ([a-z]{{3,15}}))? ?/ ?({_TIMES})(?![A-Za-z0-9])", _each, "/"),
        (r"(?<=[a-z]{3})/(km2|m2|mi2)\b", lambda m: f" per {PER_NAMES[m[1]]} ", "/"),
        (r"(?<=[a-z]{4})/(" + _TIMES.replace("|s", "") + r")(?![A-Za-z0-9/])", r" per \1", "/"),
        (rf"(?<![A-Za-z0-9./])({alternatives(_BARE)}) ?/ ?({PER})(?![A-Za-z0-9/])", _bare, "/"),
        (rf"(?<![A-Za-z'])({alternatives(_ALONE)})(?![A-Za-z'])", _named, "", _ALONE),
    )
)
