"""Numbers that are not quantities: phones, codes, versions, names with digits, ordinals; then all others."""

import re
from collections.abc import Mapping

from worker.text.english.abbreviations import STATES
from worker.text.english.numerals import cardinal, digits, ordinal, pairs, plural, read_number
from worker.text.english.patterns import NUMBER, alternatives, before
from worker.text.rules import Match, rules

_NAMED = "room|route|flight|highway|interstate|boeing|airbus|suite|apartment|gate|bus|channel|porsche|terminal|box"
_PROGRAMS = (
    "Python|Java|Node|PHP|Ruby|Go|Rust|Ubuntu|Debian|Fedora|Android|iOS|macOS|Windows|Linux|Django|Rails|Postgres|"
    "PostgreSQL|MySQL|Redis|CUDA|Kubernetes|Docker|Chrome|Firefox|Safari|[Vv]ersion|[Rr]elease"
)
_BIBLE_NAMES = """
    Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Ruth Samuel Kings Chronicles Ezra Nehemiah
    Esther Job Psalm Psalms Proverbs Ecclesiastes Isaiah Jeremiah Lamentations Ezekiel Daniel Hosea Joel Amos
    Obadiah Jonah Micah Nahum Habakkuk Zephaniah Haggai Zechariah Malachi Matthew Mark Luke John Acts Romans
    Corinthians Galatians Ephesians Philippians Colossians Thessalonians Timothy Titus Philemon Hebrews James
    Peter Jude Revelation Quran Surah
"""
_BIBLE = "|".join(_BIBLE_NAMES.split())
_SCALES: Mapping[str, str] = {"K": "thousand", "k": "thousand", "M": "million", "B": "billion", "bn": "billion"}


_EXTENSION = re.compile(r"x|ext\.?")


def _digit_groups(match: Match) -> str:
    plus = " plus " if match[0].startswith("+") else " "
    number, *extension = _EXTENSION.split(match[0])
    groups = "".join(char if char.isdigit() else " " for char in number).split()
    return plus + ", ".join(map(digits, groups)) + "".join(f" extension {digits(it)}" for it in extension) + " "


def _verse(match: Match) -> str:
    """ "Luke two one to twenty" """
    last = f" to {cardinal(match[4])}" if match[4] else ""
    return f"{match[1]} {cardinal(match[2])} {cardinal(match[3])}{last} "


def _long_number(match: Match) -> str:
    whole, _, part = match[0].rpartition(".")
    return f" {cardinal(whole)} point {digits(part)} " if whole else f" {digits(part)} "


def _spaced_thousands(match: Match) -> str:
    return match[0].replace(" ", "")


def _internet(match: Match) -> str:
    parts = match[1].split(".")
    if any(int(part) > 255 for part in parts):
        return match[0]
    port = f" colon {pairs(match[2][1:])}" if match[2] else ""
    return f" {' dot '.join(str(cardinal(str(int(part)))) for part in parts)}{port} "


def version(number: str) -> str:
    """``3.11`` as "three point eleven", ``22.04`` as "twenty-two point zero four"."""
    return " point ".join(map(cardinal, number.split(".")))


def _named_version(match: Match) -> str:
    name = "version" if match[1] == "v" else match[1]
    return f" {name} {version(match[2])} "


def _scaled(match: Match) -> str:
    return f" {read_number(match[1])} {_SCALES[match[2]]} "


def _ordinal(match: Match) -> str:
    return f" {ordinal(match[1])} "


def _vanity(match: Match) -> str:
    """A phone number that ends in words: ``1-800-FLOWERS``."""
    groups = match[0].split("-")
    return " " + ", ".join(digits(group) if group.isdigit() else group.lower() for group in groups) + " "


def _spelt(match: Match) -> str:
    """Digits one by one behind a word that says what they are."""
    return f"{match[1]}{digits(match[2])}"


_STATE_ENDS = re.compile(rf"\b(?:{alternatives([*STATES, *STATES.values(), 'DC'])}),?$")


def _zip(match: Match) -> str:
    """A postal code behind the name of a state."""
    return f" {digits(match[1])}" if _STATE_ENDS.search(before(match, 18)) else match[0]


def _alone(match: Match) -> str:
    return digits(match[0])


def _named(match: Match) -> str:
    """A number by which a thing is called."""
    return f"{match[1].rstrip('#')}{pairs(match[2])}"


def _model(match: Match) -> str:
    """ "A380" and "RTX 4090", but not "A 100"."""
    name = match[1].rstrip("- ")
    if match[1].endswith(" ") and name not in ("RTX", "GTX", "RFC"):
        return match[0]
    return f"{name} {pairs(match[2])} "


def _many(match: Match) -> str:
    """ "B-52s" """
    return f" {plural(cardinal(match[1]))} "


def _ers(match: Match) -> str:
    """ "forty-niners" """
    words = cardinal(match[1])
    return f" {words}{'rs' if words.endswith('e') else 'ers'} "


def _jet(match: Match) -> str:
    """ "737-800" """
    return f" seven {cardinal(match[1] + '7')} {cardinal(match[2])} hundred "


EARLY = rules(
    (
        (
            rf"\b({_BIBLE}) (\d{{1,3}}):(\d{{1,3}})(?:[-–](\d{{1,3}}))?(?![\d:])",
            _verse,
            "0 :",
            _BIBLE.split("|"),
        ),
        (r"(?=\d)(?<![\w.,])(\d{3})\(([a-z])\)", lambda m: f" {pairs(m[1])} {m[2]} ", "0 ( )"),
        (r"(?:\d{1,15}\.)?\d{16,}", _long_number, "0"),
        (r"(?<![\w.,$£€¥₹-])(?!\d{4,14}000)\d{10,15}(?![\w,]|\.\d)", _long_number, "0"),
        (r"(?=\d)(?<![\w.,-])\d{4}(?:[ -]\d{4}){2,4}(?![\w-]|[.,]\d)", _digit_groups, "0"),
        (r"(?<![\w.,-])0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?![\w-]|[.,]\d)", _digit_groups, "0"),
        (r"(?=\d)(?<![\w.,-])[1-9]\d{0,2}(?:\.\d{3}){2,4}(?![\w.])", lambda m: m[0].replace(".", ""), "0"),
        (r"(?<![\w.])1-(?:800|888|877|900)-[A-Z]{4,10}(?:-[A-Z]{3,10})?\b", _vanity, "0 -"),
        (
            r"(?=[\d(+])(?<![\w.])(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
            r"(?: ?(?:x|ext\.?) ?\d{1,6})?(?!\w)",
            _digit_groups,
            "0",
        ),
        (r"\+\d{1,3}(?:[ .-]?\(?\d{2,5}\)?){2,5}(?!\w)", _digit_groups, "0 +"),
        (
            r"(?i)(\b(?:dial|phone|text|ring|tel\.?|telephone|call|calls|calling|dialed|called) )(\d{7,11}|\d{3})"
            r"(?![\w.,:/-]\d|\w| (?:people|times|of))",
            _spelt,
            "0",
            ["dial", "phone", "text", "ring", "tel", "telephone", "call", "calls", "calling", "dialed", "called"],
        ),
        (r"\b911(?= (?:operator|call|dispatch|emergency|caller|service|system|center))", _alone, "0"),
        (r"(?<= or )(?:112|999|911)\b(?!,\d)", _alone, "0"),
        (
            r"(?<![\w.,$£€#-])(?<!sche )(?<!rera )(?<!oom )(?<!ight )(?<!oute )911(?=[.,;!?]?(?: [A-Z]|\s*$))",
            _alone,
            "0",
        ),
        (
            r"(?i)(\b(?:zip|postal|area|pin|access|country|dialing|security)(?: ?code)?:? (?:is )?)"
            r"(\d{3,6}(?:-\d{4})?)\b",
            _spelt,
            "0",
            ["zip", "postal", "area", "pin", "access", "country", "dialing", "security"],
        ),
        (r" (\d{5}(?:-\d{4})?)(?!\d|[.,]\d)", _zip, "0"),
        (r"(?=\d)(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(:\d{2,5})?(?!\w|\.\d)", _internet, "0"),
    )
)
GROUPS = rules(
    (
        (r"(?<![\w.,-])(?:\d{3}-\d{4}|\d{5}-\d{4}|\d{1,6}(?:-\d{1,6}){2,6})(?![\w-])", _digit_groups, "-"),
        (r"(?=\d)(?<![\w.,/-])[1-9]\d{0,2}(?: \d{3}){2,4}(?![\d]|[.,]\d{1,2}\d|-\d)", _spaced_thousands, "0"),
        (
            r"(?<![\w.,/-])(?<!\d )[1-9]\d{0,2} \d{3}(?= ?(?:[a-z%°]|€))(?! (?:to|and|or|x|in|of|at|on|for)\b)",
            _spaced_thousands,
            "0",
        ),
    )
)
"""Groups of digits, once dates are read."""

VERSIONS = rules(
    (
        (rf"\b({_PROGRAMS}) v?(\d{{1,4}}(?:\.\d{{1,4}}){{1,5}})(?![\w%]|\.\d)", _named_version, "0"),
        (r"(?<![A-Za-z0-9])(v)\.? ?(\d{1,4}(?:\.\d{1,6}){0,5})(?!\w|\.\d)", _named_version, "0"),
        (r"(?=\d)(?<![\w.,])\d{1,6}(?:\.\d{1,6}){2,8}(?!\.?\d)", lambda m: f" {version(m[0])} ", "0"),
        (r"\b7([0-8])7-([1-9])00\b", _jet, "0 -"),
        (
            rf"(?i)(\b(?:{_NAMED}) (?:no\. |number |#)?)(\d{{3,4}})(?![\w.,:/-]*\d|\w)",
            _named,
            "0",
            _NAMED.split("|"),
        ),
        (r"(?<![A-Za-z0-9-])((?:[A-Z]{1,2}|RTX|GTX|RFC)[ -]?)(\d{3,4})(?![\w.,:/%-]*\d|\w)", _model, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,3}(?:,\d{3}){1,5}|\d{1,15})(?:st|nd|rd|th|ST|ND|RD|TH)\b", _ordinal, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,6}(?:\.\d{1,3})?)(bn)(?![A-Za-z0-9])", _scaled, "0"),
        (r"(?<![\w.,])(?<![A-Z] )(\d{1,6}(?:\.\d{1,3})?)([MB])(?= [a-z]|\+)", _scaled, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,4}\.\d{1,3}|\d{2,4}(?=M))([MB])(?![A-Za-z0-9])", _scaled, "0"),
        (r"(?=\d)(?<![\w.,])(\d{3,4})p\b", lambda m: f" {pairs(m[1])} p ", "0"),
        (r"(?=\d)(?<![\w.,])(\d{2,6}|\d{1,3}\.\d{1,2})([Kk])(?![A-Za-z0-9])", _scaled, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,4})'?s\b", _many, "0"),
        (r"(?<=[A-Z] )(\d{1,4})'?s\b", _many, "0"),
        (r"(?=\d)(?<![\w.,])(\d{1,3})ers\b", _ers, "0"),
        (r"(?<=\d)([A-Z])s\b", r" \1's", "0"),
    )
)

RULES = rules(((NUMBER, lambda m: f" {read_number(m[0])} ", "0"),))
"""What is left, as numbers."""
