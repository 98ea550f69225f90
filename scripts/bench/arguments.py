"""What the command lines of all benches have in common."""

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def command_line(name: str, text: str | None) -> argparse.ArgumentParser:
    """A parser for ``python scripts/bench NAME`` with this help."""
    return argparse.ArgumentParser(
        prog=f"python scripts/bench {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def at_least(least: Number) -> Callable[[str], Number]:
    """The type of an option: a number of the kind of ``least`` that is no smaller."""

    def read(text: str) -> Number:
        value = _number(text, type(least))
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}; accepted: {least} and above")
        return value

    return read


def numbers(kind: type[Number]) -> Callable[[str], list[Number]]:
    """The type of an option: numbers above 0, separated by commas."""

    def read(text: str) -> list[Number]:
        found = [_number(part, kind) for part in text.split(",")]
        if min(found) <= 0:
            raise argparse.ArgumentTypeError(f"{text!r}; accepted: numbers above 0, separated by commas")
        return found

    return read


def _number(text: str, kind: type[Number]) -> Number:
    try:
        return kind(text)
    except ValueError:
        name = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r}; accepted: {name}") from None
