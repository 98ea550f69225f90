"""Text as a person reads it aloud; what cannot be read is refused or reported, and nothing takes long."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.speakable import MOST_SPOKEN, Speakable, TextConfig, UnspeakableError, speakable

ENGLISH = TextConfig(normalizer="english")
ACCEPTED = re.compile(r"[A-Za-z .,?!';:-]*")
SECONDS = 4.0
"""More than any text of the accepted length may take, on a busy machine."""

READ_ALOUD = [
    # cardinals, thousands, decimals, signs
    ("I have 3 apples.", "I have three apples."),
    ("There are 105 seats.", "There are one hundred five seats."),
    ("1,234,567 people", "one million two hundred thirty-four thousand five hundred sixty-seven people"),
    ("Pi is about 3.14.", "Pi is about three point one four."),
    ("It was -5 outside.", "It was minus five outside."),
    ("a .5 chance", "a point five chance"),
    ("0 or 12?", "zero or twelve?"),
    ("10000 steps", "ten thousand steps"),
    ("It cost him 1234 points.", "It cost him one thousand two hundred thirty-four points."),
    ("version 1.2.3", "version one point two point three"),
    # ordinals
    ("She came 1st, he came 22nd.", "She came first, he came twenty-second."),
    ("the 21st century", "the twenty-first century"),
    ("a 19th-century house", "a nineteenth-century house"),
    # years
    ("In 1999 it rained.", "In nineteen ninety-nine it rained."),
    ("Since 2005, nothing.", "Since two thousand five, nothing."),
    ("by 2026", "by twenty twenty-six"),
    ("born in 1865", "born in eighteen sixty-five"),
    ("the 1990s", "the nineteen nineties"),
    ("the '80s", "the eighties"),
    ("from 1914-1918", "from nineteen fourteen to nineteen eighteen"),
    # times
    ("at 10:45", "at ten forty-five"),
    ("at 3 pm", "at three P M"),
    ("at 7:05 a.m. today", "at seven oh five A M today"),
    ("It is 3:00.", "It is three o'clock."),
    ("It ends at 5 p.m.", "It ends at five P M."),
    ("The train leaves at 15:30.", "The train leaves at fifteen thirty."),
    # dates
    ("on May 3, 2026", "on May third, twenty twenty-six"),
    ("the 3rd of May 2026", "the third of May, twenty twenty-six"),
    ("due 2026-05-03", "due May third, twenty twenty-six"),
    ("due 5/3/2026", "due May third, twenty twenty-six"),
    ("Come on Dec. 25th.", "Come on December twenty-fifth."),
    ("on 4 July 1776", "on the fourth of July, seventeen seventy-six"),
    # money
    ("It costs $25.99.", "It costs twenty-five dollars and ninety-nine cents."),
    ("$1 only", "one dollar only"),
    ("£3.50 please", "three pounds and fifty pence please"),
    ("€1,000", "one thousand euros"),
    ("It made $3.5 million.", "It made three point five million dollars."),
    ("$0.50", "fifty cents"),
    ("99¢", "ninety-nine cents"),
    # percent and units
    ("Up 5%, down 2.5%.", "Up five percent, down two point five percent."),
    ("5 km away", "five kilometers away"),
    ("1 kg of rice", "one kilogram of rice"),
    ("65 mph", "sixty-five miles per hour"),
    ("It is 20°C.", "It is twenty degrees Celsius."),
    ("-4 °F", "minus four degrees Fahrenheit"),
    ("He ran 100 m.", "He ran one hundred meters."),
    ("2 tbsp. of oil, 3 ft. tall", "two tablespoons of oil, three feet tall"),
    ("8GB of memory", "eight gigabytes of memory"),
    ("25 m² of floor", "twenty-five square meters of floor"),
    ("He is 5'10\" tall.", "He is five foot ten tall."),
    # digits one by one
    (
        "Call 555-123-4567 now.",
        "Call five five five, one two three, four five six seven now.",
    ),
    ("(212) 555-0199", "two one two, five five five, zero one nine nine"),
    ("Agent 007", "Agent zero zero seven"),
    # abbreviations
    ("Dr. Smith met Mrs. Jones.", "Doctor Smith met Missus Jones."),
    ("Mr. Lee, vs. the rest", "Mister Lee, versus the rest"),
    ("We live on Main St. now.", "We live on Main Street now."),
    ("the bells of St. Mary", "the bells of Saint Mary"),
    ("fruit, e.g. apples", "fruit, for example apples"),
    ("the last one, i.e. the third", "the last one, that is the third"),
    ("pens, paper, etc.", "pens, paper, et cetera."),
    ("See No. 5.", "See number five."),
    ("the U.S. team", "the U S team"),
    # symbols, ranges, fractions
    ("salt & pepper", "salt and pepper"),
    ("We are #1!", "We are number one!"),
    ("2 + 2 = 4", "two plus two equals four"),
    ("3-5 days", "three to five days"),
    ("pages 10–15", "pages ten to fifteen"),
    ("1/2 of it", "one half of it"),
    ("2 1/2 cups", "two and a half cups"),
    ("3½ hours", "three and a half hours"),
    ("3/4 full", "three quarters full"),
    ("a 50/50 chance, 24/7", "a fifty-fifty chance, twenty-four seven"),
    ("a 1920x1080 screen", "a nineteen twenty by one thousand eighty screen"),
    ("a score of 3:2", "a score of three to two"),
    ("COVID-19 and MP3", "Covid nineteen and M P three"),
    ("a 3-day trip", "a three-day trip"),
    # capitals
    ("HELLO WORLD", "Hello world"),
    ("the REDIS QUEUE", "the redis queue"),
    ("Copy the URL.", "Copy the U R L."),
    ("NASA and the FBI", "Nasa and the F B I"),
    ("DO NOT RUN!", "Do not run!"),
    ("I AM HERE", "I am here"),
    ("two PDFs", "two P D F's"),
    ("IT IS COLD, SAID DR. JONES. WAIT!", "It is cold, said Doctor jones. Wait!"),
    ("PLEASE CLOSE THE DOOR BEHIND YOU.", "Please close the door behind you."),
    ("World War II", "World War two"),
    # addresses
    ("Write to ann@example.com.", "Write to ann at example dot com."),
    ("See https://www.example.org/help", "See W W W dot example dot org slash help"),
    ("at ann.lee@mail.co.uk", "at ann dot lee at mail dot co dot U K"),
    ("open config.json", "open config dot json"),
    # typography
    ("“It’s” — well… fine", "It's, well. fine"),
    ("a café in Zürich", "a cafe in Zurich"),
    ("one (or two) of them", "one, or two, of them"),
    ("A title\n\nIts text", "A title. Its text"),
    ("broken\nlines", "broken lines"),
    ("well-known facts; really: yes", "well-known facts; really: yes"),
]


@pytest.mark.parametrize(("written", "spoken"), READ_ALOUD, ids=[written for written, _ in READ_ALOUD])
def test_reads_as_a_person_would(written: str, spoken: str) -> None:
    assert speakable(written, ENGLISH) == Speakable(spoken)


@pytest.mark.parametrize("spoken", [spoken for _, spoken in READ_ALOUD])
def test_words_stay_as_they_are(spoken: str) -> None:
    assert speakable(spoken, ENGLISH).text == spoken


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("你好世界", r"^Chinese letters '你好世界'; accepted: English text in Latin letters"),
        ("Привет, мир", r"^Cyrillic letters 'Привет…'; accepted"),
        ("Καλημέρα", r"^Greek letters"),
        ("こんにちは", r"^Japanese letters"),
        ("안녕", r"^Korean letters"),
        ("नमस्ते", r"^Devanagari letters"),
        ("?! ...", r"^nothing to speak; accepted"),
        ("😀", r"^nothing to speak; accepted"),
        ("\ud800", r"^nothing to speak; accepted"),
        ("1" * MOST_SPOKEN, r"^\d+ characters once numbers and symbols are words; accepted: up to 20000"),
    ],
)
def test_refuses_what_it_cannot_say(text: str, reason: str) -> None:
    with pytest.raises(UnspeakableError, match=reason):
        speakable(text, ENGLISH)


def test_reports_what_it_drops() -> None:
    done = speakable("Good 😀 morning 😀 √ all", ENGLISH)
    assert done.text == "Good morning all"
    assert done.warnings == ["characters that cannot be spoken were left out: 😀 √"]


def test_reports_text_longer_than_the_model_was_trained_on() -> None:
    config = TextConfig(normalizer="none", longest=10)
    assert speakable("0123456789", config) == Speakable("0123456789")
    (warning,) = speakable("0123456789a", config).warnings
    assert warning.startswith("11 characters; this model was trained on up to 10")


def test_without_a_normalizer_text_passes_unchanged() -> None:
    assert speakable("你好, 25 ½ 😀", TextConfig()) == Speakable("你好, 25 ½ 😀")


def check(text: str) -> None:
    """Refused, or in the accepted alphabet; in bounded time."""
    start = time.process_time()
    spoken, problem = outcome(text)
    assert time.process_time() - start < SECONDS
    if problem:
        assert "; accepted: " in problem
        assert "\n" not in problem
    else:
        assert ACCEPTED.fullmatch(spoken)
        assert re.search("[A-Za-z]", spoken)


def outcome(text: str) -> tuple[str, str]:
    """What is spoken, and why nothing is."""
    try:
        done = speakable(text, ENGLISH)
    except UnspeakableError as error:
        return "", str(error)
    assert "".join(done.warnings).isprintable()
    return done.text, ""


PIECES = """
    Dr. St. No. e.g. etc. U.S. a.m. pm 1 23 007 1999 4,567 .5 10:45 1/2 2026-05-03 $ £ % °C km ° - – — ' " ( )
    # @ & + = / . , ? ! : ; the Main URL URLs NOT I A b s é ß µ π ½ ² … 😀 | ~ * _ < > Co May Oct 3rd 5'10 www. x
"""
WRITING = st.one_of(st.sampled_from([*PIECES.split(), "\u200d", "\n"]), st.just(" "), st.characters(codec="ascii"))


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_spoken_or_refused(text: str) -> None:
    check(text)


@given(st.lists(WRITING, max_size=14).map("".join))
@settings(max_examples=700, deadline=None)
def test_any_mixture_of_what_the_rules_look_for_is_spoken_or_refused(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "1",
            "1,",
            "1,111,",
            "1.",
            "1:",
            "1/",
            "1-",
            "1 1/2 ",
            "$1",
            "$1,000.",
            "-",
            "- ",
            "a.",
            "A.",
            "A",
            "aA",
        ),
        *(
            "a@",
            "a.a@",
            "http://a",
            "www.",
            "(",
            "((1)",
            "'",
            "a'",
            "1'",
            "#",
            "%",
            "é",
            "½",
            " ",
            "\n",
            ".",
            "St. ",
        ),
        *(
            "aA",
            "St. ",
            "555-123-",
            "12:",
            "Dr.",
            "1st",
            "9" * 30 + " ",
            "ﷺ",
            "ﬃ",
            "😀",
            "!?",
            "BCDF ",
            "STRENGTHS",
            "µ",
            "π ",
        ),
    ],
)
def test_long_attacks_end_soon(piece: str) -> None:
    check((piece * MOST_SPOKEN)[:MOST_SPOKEN])
