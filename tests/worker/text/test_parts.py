"""Texts in parts: where a careful reader would pause, and what holds for every text, hostile ones as well."""

import random
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.text.english import read_aloud
from worker.text.groups import SPOKEN
from worker.text.measure import spoken_length
from worker.text.parts import MOST_PAUSE, Break, TextPart, pause_after, split

SECONDS = 20.0
"""More than a text of the greatest length may take, on a busy machine."""

ENGLISH = [
    "Dr. Smith went to Washington.|He arrived at 5 p.m.|He left at 6 p.m. on Monday.",
    "Pi is 3.14, roughly.|See e.g. this page.|The U.S. Army is big.",
    "J. R. R. Tolkien wrote it.|So did J.K. Rowling.",
    "Wait… what?!|Yes.|No!",
    "Wait... what?|No...|Really.",
    "“Come in. Sit down,” he said.|She did.",
    '"Stop!" he cried.|She did not.',
    'He said "go."|Then she left.',
    "“Really?”|“Yes.”|They laughed.",
    "(It rained.)|The end.",
    "He lives in the U.S.|He works for Acme Inc.|It is nice.",
    "Mr. and Mrs. Jones vs. the State of St. Louis.|Nobody won.",
    "It costs $3.50.|That is 1,234.56 too much.",
    "Visit https://example.com/a.b?c=1.5 today.|Then call.",
    "Write to me@example.com.|Thanks!",
    "Prof. Lee, Ph.D., teaches physics, chemistry, etc. to students.|They like it.",
    "No. 5 is alive.|Fig. 3 shows it.|See p. 12.",
    "1. Milk and eggs.|2. Bread and butter.",
    "Version 1.2.3 is out.|Get it from python.org now.",
    "The temperature was -5.5 degrees.|It fell.",
    "Dinner is at 7 P.M.|Be there.",
    "He was born on Jan. 5, 1990.|She came later.",
    "I came; I saw; I won.|Then I slept.",
    "Is this it?|— Yes, it is.",
    "Gen. Lee met Sen. Warren on Feb. 3.|They talked about vol. 2, ch. 5.",
    "Apple Inc. was founded in 1976.|It is based in the U.S. and sells phones.",
    "He shouted: “Run!” and ran.|I followed.",
    "Go to Oxford St. and turn left.|Then stop.",
]
CHINESE = [
    "今天天气很好。|我们去公园吧！|你去吗？",
    "价格是3.50元。|真的吗？！|是的……好吧。",
    "「我不知道。」她说。|然后她走了。",
    "“走吧！”他喊道。|大家都走了。",
    "他问：“你好吗？我很好。”|然后走了。",
    "第一，吃饭；第二，睡觉。|没有第三。",
    "会议在12:30开始。|请准时！",
    "（真的。）|我们走。",
    "“你好。”|“你好！”|他们握手。",
    "《红楼梦》很长。|你读过吗？",
    "老师问：“谁来回答？”小明说：“我！”|大家笑了。",
    "“别走……”她说，“我怕。”|他留下了。",
]
MIXED = [
    "我用Python写程序。|It works!|太好了。",
    "然后我去了U.S.看Dr. Smith。|他很好。",
    "GPT-3.5比较好。|GPT-4更好。",
    "请访问https://example.com/a.html。|谢谢！",
    "他说：“OK, let's go.”|然后走了。",
    "iPhone 15 Pro卖9,999元。|Too much!",
    "Mr. Wang说：“你好。”|He smiled.",
    "She said 你好。|Then she left.",
    "今天的meeting在3 p.m.开始。|Don't be late.",
]
BLOCKS = [
    ("Chapter One\n\nIt was a dark night.\n\nIt rained.", "HEADING PARAGRAPH PARAGRAPH"),
    ("Chapter One\nIt was a dark and stormy night.", "HEADING PARAGRAPH"),
    ("It was a dark and\nstormy night. Nobody\nslept.", "SENTENCE PARAGRAPH"),
    ("It was dark.\r\n\r\nIt rained.", "PARAGRAPH PARAGRAPH"),
    (
        "第一章 天黑了\n\u3000\u3000那天很冷。没有人。\n\u3000\u3000我们走了。",
        "HEADING SENTENCE PARAGRAPH PARAGRAPH",
    ),
    ("那天很冷，没有人在街上，只有风在吹，一直吹到天亮，天亮以后也没有人。\n我们走了。", "PARAGRAPH PARAGRAPH"),
    ("Dear Anna,\n\nthank you.", "PARAGRAPH PARAGRAPH"),
    ("The end.\n\n* * *\n\nThanks", "PARAGRAPH PARAGRAPH"),
    ("Two roads diverged in a yellow wood,\nAnd sorry I could not travel both\nAnd be one traveler.", "PARAGRAPH"),
]
LONG = [
    (60, "We went to the old shop at the end of the long street,|where nothing was for sale on that day."),
    (120, "The meeting starts on May 3, 2026 at 5 p.m. in Room 12,|and nobody from New York is late."),
    (60, "“It rained all day. We did not mind it at all.|Then the sun came out and we went home,” he said."),
    (40, "Nobody told us the name of the man|that Dr. J. R. R. Tolkien met in town."),
    (60, "It is long—far too long for anybody who listens to it—|and it goes on; it does not seem to end."),
    (90, "Our address is https://example.com/a/long/address.html|if you want to write to us."),
    (90, "他在公园里散步的时候看到了很多漂亮的花，|也看到了从北京来的老朋友。"),
    (90, "“今天的天气真的非常好。我们一起去公园吧。|那里有很多花和树，也有很多人，”他说。"),
    (50, "我昨天在商店里买了一台|iPhone和一本很厚的书"),
]


def parts_of(marked: str) -> list[str]:
    return [part.strip() for part in marked.split("|")]


def source(marked: str) -> str:
    """The text of an expectation: Latin sentences are separated by blanks."""
    return re.sub(r"(?<=[!-~”“—])\|(?=[!-~“—])", " ", marked).replace("|", "")


def texts(parts: list[TextPart]) -> list[str]:
    return [part.text for part in parts]


@pytest.mark.parametrize("marked", [*ENGLISH, *CHINESE, *MIXED])
def test_sentences(marked: str) -> None:
    assert texts(split(source(marked), longest=1000)) == parts_of(marked)


@pytest.mark.parametrize(("longest", "marked"), LONG)
def test_long_sentences(longest: int, marked: str) -> None:
    assert texts(split(source(marked), longest, shortest=10)) == parts_of(marked)


@pytest.mark.parametrize(("text", "breaks"), BLOCKS)
def test_paragraphs_and_headings(text: str, breaks: str) -> None:
    assert " ".join(part.after.name for part in split(text, 1000)) == breaks


def test_short_sentences_share_a_part_and_only_they() -> None:
    text = "No. Yes, of course. Who is there? It is a very long way from here to the town. Go. Come."
    assert texts(split(text, longest=100, shortest=30)) == [
        "No. Yes, of course. Who is there?",
        "It is a very long way from here to the town. Go. Come.",
    ]
    assert len(split(text, longest=100)) == 6


def test_a_short_neighbour_is_no_reason_for_a_tiny_rest() -> None:
    """Where a short sentence fits nowhere whole, the two are cut into about equal pieces."""
    clause = "and so we went on and on until the evening, "
    parts = split("Well, no. " + (clause * 9)[:-2] + ".", longest=400, shortest=40)
    assert [part.after for part in parts] == [Break.CLAUSE, Break.PARAGRAPH]
    assert min(len(part.text) for part in parts) > 150


def test_pauses() -> None:
    text = (
        "[pause:1s] One. [pause:1.5s] Two, [PAUSE:250ms][pause: 1 s] three [pause:0s] four.\n\n"
        "[pause:2s]\n\nFive. [pause:9s][pause:9s]"
    )
    parts = split(text, 400, 100)
    assert [(part.text, part.after.name, part.pause) for part in parts] == [
        ("One.", "SENTENCE", 1.5),
        ("Two,", "CLAUSE", 1.25),
        ("three", "NONE", 0.0),
        ("four.", "PARAGRAPH", 2.0),
        ("Five.", "PARAGRAPH", MOST_PAUSE),
    ]
    assert [part.before for part in parts] == [1.0, 0, 0, 0, 0]
    assert [pause_after(part) for part in parts] == [1.5, 1.25, 0.0, 2.0, MOST_PAUSE]


@pytest.mark.parametrize(
    "markup", ["[pause:11s]", "[pause:-1s]", "[pause:1]", "[pause]", "[pause:s]", "[break:1s]"]
)
def test_other_markup_is_text(markup: str) -> None:
    text = f"One {markup} two."
    assert texts(split(text, 400)) == [text]


def test_default_pauses_by_what_stands_between() -> None:
    parts = split("Title\n\nFirst sentence here. Second one.\n\nThird.", 400)
    assert [pause_after(part) for part in parts] == [0.8, 0.35, 0.7, 0.7]
    parts = split("one two three four five six, seven eight nine ten eleven", 40)
    assert [pause_after(part) for part in parts] == [0.15, 0.7]
    parts = split("one two three four five six seven eight nine ten eleven", 40)
    assert pause_after(parts[0]) == 0


@pytest.mark.parametrize("text", ["", " \n ", "...", "[pause:1s]", "\n\n***\n\n[pause:1s]—", "“”", "🎉"])
def test_nothing_to_speak(text: str) -> None:
    assert split(text, 400) == []


@pytest.mark.parametrize(("longest", "shortest"), [(0, 0), (10, 6), (10, -1)])
def test_limits_that_contradict_each_other(longest: int, shortest: int) -> None:
    with pytest.raises(ValueError, match=f"^parts of {shortest} to {longest}; accepted: "):
        split("Hello.", longest, shortest)


READ_ALIKE = [
    "He left at 5 p.m. He came back at 7 a.m. on Jan. 5, 1990. It was cold.",
    "The U.S. Army paid $3.5 million. Dr. J. R. R. Smith, Ph.D., got 3.14 % of it, i.e. nothing much.",
    "She lives in the U.S. He works for Acme Inc. They met in 1984. See Fig. 3, e.g. its left half.",
    "What?! No… “Yes,” he said. It was 12:30. The U.K. is far. The score was 3-2. He ran 5 km.",
    "Prices rose 1,234.56 dollars. That is too much. Call 555-123-4567 now. Write to me@example.com. Thanks.",
    "First line.\n\nSecond line is here. It is No. 5. The 1990s were fun. It is 5/3/2026 today.",
]


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", read_aloud(text).text)


@pytest.mark.parametrize("text", READ_ALIKE)
@pytest.mark.parametrize("shortest", [0, 20])
def test_parts_are_read_as_in_the_whole(text: str, shortest: int) -> None:
    parts = split(text, 200, shortest)
    assert len(parts) > 1
    assert [word for part in parts for word in words(part.text)] == words(text)


@pytest.mark.parametrize("text", READ_ALIKE)
def test_spoken_length_is_about_that_of_the_words(text: str) -> None:
    assert 0.9 < spoken_length(text) / len(read_aloud(text).text) < 2


# What holds for every text

MARKS = '.,!?…;—-()“”"「」，。！：\u0301🎉*'
WRITTEN = ("a", "b", "I", "word", "Dr.", "e.g.", "U.S.", "3.14", "1,000", "x=1", "好", "我们", "http://a.b/c?d=e")
BLANKS = (" ", " ", " ", "\n", "\n\n", "\r\n", "\u3000", "\xa0", "\u2028", "\x85")
PIECES = st.sampled_from([*MARKS, *WRITTEN, *BLANKS, "x" * 50, "好" * 40, "[pause:1s]", "[pause:"])
TEXTS = st.lists(PIECES, max_size=120).map("".join)


def check(text: str, longest: int, shortest: int, measure: Callable[[str], int]) -> list[TextPart]:
    """What holds for all parts; returns them."""
    parts = split(text, longest, shortest, measure)
    position = 0
    for part in parts:
        assert position <= part.start < part.end <= len(text)
        assert part.text == text[part.start : part.end] == part.text.strip()
        assert SPOKEN.search(part.text)
        assert measure(part.text) <= longest or len(part.text) == 1
        assert not SPOKEN.search(re.sub(r"\[pause:1s\]", "", text[position : part.start]))
        position = part.end
    assert not SPOKEN.search(re.sub(r"\[pause:1s\]", "", text[position:]))
    return parts


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.integers(2, 80), st.integers(0, 40), st.sampled_from([len, spoken_length]))
@example("a. " + "b" * 40 + "\n" * 40 + "c", 20, 10, len)
@example("1" * 40, 2, 1, spoken_length)
@example("U.S\u3000\u2028.", 80, 0, len)  # on which sentencex alone panics
@example("a." + "\u3000" * 9 + "b。", 26, 13, spoken_length)
@example("J\u3000.\xa0A", 80, 0, len)
def test_every_text(text: str, longest: int, shortest: int, measure: Callable[[str], int]) -> None:
    check(text, longest, min(shortest, longest // 2), measure)


WORDS = st.lists(st.sampled_from(["a", "to", "word", "longer", "sentence"]), min_size=1, max_size=30)
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=4)


@settings(deadline=None, max_examples=100)
@given(PARAGRAPHS, st.integers(48, 80), st.integers(0, 12))
def test_no_part_is_short_unless_its_paragraph_is(
    paragraphs: list[list[list[str]]], longest: int, shortest: int
) -> None:
    written = [". ".join(" ".join(words).capitalize() for words in paragraph) + "." for paragraph in paragraphs]
    for part in check("\n\n".join(written), longest, shortest, len):
        assert len(part.text) >= shortest or part.text in written


HOSTILE = {
    "no blanks": "a",
    "dots": ".",
    "quotes": '"',
    "opening": "“",
    "lines": "\n",
    "words": "ab ",
    "clauses": "a, ",
    "short sentences": "A? ",
    "nested": "「“(你。",
    "ideographs": "好",
    "digits": "1",
    "markup": "[pause:",
    "pauses": "a[pause:1s]",
    "wrapped": "a\n",
    "accents": "\u0301",
    "address": "/x",
    "blanks": "a" + " " * 50,
}


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_linear_time(pattern: str) -> None:
    """A tenth of the greatest length: what takes the square of it would take minutes."""
    start = time.process_time()
    check("a" + pattern * (100_000 // len(pattern)), 400, 100, spoken_length)
    assert time.process_time() - start < SECONDS / 10


def test_a_quarter_of_a_book_takes_a_moment() -> None:
    draw = random.Random(0)  # noqa: S311
    words = [
        "the",
        "old",
        "man",
        "went",
        "to",
        "Dr. Smith,",
        "who",
        "said:",
        "“No!”",
        "at 5 p.m.",
        "in 1984",
        "。",
        "好",
    ]
    text = "".join(draw.choice(words) + draw.choice([" ", " ", " ", " ", ". ", "\n\n"]) for _ in range(50_000))[
        :250_000
    ]
    start = time.process_time()
    assert len(check(text, 400, 100, spoken_length)) > 1000
    assert time.process_time() - start < SECONDS / 4
