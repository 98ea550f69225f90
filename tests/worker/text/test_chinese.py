"""Chinese and mixed text as a careful Mandarin speaker reads it; whatever comes is spoken or refused, soon."""

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.auto import is_chinese
from worker.text.chinese.numerals import cardinal
from worker.text.speakable import MOST_SPOKEN, TextConfig, UnspeakableError, speakable

READINGS = Path(__file__).parent / "readings"
CHINESE, AUTO = TextConfig(normalizer="chinese"), TextConfig(normalizer="auto")
AUTO_CHINESE = TextConfig(normalizer="auto", language="zh")
HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
ACCEPTED = re.compile(rf"[A-Za-z .,?!';:()\n，。！？；：、（）“”‘’《》〈〉「」『』【】…—·々{HAN}-]*")
BESIDE_HAN = re.compile("(?<=[\u2e80-\uffef]) | (?=[\u2e80-\uffef])")
LONG, SECONDS = 5_000, 2.0
"""Characters, and more than any text of so many may take, on a busy machine."""

MOST_MILLISECONDS = 30
"""That a text of 1,000 characters may take on one core."""


def readings(folder: str) -> Iterator[tuple[str, list[str]]]:
    """What is written, and the ways in which it may be read."""
    for path in sorted((READINGS / folder).glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            written, *spoken = line.replace("\\n", "\n").split("\t")
            yield written, spoken


def heard(text: str) -> str:
    """A text without what nobody hears: blanks beside ideographs."""
    return BESIDE_HAN.sub("", text)


IN_CHINESE, MIXED = list(readings("chinese")), list(readings("mixed"))


@pytest.mark.parametrize("config", [CHINESE, AUTO_CHINESE], ids=["chinese", "auto"])
@pytest.mark.parametrize(("written", "spoken"), IN_CHINESE, ids=[written for written, _ in IN_CHINESE])
def test_chinese_is_read_as_a_person_would(written: str, spoken: list[str], config: TextConfig) -> None:
    assert heard(speakable(written, config).text) in map(heard, spoken)


@pytest.mark.parametrize(("written", "spoken"), MIXED, ids=[written for written, _ in MIXED])
def test_mixed_text_is_read_as_a_person_would(written: str, spoken: list[str]) -> None:
    assert heard(speakable(written, AUTO).text) in map(heard, spoken)


def test_words_stay_as_they_are() -> None:
    once = [speakable(written, CHINESE).text for written, _ in IN_CHINESE]
    assert [speakable(spoken, CHINESE).text for spoken in once] == once


@pytest.mark.parametrize(
    ("number", "words"),
    [
        *[("0", "零"), ("2", "二"), ("10", "十"), ("12", "十二"), ("20", "二十"), ("110", "一百一十")],
        *[
            ("101", "一百零一"),
            ("200", "两百"),
            ("222", "两百二十二"),
            ("1001", "一千零一"),
            ("1010", "一千零一十"),
        ],
        *[("2002", "两千零二"), ("10000", "一万"), ("12002", "一万二千零二"), ("100010", "十万零一十")],
        *[("1000000", "一百万"), ("20000000", "两千万"), ("100000001", "一亿零一"), ("120000000", "一亿二千万")],
        *[("1000000000000", "一万亿"), ("007", "零零七"), ("1" * 17, "幺" * 17)],
    ],
)
def test_cardinals(number: str, words: str) -> None:
    assert cardinal(number) == words


def test_every_cardinal_can_be_told_from_every_other() -> None:
    numbers = {*range(12_000), *random.Random(1).sample(range(10**12), 4000)}  # noqa: S311
    assert len({cardinal(str(number)) for number in numbers}) == len(numbers)


@pytest.mark.parametrize(
    ("text", "language", "spoken"),
    [
        ("2026", "zh", "二零二六"),
        ("2026", "en", "twenty twenty-six"),
        ("iPhone 15", "zh", "iPhone 十五"),
        ("iPhone 15", "en", "iPhone fifteen"),
        ("We meet at 3:30.", "zh", "We meet at three thirty."),
        ("我有3个。", "en", "我有三个。"),
        ("我有iPhone 15", "en", "我有 iPhone fifteen"),
        ("Room 12, in the hotel 北京", "auto", "Room twelve, in the hotel 北京"),
        ("Windows 11 and 微软，iPhone 15 and Siri", "auto", "Windows eleven and 微软，iPhone fifteen and Siri"),
        ("苹果的iPhone 15", "auto", "苹果的iPhone 十五"),
    ],
)
def test_the_language_decides_where_the_text_does_not(text: str, language: str, spoken: str) -> None:
    config = TextConfig.model_validate({"normalizer": "auto", "language": language})
    assert speakable(text, config).text == spoken


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("今天很热", True), ("iPhone 15很好用吗", True), ("He said 你好 and then he left.", False), ("2026", False)],
)
def test_tells_the_language_of_a_text(text: str, chinese: bool) -> None:
    assert is_chinese(text) is chinese


def test_traditional_characters_are_kept_or_folded() -> None:
    text = "我們在臺灣買了2本書，頭髮乾燥，皇后在後面。"
    assert speakable(text, CHINESE).text == "我們在臺灣買了兩本書，頭髮乾燥，皇后在後面。"
    folded = TextConfig(normalizer="auto", traditional="folded")
    with ThreadPoolExecutor(4) as threads:
        (spoken,) = set(threads.map(lambda _: speakable(text, folded).text, range(200)))
    assert spoken == "我们在台湾买了两本书，头发干燥，皇后在后面。"


def test_reports_what_it_drops() -> None:
    done = speakable("早上好😀，我在看アニメ。俺の名前 † Привет", CHINESE)
    assert done.text == "早上好，我在看 anime。俺的名前 Privet"
    assert done.warnings == [
        "characters that cannot be spoken were left out: 😀 †",
        "words in other letters were read as Latin ones: アニメ Привет",
    ]


@pytest.mark.parametrize("config", [CHINESE, AUTO_CHINESE, AUTO], ids=["chinese", "auto zh", "auto"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("？！……", r"^nothing to speak; accepted: Chinese"),
        ("\ud800。", r"^nothing to speak; accepted: Chinese"),
        ("，" + "1" * MOST_SPOKEN + "二", r"^\d+ characters once numbers and symbols are words; accepted: up to"),
    ],
)
def test_refuses_what_it_cannot_say(text: str, reason: str, config: TextConfig) -> None:
    with pytest.raises(UnspeakableError, match=reason):
        speakable(text, config)


def test_a_thousand_characters_take_little_time() -> None:
    text = "，".join(written for written, _ in (*IN_CHINESE, *MIXED))
    pieces = [text[start : start + 1000] for start in range(0, len(text) - 999, 1000)]
    for config in (CHINESE, AUTO):
        for piece in pieces[:2]:
            speakable(piece, config)
        start = time.process_time()
        for piece in pieces:
            speakable(piece, config)
        assert (time.process_time() - start) / len(pieces) < MOST_MILLISECONDS / 1000


def check(text: str, config: TextConfig) -> None:
    """Refused in one line, or in the accepted alphabet; in bounded time."""
    start = time.process_time()
    spoken, told = outcome(text, config)
    assert time.process_time() - start < SECONDS
    assert told.isprintable()
    if spoken:
        assert ACCEPTED.fullmatch(spoken)
        assert re.search(f"[A-Za-z{HAN}]", spoken)
    else:
        assert "; accepted: " in told


def outcome(text: str, config: TextConfig) -> tuple[str, str]:
    """What is spoken, and what is told about it."""
    try:
        done = speakable(text, config)
    except UnspeakableError as error:
        return "", str(error)
    return done.text, "".join(done.warnings)


PIECES = """
    1 2 0 9 10 2026 1998 3.14 1,000 13800138000 010- 12:30 3:2 % ‰ ℃ °C - – ~ ～ — / . , ， 。 ： : ¥ ￥ $ US$ km/h
    m² kg GB G1234 GPT-4 iPhone 第 年 月 日 号 个 点 分 万 亿 两 二 是 订单号 电话 打 + = × ÷ < > ^ √ π
    α ² ½ ① Ⅱ ７ Ａ （ ） ( ) “ ”
    # @ & * _ \\ | the Let's go meet at www. .com a@b.com 们 個 臺 。” 😀 é ß µ か 한 Я
"""
WRITING = st.one_of(st.sampled_from([*PIECES.split(), "\u200d", "\ufe0f", "\n", "\u3000"]), st.just(" "))
CONFIGS = st.sampled_from([CHINESE, AUTO, AUTO_CHINESE])


@given(st.one_of(st.text(max_size=60), st.lists(WRITING, max_size=14).map("".join)), CONFIGS)
@settings(max_examples=1000, deadline=None)
def test_any_text_is_spoken_or_refused(text: str, config: TextConfig) -> None:
    check(text, config)


@pytest.mark.parametrize("read", [CHINESE, AUTO], ids=["chinese", "auto"])
def test_long_attacks_end_soon(read: TextConfig) -> None:
    for piece in ATTACKS.split():
        check((piece.replace("_", " ") * LONG)[:LONG], read)


ATTACKS = """
    1 1, 1,111, 1. 1: 1/ 1- ¥1 - -_ a. A. aA a@ a.a@ http://a www. ( ((1) ' # #a % ½ ① _ . 第 第1、 1、 2 两
    订单号 电话1 打1 1_1 1个 1个/ 1° x^ 1万 一 ， 。” 0 0- 2026- 2026年 12: Let's_go_ go_1个 a_1 ，a_b
    +1_1 1米 1~ 1个~ 、1 😀 １ ：1 US$ $1k 1Mbps
"""
