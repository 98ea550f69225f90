"""Lists of what people write, by kind, and what a careful person would say; what is read wrongly is named."""

import random
import re
import time
from pathlib import Path

import pytest

from worker.text.speakable import TextConfig, UnspeakableError, speakable

ENGLISH = TextConfig(normalizer="english")
READINGS = Path(__file__).parent / "readings" / "english"
KINDS = sorted(path.stem for path in READINGS.glob("*.tsv"))
MISSES: dict[str, set[str]] = {kind: set() for kind in KINDS}
"""What is known to be read otherwise than the lists say."""

LEAST, SHARE = 40, 0.98
MILLISECONDS = 30.0
"""Of the densest texts, for 1 000 characters, on a machine that does much else."""


def listed(kind: str) -> list[tuple[str, list[str]]]:
    """What is written, and the readings that are right, the best first."""
    rows = (line.split("\t") for line in (READINGS / f"{kind}.tsv").read_text(encoding="utf-8").splitlines())
    return [(written.replace("\\n", "\n"), readings) for written, *readings in rows]


def heard(text: str) -> str:
    """What can be heard of a text: its words."""
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("-", " ")))


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_people_write(kind: str) -> None:
    rows = listed(kind)
    wrong = {
        written: (said, readings[0])
        for written, readings in rows
        if heard(said := speakable(written, ENGLISH).text) not in map(heard, readings)
    }
    assert len(rows) >= LEAST
    assert {written: pair for written, pair in wrong.items() if written not in MISSES[kind]} == {}
    assert set(wrong) == MISSES[kind]
    assert 1 - len(wrong) / len(rows) >= SHARE


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_words_stays(kind: str) -> None:
    said = [speakable(written, ENGLISH).text for written, _ in listed(kind)]
    assert [speakable(text, ENGLISH).text for text in said] == said


WEB = """
    <p> </p> <br> <b>bold</b> <a href="https://example.com/a?b=1&c=2">link</a> &amp; &nbsp; &lt; &#39; <!-- x
    --> <li> # ## - * > | --- === ``` `code` **bold** _it_ [text](http://x.y) ![alt](z.png) [1] [^2] ~~no~~
    {{x}} $x^2$ \\n <break time="1s"/> <speak> </speak> <script> <div class= 50% $5.99 1,234.56 10:30
    2026-11-29 +1-555-010-9999 #tag @user :) <3 😀 👩‍👩‍👧 ❤️ LOL OMG!!! soooo u r gr8 w/ b/c idk ¯\\_(ツ)_/¯
    https://t.co/x www.a.com me@x.org C++ C:\\x — – … “quoted” ‘so’ café Привет 谢谢 ñ ½ x² → ™ Dr. St. U.S.
    e.g. IV XIV Chapter 5'10" 12" 3/4 9/11 24/7 km/h -5
"""
PIECES = WEB.split()


def outcome(text: str) -> str:
    """A refusal in one line, or nothing."""
    try:
        said = speakable(text, ENGLISH)
    except UnspeakableError as error:
        return str(error)
    assert re.fullmatch(r"[A-Za-z .,?!';:-]+", said.text)
    assert "\n" not in "".join(said.warnings)
    return ""


def test_random_strings_are_read_or_refused_in_one_line() -> None:
    draw = random.Random(19)  # noqa: S311
    for _ in range(10_000):
        text = "".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(1, 12)))
        assert "\n" not in outcome(text)


def test_pages_and_chats_are_read() -> None:
    draw = random.Random(20)  # noqa: S311
    for _ in range(2_000):
        text = "".join(
            draw.choice(PIECES) + draw.choice((" ", " ", "", "\n")) for _ in range(draw.randrange(3, 25))
        )
        assert outcome(f"{text} word") == ""


@pytest.mark.parametrize("size", [300, 1000])
def test_reading_takes_little_time(size: int) -> None:
    lines = [written for kind in KINDS for written, _ in listed(kind)]
    prose = "It was the first cold morning of the year, and the harbour lay still under a thin grey mist. "
    text = "".join(f"{prose}{line} " for line in lines)
    pieces = [text[at : at + size] for at in range(0, 20_000, size)]
    start = time.process_time()
    for piece in pieces:
        outcome(piece)
    assert (time.process_time() - start) / (len(pieces) * size) * 1e6 < MILLISECONDS


SIGNS = [*"0123456789", *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", *"–−—…°′″²½₂√≤±×→♥★№Ⅳ\u200b\u0301\U0001f600я谢ツλʃ"]


@pytest.mark.slow
@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("beside", ["", "1 ", "A."])
def test_one_sign_many_times_ends_soon(sign: str, beside: str) -> None:
    text = ((sign + beside) * 20_000)[:20_000]
    start = time.process_time()
    assert "\n" not in outcome(text)
    assert time.process_time() - start < 8
