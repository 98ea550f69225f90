"""Training texts, all made here: patterns of ``grammar`` filled with its words, and words of ``words.txt``.

Texts are spoken forms: numbers are words, and only letters, spaces and ``. , ? ! ' - ; :`` occur. Everything
follows from the seed. No training text is a held-out sentence or one of the validation texts.
"""

import re
import string
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from train_demo_voice.grammar import GRAMMAR
from train_demo_voice.held_out import HELD_OUT, HELD_OUT_WRITTEN

LONGEST_TEXT = 180
VALIDATION_PART = 64
"""One text in so many, by its hash, is for validation only."""
PLAIN_SHARE = 0.12
"""Share of texts in lower case and without an end mark."""

KINDS: tuple[tuple[str, float], ...] = (
    *(("clause", 0.16), ("opened", 0.05), ("two", 0.11), ("three", 0.03), ("words", 0.20), ("wordy", 0.09)),
    *(("question", 0.06), ("exclamation", 0.03), ("daily", 0.05), ("fact", 0.07), ("technical", 0.05)),
    *(("science", 0.03), ("food", 0.02), ("news", 0.03), ("story", 0.05), ("spelling", 0.01)),
)
_COMPOUND = {
    "opened": "{opener}, {clause}",
    "two": "{clause}{join} {clause}",
    "three": "{clause}{join} {clause}{join} {clause}",
}


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_UNITS = _split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = _split("zero ten twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_ACRONYMS = _split(
    "URL USB CPU GPU HTTP API PDF DVD CD TV FBI USA UK EU PC SMS GPS ATM CEO DNA HTML SQL TTS VIP FAQ IBM "
    "BBC NBA UFO PM AM ID IT OK LED LLM RNN AI IP DNS SSH TCP XML WWW"
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LONE_CAPITAL = re.compile(r"\b[B-HJ-Z]\b|\bA [A-Z]\b")
"""A letter that is spoken as a letter."""
_ARTICLE = re.compile(r"\b([Aa])n? (?=([aeiou])?)")


@cache
def words() -> tuple[str, ...]:
    """Ordinary lower-case English words."""
    lines = (Path(__file__).parent / "words.txt").read_text().splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def cardinal(number: int) -> str:
    """``number`` from 0 below a thousand million, in American words."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _TENS[tens] + (f"-{_UNITS[units]}" if units else "")
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    count, rest = divmod(number, size)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """``number`` as a rank: twenty-first."""
    stem, last = re.fullmatch(r"(.*?)(\w+)", cardinal(number)).groups()  # type: ignore[union-attr]
    if last in _ORDINALS:
        return stem + _ORDINALS[last]
    return stem + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def year(number: int) -> str:
    """A year from 1100 to 2099 as people say it: nineteen eighty-seven."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def comparable(text: str) -> str:
    """What two texts that sound alike have in common: their letters, in lower case."""
    return re.sub(r"[^a-z]+", " ", text.lower()).strip()


@cache
def _held_out() -> frozenset[str]:
    return frozenset(
        comparable(text) for text in (*HELD_OUT, *(text for pair in HELD_OUT_WRITTEN for text in pair))
    )


def _pick(random: Random, items: Sequence[str]) -> str:
    return items[int(random.random() * len(items))]


def _number(random: Random) -> int:
    """Small numbers are the usual ones."""
    digits = 1 + int(random.random() ** 1.5 * 6)
    return int(random.random() * 10**digits)


def _spoken_number(random: Random) -> str:
    text = cardinal(_number(random))
    if random.random() < 0.15:
        text = text.replace("-", " ")
    if random.random() < 0.1:
        text = re.sub(r"hundred (?=\w)(?!thousand|million)", "hundred and ", text)
    return text


def _time(random: Random) -> str:
    hour, minute = cardinal(1 + int(random.random() * 12)), int(random.random() * 60)
    special = {
        0: f"{hour} o'clock",
        15: f"a quarter past {hour}",
        30: f"half past {hour}",
        45: f"a quarter to {hour}",
    }
    if random.random() < 0.3:
        return special[15 * int(random.random() * 4)]
    ending = _pick(random, ("", "", "", " A M", " P M", " in the morning", " in the evening"))
    if minute == 0:
        return hour + (ending or " o'clock")
    return f"{hour} {'oh ' if minute < 10 else ''}{cardinal(minute)}{ending}"


def _money(random: Random) -> str:
    unit = _pick(random, ("dollars", "dollars", "euros", "pounds"))
    text = f"{_spoken_number(random)} {unit}"
    if random.random() < 0.4:
        cents = cardinal(2 + int(random.random() * 98))
        text += f" and {cents} {'pence' if unit == 'pounds' else 'cents'}"
    return text


def _spelled(random: Random) -> str:
    if random.random() < 0.6:
        return " ".join(_pick(random, _ACRONYMS))
    return " ".join(_pick(random, string.ascii_uppercase) for _ in range(2 + int(random.random() * 3)))


_SPECIAL: dict[str, Callable[[Random], str]] = {
    "word": lambda random: _pick(random, words()),
    "number": _spoken_number,
    "digit": lambda random: _pick(random, (*_UNITS[:10], "oh")),
    "ordinal": lambda random: ordinal(1 + int(random.random() * (31 if random.random() < 0.9 else 120))),
    "year": lambda random: year(1100 + int(random.random() ** 0.3 * 940)),
    "time": _time,
    "money": _money,
    "letter": lambda random: _pick(random, string.ascii_uppercase),
    "spelled": _spelled,
}


def _expand(random: Random, pattern: str) -> str:
    """``pattern`` with every placeholder filled, and theirs, and so on."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in _SPECIAL:
            return _SPECIAL[name](random)
        return _expand(random, _pick(random, GRAMMAR[name]))

    return _PLACEHOLDER.sub(fill, pattern)


def _word_sequence(random: Random) -> str:
    """One word to nine that have nothing to do with each other: they teach how spelling sounds."""
    chosen = [_pick(random, words()) for _ in range(1 + int(random.random() * 9))]
    if len(chosen) > 2 and random.random() < 0.4:
        chosen.insert(
            int(random.random() * len(chosen)), _pick(random, ("the", "of", "and", "to", "in", "a", "is"))
        )
    if len(chosen) > 3 and random.random() < 0.3:
        chosen[len(chosen) // 2] += ","
    if random.random() < 0.08:
        i = int(random.random() * len(chosen))
        chosen[i] = f"{chosen[i].rstrip(',')}-{_pick(random, words())}"
    return " ".join(chosen)


def _kind(random: Random) -> str:
    level = random.random() * sum(share for _, share in KINDS)
    for kind, share in KINDS:
        level -= share
        if level < 0:
            return kind
    return KINDS[-1][0]


def _article(match: re.Match[str]) -> str:
    return f"{match[1]}n " if match[2] else f"{match[1]} "


def _sentence(random: Random) -> str:
    """One text, ready to speak."""
    kind = _kind(random)
    text = _word_sequence(random) if kind == "words" else _expand(random, _COMPOUND.get(kind, f"{{{kind}}}"))
    text = _ARTICLE.sub(_article, re.sub(r" +", " ", text))
    if random.random() < PLAIN_SHARE:
        return text if _LONE_CAPITAL.search(text) else text.lower()
    asks = kind == "question" or text.split()[0] in ("why", "where", "what", "would", "is", "shall", "how")
    mark = "?" if asks else "!" if kind == "exclamation" and random.random() < 0.6 else "."
    return text[0].upper() + text[1:] + mark


def _is_validation(text: str) -> bool:
    return zlib.crc32(comparable(text).encode()) % VALIDATION_PART == 0


def _texts(seed: str, validation: bool) -> Iterator[str]:
    """Texts that differ, endless."""
    random, seen = Random(seed), set(_held_out())  # noqa: S311 - not for secrets
    while True:
        text = _sentence(random)
        key = comparable(text)
        if key in seen or len(text) > LONGEST_TEXT or _is_validation(text) != validation:
            continue
        seen.add(key)
        yield text


def training_texts(seed: int, shard: int, count: int) -> list[str]:
    """The ``count`` texts of a shard; they differ from each other, and no validation text is among them."""
    return list(islice(_texts(f"{seed}/{shard}", validation=False), count))


def validation_texts(seed: int, count: int) -> list[str]:
    """``count`` texts that no training shard of any seed contains."""
    return list(islice(_texts(f"{seed}/validation", validation=True), count))
