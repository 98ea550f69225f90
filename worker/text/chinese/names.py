"""Numbers in idioms, names of things, ordinals; then the numbers that are left."""

import re

from worker.text.chinese.counters import COUNTER, TWO
from worker.text.chinese.numerals import cardinal, decimal, digits, telephone
from worker.text.rules import Match, rules

_COUNTED = rf"[多余餘来來几幾]|{COUNTER}"
_COUNT = re.compile(r"\d+")


def _idiom(match: Match) -> str:
    return f"{digits(match[1])}{match[2]}{digits(match[3])}"


def _ordinals(match: Match) -> str:
    return _COUNT.sub(lambda number: cardinal(number[0]), match[0])


def _number(match: Match) -> str:
    """A number that no other rule knows."""
    number: str = match[0]
    if number.count(".") == 3:
        return "点".join(map(digits, number.split(".")))
    if "." in number:
        return decimal(number)
    return telephone(number) if len(number) >= 12 and not number.endswith("0000") else cardinal(number)


IDIOMS = rules(
    (
        (r"(?<!\d)([13])([举言])2(?=[得语])", lambda m: f"{digits(m[1])}{m[2]}两"),
        (
            r"(?<!\d)([1-9])(?=[心清干石颜面上模刀草鸣推])([\u4e00-\u9fff])([1-9])(?=[意楚净鸟色刻下样断木人箭鼓])",
            _idiom,
        ),
        (r"(?<=[说数独略接])1(?=[不数无])|(?<!\d)1(?=[无不]2)", "一"),
        (r"(?<=[不数无连])2(?!\d)|(?<=一[不数无])2|(?<!\d)2(?=话不说|者必|百五|八月)", "二"),
    )
)
NAMES = rules(
    (
        (r"(?<![A-Za-z\d.])(\d{1,4})(?:st|nd|rd|th)(?![A-Za-z])", lambda m: f"第{cardinal(m[1])}"),
        (r"(?<![A-Za-z])([BCOP])2([BCOP])(?![A-Za-z\d])", r"\1 to \2"),
        (r"(?i)(?<![a-z])No\. ?(?=\d)", "第"),
        (r"第\d{1,9}(?:[、到至和]\d{1,9}){0,4}(?!\.\d)", _ordinals),
        (r"(?m)(?:^|(?<=[。；！？]))[ (（]{0,2}(\d{1,2})[.、)）](?!\d) ?", lambda m: f"{cardinal(m[1])}、"),
        (rf"(?<=[A-Za-z])( ?)(\d{{3,6}})(?![\d.]|{COUNTER})", lambda m: m[1] + digits(m[2])),
        (r"(?<=波音|空客)(\d{3})(?!\d)", lambda m: digits(m[1])),
        (r"(?<![\d.])(?:985|211)(?=高校|大学|院校|工程|[、和/])", lambda m: digits(m[0])),
        (
            r"(?<![\d.])(?:996|007)(?=工作|制|的)|(?<![\d.])(?:404|50[0-4])(?=错误|页面|报错)",
            lambda m: digits(m[0]),
        ),
        (rf"(?<![\d.])(?:666+|233+|555+|888+|5201?3?1?4?|1314|886)(?![\d.%]|{_COUNTED})", lambda m: digits(m[0])),
        (rf"(?<![\d.乘共约達达过超])(?:19|20)(?!00)\d\d(?![\d.]\d|\d|{_COUNTED})", lambda m: digits(m[0])),
    )
)
NUMBERS = rules(((TWO, "两"), (r"\d+(?:\.\d+)*", _number)))
