"""Sentences of a growing text: whole, as soon as it is certain, and the same however the text comes."""

import random

import pytest

from gateway.sentences import Sentences


def cut(text: str, sizes: list[int] | None = None) -> list[str]:
    """The sentences of a text that comes in pieces of these sizes, or at once."""
    sentences, found, at = Sentences(), [], 0
    for size in sizes or [len(text)]:
        found += list(sentences.add(text[at : at + size]))
        at += size
    found += list(sentences.add(text[at:]))
    found += list(sentences.rest())
    assert [text[one.start : one.end] for one in found] == [one.text for one in found]
    return [one.text for one in found]


ENGLISH = [
    ["Hello there.", "How are you?", "Fine!"],
    ["Dr. Smith met Mr. J. R. Brown at 5 p.m. on Monday.", "It cost $3.50 in the U.S. Army shop."],
    ["See Fig. 2 and pp. 3 to 4.", "Is that so?!", "Yes."],
    ["“Come in!” he said.", "“Sit down.”", "She sat."],
    ["1. Open the door.", "2. Go in.", "3) Sit."],
    ["Wait... what is it?", "Well… no.", "The end."],
    ["Look at www.example.com/a.b?c=d now.", "Version 2.0.1 is out."],
]
CHINESE = [
    ["你好。", "今天天气怎么样？", "很好！"],
    ["他说：“走吧。”", "她笑了……然后走了。", "再见"],
    ["价格是3.14元。", "Python 3.11 很好用。", "OK.", "好的"],
]


@pytest.mark.parametrize("sentences", ENGLISH)
def test_english_sentences(sentences: list[str]) -> None:
    assert cut(" ".join(sentences)) == sentences


@pytest.mark.parametrize("sentences", CHINESE)
def test_chinese_sentences(sentences: list[str]) -> None:
    assert cut("".join(sentences)) == sentences


def test_paragraphs_end_sentences_and_are_told() -> None:
    text = "A heading\n\nFirst line\ngoes on here. Second.\n\n  Third:\n- one.\n- two."
    sentences = Sentences()
    found = [*sentences.add(text), *sentences.rest()]
    assert [(one.text, one.paragraph) for one in found] == [
        ("A heading", False),
        ("First line\ngoes on here.", True),
        ("Second.", False),
        ("Third:\n- one.", True),
        ("- two.", False),
    ]


def test_a_sentence_is_there_as_soon_as_the_next_begins() -> None:
    sentences = Sentences()
    assert list(sentences.add("It is three. ")) == []
    assert [one.text for one in sentences.add("F")] == ["It is three."]
    assert list(sentences.add("our is less. five. ")) == []
    assert [one.text for one in sentences.rest()] == ["Four is less. five."]
    assert [one.text for one in sentences.add("你好。再")] == ["你好。"]


def test_what_nobody_speaks_is_no_sentence() -> None:
    assert cut("  ... ! \n\n") == []
    assert cut("Yes. ... *** ! No.") == ["Yes.", "No."]
    assert cut(3000 * "." + " Yes.") == ["Yes."]


@pytest.mark.parametrize("text", [300 * "word ", 100 * "several words, ", 2000 * "字", 2000 * "x"])
def test_a_text_without_ends_is_cut_all_the_same(text: str) -> None:
    found = cut(text)
    assert max(map(len, found)) <= 500
    assert min(map(len, found[:-1])) >= 240
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert cut(text, [7] * 40) == found


@pytest.mark.parametrize("seed", range(10))
def test_it_is_the_same_however_the_text_comes(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - sizes
    text = "\n\n".join([*(" ".join(one) for one in ENGLISH), *("".join(one) for one in CHINESE)])
    sizes = [chance.randint(1, 9) for _ in range(300)]
    assert cut(text, sizes) == cut(text)
