"""Several workers as one: what they show on one page, by device, and whether all of them are well."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from worker.ops.metrics import READY, READY_HELP

_PROBE_SECONDS = 1.0
_PAGE_SECONDS = 3.0
"""A worker's page itself takes two seconds where Redis hangs."""

_HOST = "127.0.0.1"
_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
"""It has types and dates of creation where the older format has samples more."""


class Member(NamedTuple):
    """One of the workers.

    Attributes:
        device: What its samples get as the label ``device``.
        port: Where it shows metrics and health, on this machine.
        ended: Tells whether its process has.
    """

    device: str
    port: int
    ended: Callable[[], bool]


class Answer(NamedTuple):
    """What a worker said."""

    status: int
    text: str


class Together(Collector):
    """Asks all workers at once; one that does not answer in time counts as down, and holds up nobody.

    Args:
        members: The workers.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def illness(self) -> str | None:
        """Why all should be started anew; None while those live that have not ended."""
        return self._problems("/livez", [one for one in self._members if not one.ended()])

    def obstacle(self) -> str | None:
        """Which of them take no jobs, and why; None when all do."""
        return self._problems("/readyz", self._members)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for member, answer in _ask(self._members, "/metrics", _PAGE_SECONDS):
            for family in _families(answer):
                whole = Metric(family.name, family.documentation, family.type, family.unit)
                whole = families.setdefault(family.name, whole)
                for sample in family.samples:
                    labels = {**sample.labels, "device": member.device}
                    whole.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
        yield from families.values()

    def _problems(self, path: str, members: Sequence[Member]) -> str | None:
        found = [
            f"{member.device}: {problem}"
            for member, answer in _ask(members, path, _PROBE_SECONDS)
            if (problem := _problem(member, answer)) is not None
        ]
        return "; ".join(found) or None


def _ask(members: Sequence[Member], path: str, seconds: float) -> Iterator[tuple[Member, Answer | None]]:
    """What each of them says to a GET; None of one that says nothing in time."""
    if not members:
        return
    threads = ThreadPoolExecutor(len(members))
    answers = [threads.submit(_get, member.port, path, seconds) for member in members]
    wait(answers, seconds)
    threads.shutdown(wait=False)
    for member, answer in zip(members, answers, strict=True):
        yield member, answer.result() if answer.done() else None


def _get(port: int, path: str, seconds: float) -> Answer | None:
    try:
        with closing(HTTPConnection(_HOST, port, timeout=seconds)) as connection:
            connection.request("GET", path, headers=_OPENMETRICS)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
    except (OSError, HTTPException):
        return None


def _problem(member: Member, answer: Answer | None) -> str | None:
    if answer is None:
        return "its worker has ended" if member.ended() else "its worker does not answer"
    return None if answer.status == HTTPStatus.OK else answer.text.strip()


def _families(answer: Answer | None) -> Iterator[Metric]:
    """What a worker shows; of one that is down, that it takes no jobs."""
    if answer is not None:
        yield from text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    else:
        down = Metric(READY, READY_HELP, "gauge")
        down.add_sample(READY, {}, 0)
        yield down
