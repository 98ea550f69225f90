"""Markup: what a reader sees is left, each character knows where it came from, and nothing takes long."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.markup import without_markup
from worker.text.parts import split

SEEN = [
    ("## Next steps\nCall.", "Next steps Call."),
    ("Results\n=======\nWe won.", "Results We won."),
    ("- [x] done\n- [ ] open", "done, open"),
    ("买：\n- 苹果\n- 梨\n然后回家。", "买： 苹果， 梨 然后回家。"),
    ("a ![logo](x.png) b", "a logo b"),
    ("Ring [the\nbell](http://x.y/a_(b)) now", "Ring the bell now"),
    ("H<sub>2</sub>O, x<sup>2</sup>", "H2O, x²"),
    ('<sub alias="World Wide Web">W3C</sub>', "World Wide Web"),
    ('<say-as interpret-as="characters">ABC</say-as>', "A B C"),
    ('<say-as interpret-as="ordinal">22</say-as>', "22nd"),
    ("<!-- not\n\nseen -->seen<script>var a = 1;</script>", "seen"),
    ("a <b and c> d", "a <b and c> d"),
    ("Dear <name>, see List<String>", "Dear <name>, see List<String>"),
    ("<think>why</think>", "why"),
    ("use `a < b` or `<div>`", "use a < b or <div>"),
    ("```py\nx = 1\n# y\n```\nDone", "x = 1 # y Done"),
    ("2*3*4, a*b and *c*", "2*3*4, a*b and c"),
    (r"\*not emphasis\*", "*not emphasis*"),
    ("&lt;b&gt; &#39;x&#x27; &bogus;", "<b> 'x' &bogus;"),
    ("so.[3] a[3] b[i]", "so. a[3] b[i]"),
    ("5 <3 or I <3 you :) >_<", "5 <3 or I ♥ you"),
]


@pytest.mark.parametrize(("written", "seen"), SEEN)
def test_leaves_what_a_reader_sees(written: str, seen: str) -> None:
    assert " ".join(without_markup(written)[0].text.split()) == seen


def test_a_break_is_the_pause_of_the_splitter() -> None:
    plain, _ = without_markup('<speak>One<break time="1500ms"/>two<break strength="strong"/> three.</speak>')
    assert [part.pause for part in split(plain.text, 100)] == [1.5, 0.7, None]


def test_blocks_are_paragraphs_of_the_splitter() -> None:
    plain, _ = without_markup("# One\nTwo three.\n\n---\n- four\n- five\n<h2>Six</h2><p>Seven.</p>")
    assert [part.text for part in split(plain.text, 100)] == ["One", "Two three.", "four,\nfive", "Six", "Seven."]


def test_each_part_knows_its_span_in_the_text_with_markup() -> None:
    text = "# **One** &amp; all\n\nRead <a href='x'>two</a>. And *three*."
    plain, _ = without_markup(text)
    spans = [plain.span(part.start, part.end) for part in split(plain.text, 30)]
    assert [text[start:end] for start, end in spans] == [
        "One** &amp; all",
        "Read <a href='x'>two</a>.",
        "And *three*.",
    ]


KINDS = """
    < <a <b> </b> <a| <!-- --> <script> </script> [ ] ( ) ![ ]( [a](b) * ** _ ` ``` ~~~ | # - > & &amp; &#33;
    \\ :a: <3 (^ == || <h1> <li> <td> <br> <break| <sub| <say-as| 😀 ♥ word 5 . , 你好
"""
PIECES = KINDS.split()
WRITING = st.one_of(
    st.sampled_from([*(piece.replace("|", " ") for piece in PIECES), "\n", " ", "    "]), st.text()
)


@given(st.lists(WRITING, max_size=20).map("".join))
@settings(max_examples=700, deadline=None)
def test_any_mixture_keeps_its_order(text: str) -> None:
    plain, _ = without_markup(text)
    spans = [plain.span(at, at + 1) for at in range(len(plain.text))]
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(first[0] <= second[0] and first[1] <= second[1] for first, second in pairwise(spans))


@pytest.mark.parametrize("piece", [*PIECES, "\n", "|a\n", "- a\n", "=\n", "<a b='", "~~~\n```\n", "<h1>\n ", "`a"])
def test_long_attacks_end_soon(piece: str) -> None:
    text = (piece.replace("|", " ") * 100_000)[:100_000]
    start = time.process_time()
    without_markup(text)
    assert time.process_time() - start < 2


def test_time_is_linear_in_ordinary_text() -> None:
    words = ["**word**", "<b>word</b>", "word,", "[link](http://a.b)", "&amp;", "\n"] * 1500
    start = time.process_time()
    plain, _ = without_markup(" ".join(words))
    assert time.process_time() - start < 1
    assert not re.search(r"[*<>\[\]]", plain.text)
