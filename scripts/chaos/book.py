"""What the producers of a chaos run have written down."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.producer import PHANTOM


@dataclass(frozen=True)
class Seen:
    """What a producer saw of one submit, or while it waited for one result.

    Attributes:
        producer: Its number.
        at: When it began, monotonic seconds.
        took: Seconds until it was confirmed, or there.
        errors: Of Redis, or of the client, of each kind one.
    """

    producer: int
    at: float
    took: float
    errors: Sequence[str]


@dataclass
class Book:
    """All ledgers together.

    Attributes:
        kinds: Of the jobs, by id.
        confirmed: When Redis had confirmed each, monotonic seconds.
        again: Ids that were submitted again, because Redis had forgotten them.
        lost_replies: Submits that had happened and were not confirmed.
        phantoms: Ids that name nothing.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    submits: list[Seen] = field(default_factory=list)
    results: list[Seen] = field(default_factory=list)
    lost_replies: int = 0
    phantoms: int = 0

    def take(self, producer: int, line: dict[str, Any]) -> None:
        """Enter one line of a ledger."""
        if "lost_replies" in line:
            self.lost_replies += line["lost_replies"]
        elif "again" in line:
            self.again.add(line["again"])
        elif "result" in line:
            self.results.append(_seen(producer, line))
        else:
            self.submits.append(_seen(producer, line))
            if line["kind"] == PHANTOM:
                self.phantoms += 1
            else:
                self.kinds[line["id"]] = line["kind"]
                self.confirmed[line["id"]] = line["at"] + line["took"]


def _seen(producer: int, line: dict[str, Any]) -> Seen:
    return Seen(producer, line["at"], line["took"], line["errors"])


def read(ledgers: Iterable[Path]) -> Book:
    book = Book()
    for producer, ledger in enumerate(ledgers):
        for text in ledger.read_text().splitlines():
            book.take(producer, json.loads(text))
    return book
