"""What producers saw of each kind of fault, and for how long."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from chaos.book import Book, Seen
from chaos.recovery import Case, Tracker


@dataclass
class View:
    """One kind of fault from outside.

    Attributes:
        times: How often it happened.
        lasted: Seconds, at most.
        submit, result: The longest submit and the longest wait for a result that met it and no other kind.
        errors: What they were told meanwhile.
        recovery: Seconds from its end until all jobs that it had hit ran again or had ended, at most.
    """

    times: int = 0
    lasted: float | None = None
    submit: float | None = None
    result: float | None = None
    errors: list[str] = field(default_factory=list)
    recovery: float | None = None


def views(book: Book, tracker: Tracker) -> dict[str, View]:
    """By name of the kind."""
    found: dict[str, View] = {}
    for case in tracker.cases:
        view = found.setdefault(case.kind, View())
        view.times += 1
        view.lasted = _longest(view.lasted, (case.until or case.at) - case.at)
        view.recovery = _longest(view.recovery, tracker.seconds(case, net=True))
    for seen in book.submits:
        if kind := _only_kind(seen, tracker.cases, after=False):
            view = found[kind]
            view.submit = _longest(view.submit, seen.took)
            view.errors += [error for error in seen.errors if error not in view.errors]
    for seen in book.results:
        if kind := _only_kind(seen, tracker.cases, after=True):
            view = found[kind]
            view.result = _longest(view.result, seen.took)
            view.errors += [error for error in seen.errors if error not in view.errors]
    return dict(sorted(found.items()))


def _only_kind(seen: Seen, cases: Iterable[Case], after: bool) -> str:
    """The kind of the faults that were there meanwhile; none when there were several, or none.

    ``after``: a fault is there until the jobs that it had hit have recovered.
    """
    met = {case.kind for case in cases if _meets(seen, case, after)}
    return met.pop() if len(met) == 1 else ""


def _meets(seen: Seen, case: Case, after: bool) -> bool:
    """A worker's fault does not keep a producer from submitting, nor does one of another producer's network."""
    until = case.over_at if after else (case.until or case.at)
    if case.at > seen.at + seen.took or until < seen.at:
        return False
    return after or case.worker is None or case.network == seen.producer


def _longest(one: float | None, other: float | None) -> float | None:
    return max((seconds for seconds in (one, other) if seconds is not None), default=None)


def rows(found: dict[str, View]) -> Sequence[Sequence[str]]:
    """Cells of a table: kind, times, its length, submit, result, what producers were told, recovery."""
    return [
        (
            kind,
            str(view.times),
            _cell(view.lasted),
            _cell(view.submit),
            _cell(view.result),
            ", ".join(view.errors) or "nothing",
            _cell(view.recovery),
        )
        for kind, view in found.items()
    ]


def _cell(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"
