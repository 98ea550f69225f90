"""Ordered tables of patterns and their words, which every language's rules are.

Every repetition in a pattern is bounded or anchored, so that the time stays linear in the text.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Match = re.Match[str]
Words = str | Callable[[Match], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, its words, and groups of signs or words; a text that has none of a group has nothing to match."""

    pattern: re.Pattern[str]
    words: Words
    needs: tuple[frozenset[str], ...]


Row = tuple[str, Words] | tuple[str, Words, str] | tuple[str, Words, str, Iterable[str]]


def rules(table: Iterable[Row]) -> tuple[Rule, ...]:
    """The rules of a table, in its order.

    Args:
        table: Patterns, their words, and what they need: groups of signs apart by blanks, "0" for digits, and a
            group of words.
    """
    return tuple(_rule(*row) for row in table)


def _rule(pattern: str, words: Words, signs: str = "", named: Iterable[str] = ()) -> Rule:
    group = frozenset(_LETTERS.match(word.lower())[0] for word in named)  # type: ignore[index]
    return Rule(re.compile(pattern), words, (*map(frozenset, signs.split()), *([group] if group else ())))


_LETTERS = re.compile("[a-z]+")


def apply(table: Iterable[Rule], text: str) -> str:
    """A text with every rule applied in turn. No rule needs a sign, a digit or a word that another one writes."""
    found = {"0" if char.isdigit() else char for char in set(text)}
    found.update(_LETTERS.findall(text.lower()))
    for rule in table:
        if not any(map(found.isdisjoint, rule.needs)):
            text = rule.pattern.sub(rule.words, text)
    return text
