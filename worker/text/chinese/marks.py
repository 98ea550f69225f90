"""Marks: those with a word, and which of the others stand in the end."""

import re

from worker.text.chinese.characters import GREEK, HAN
from worker.text.chinese.numerals import cardinal
from worker.text.rules import Match, rules

MARKS = rules(
    (
        (r"#([^#\s]{1,40})#", r"\1，"),
        (r"#(\d{1,4})", lambda m: f"{cardinal(m[1])}号"),
        (r"(?<=\S) ?& ?(?=\S)", "和"),
        (rf"@(?=[{HAN}A-Za-z])", "艾特"),
        (rf"(?<=[{HAN}]) ?\+ ?(?=[{HAN}])", "加"),
        (rf"(?<=[{HAN}])/(?=[{HAN}])", "、"),
        (rf"(?<=[{HAN}])[-–](?=[{HAN}])| ?--+ ?| [-–] ", "，"),
        (r"%", "百分号"),
        (r"‰", "千分号"),
        (r"°", "度"),
        (r"¥", "元"),
        (r"\$", "美元"),
        (r"€", "欧元"),
        (r"£", "英镑"),
        *((f"{letter}-?", name) for letter, name in GREEK.items()),
        (r"(?<![A-Za-z])[-']|[-'](?![A-Za-z])|[–\"@#&*_^|\\/<>~～\[\]{}`=+₩₹¢∶÷′″]+", " "),
    )
)

_FULL_WIDTH = str.maketrans(",.?!;:", "，。？！；：")
_RUN = re.compile(r"[，。！？；：、][ ，。！？；：、,.!?;:]*[，。！？；：、,.!?;:]")


def tidy(text: str) -> str:
    """One blank between words and none beside ideographs' marks; marks after an ideograph are full-width."""
    text = re.sub(rf"\((?=[^()]{{0,80}}[{HAN}])", "（", text)
    text = re.sub(rf"(?<=[{HAN}。！？]) ?\)", "）", text)
    text = re.sub(rf"(?<=[{HAN}）”》」』]) ?[,?!;:]+", lambda match: match[0].strip().translate(_FULL_WIDTH), text)
    text = re.sub(rf"(?<=[{HAN}）”])\.(?![\w.])", "。", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n[ \n]*", "\n", text)
    text = re.sub(r" (?=[,.?!;:](?!\w))", "", text)
    text = re.sub(r"(?<=[，。！？；：、（(“‘《「『]) | (?=[，。！？；：、）)”’》」』])", "", text)
    return _RUN.sub(_strongest, text).strip(" \n，、；：,;:")


def _strongest(match: Match) -> str:
    marks = match[0].translate(_FULL_WIDTH)
    return next((mark for mark in "？！。" if mark in marks), marks[0])
