"""The door: Chinese text, with Latin words inside, as what a Mandarin speaker says."""

import re
from dataclasses import replace

from worker.text.chinese.addresses import ADDRESS, spell
from worker.text.chinese.characters import HAN, as_written, fold
from worker.text.chinese.counters import COUNTER, TWO
from worker.text.chinese.dates import DATES
from worker.text.chinese.numerals import Match, cardinal, decimal, digits, rules, telephone
from worker.text.chinese.phones import PHONES
from worker.text.chinese.quantities import QUANTITIES
from worker.text.chinese.signs import MARKS, SCORES, SIGNS
from worker.text.spoken import Spoken, UnreadableError

_FULL_WIDTH = str.maketrans(",.?!;:", "，。？！；：")
_COUNTED = rf"[多余餘来來几幾]|{COUNTER}"


def read_aloud(text: str) -> Spoken:
    """The words of a text without markup.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    words = in_words(text)
    return replace(words, text=spoken(words.text))


def in_words(text: str) -> Spoken:
    """The same for a piece of a text, its blanks and marks as they come."""
    folded = fold(text)
    words = folded.text
    for pattern, written in RULES:
        words = pattern.sub(written, words)
    return replace(folded, text=as_written(words, text))


def spoken(words: str) -> str:
    """Words with the blanks and marks that belong between them.

    Raises:
        UnreadableError: There is nothing to speak.
    """
    words = _tidy(words)
    if not _SPOKEN.search(words):
        raise UnreadableError("nothing to speak")
    return words


_SPOKEN = re.compile(f"[A-Za-z{HAN}]")


def _number(match: Match) -> str:
    """A number that no other rule knows."""
    number: str = match[0]
    if number.count(".") == 3:
        return "点".join(map(digits, number.split(".")))
    if "." in number:
        return decimal(number)
    return telephone(number) if len(number) >= 12 and not number.endswith("0000") else cardinal(number)


def _tidy(text: str) -> str:
    """One blank between words and none beside ideographs' marks; marks after an ideograph are full-width."""
    text = re.sub(rf"\((?=[^()]{{0,80}}[{HAN}])", "（", text)
    text = re.sub(rf"(?<=[{HAN}。！？])\)", "）", text)
    text = re.sub(rf"(?<=[{HAN}）”》」』]) ?[,?!;:]+", lambda match: match[0].strip().translate(_FULL_WIDTH), text)
    text = re.sub(rf"(?<=[{HAN}）”])\.(?![\w.])", "。", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n[ \n]*", "\n", text)
    text = re.sub(r" (?=[,.?!;:](?!\w))", "", text)
    text = re.sub(r"(?<=[，。！？；：、（(“‘《「『]) | (?=[，。！？；：、）)”’》」』])", "", text)
    return _MARKS_RUN.sub(_strongest, text).strip(" \n，、；：,;:")


_MARKS_RUN = re.compile(r"[，。！？；：、][ ，。！？；：、,.!?;:]*[，。！？；：、,.!?;:]")


def _strongest(match: Match) -> str:
    marks = match[0].translate(_FULL_WIDTH)
    return next((mark for mark in "？！。" if mark in marks), marks[0])


_IDIOMS = rules(
    (
        r"(?<!\d)([1-9])(?=[心清干石颜面上模刀草鸣推])([\u4e00-\u9fff])([1-9])(?=[意楚净鸟色刻下样断木人箭鼓])",
        lambda m: _idiom(m),
    ),
    (r"(?<=[说数独略接])1(?=[不数无])|(?<!\d)1(?=[无不]2)", "一"),
    (r"(?<=[不数无连])2(?!\d)|(?<=一[不数无])2|(?<!\d)2(?=话不说|者必|百五|八月)", "二"),
)


def _idiom(match: Match) -> str:
    return f"{digits(match[1])}{match[2]}{digits(match[3])}"


_COUNT = re.compile(r"\d+")
_NAMES = rules(
    (r"(?<![A-Za-z\d.])(\d{1,4})(?:st|nd|rd|th)(?![A-Za-z])", lambda m: f"第{cardinal(m[1])}"),
    (r"(?<![A-Za-z])([BCOP])2([BCOP])(?![A-Za-z\d])", r"\1 to \2"),
    (r"(?i)(?<![a-z])No\. ?(?=\d)", "第"),
    (r"第\d{1,9}(?:[、到至和]\d{1,9}){0,4}(?!\.\d)", lambda m: _COUNT.sub(lambda n: cardinal(n[0]), m[0])),
    (r"(?m)(?:^|(?<=[。；！？]))[ (（]{0,2}(\d{1,2})[.、)）](?!\d) ?", lambda m: f"{cardinal(m[1])}、"),
    (rf"(?<=[A-Za-z])( ?)(\d{{3,6}})(?![\d.]|{COUNTER})", lambda m: m[1] + digits(m[2])),
    (r"(?<=波音|空客)(\d{3})(?!\d)", lambda m: digits(m[1])),
    (r"(?<![\d.])(?:985|211)(?=高校|大学|院校|工程|[、和/])", lambda m: digits(m[0])),
    (r"(?<![\d.])(?:996|007)(?=工作|制|的)|(?<![\d.])(?:404|50[0-4])(?=错误|页面|报错)", lambda m: digits(m[0])),
    (rf"(?<![\d.])(?:666+|233+|555+|888+|5201?3?1?4?|1314|886)(?![\d.%]|{_COUNTED})", lambda m: digits(m[0])),
    (rf"(?<![\d.乘共约達达过超])(?:19|20)(?!00)\d\d(?![\d.]\d|\d|{_COUNTED})", lambda m: digits(m[0])),
)
_NUMBERS = rules((TWO, "两"), (r"\d+(?:\.\d+)*", _number))
RULES = (
    *rules(
        (rf"(?<=[{HAN}]) +(?=\d)|(?<=\d) +(?=[{HAN}])", ""),
        (ADDRESS.pattern, lambda m: f" {spell(m)} "),
        (r"(?<![\d.,])\d{1,3}(?:,\d{3}){1,6}(?![\d,])", lambda m: m[0].replace(",", "")),
    ),
    *SCORES,
    *PHONES,
    *DATES,
    *_IDIOMS,
    *QUANTITIES,
    *SIGNS,
    *_NAMES,
    *_NUMBERS,
    *MARKS,
)
