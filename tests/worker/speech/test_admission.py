"""Who gets the next row, in simulations: listeners in time, jobs in their order, nobody waits for a whole book."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from worker.speech.admission import NEAR_SECONDS, Bid, choose, heard_at_once

LONGEST = 7
"""Ticks of a part at most."""

DURATIONS = st.lists(st.integers(1, LONGEST), min_size=1, max_size=20)
SHORT_JOBS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, LONGEST)), max_size=30).map(sorted)


@dataclass
class Book:
    """A long text that never ends; its listener, if it has one, is always about to run dry."""

    heard: bool
    durations: Sequence[int]
    running: list[int] = field(default_factory=list)
    started: int = 0

    def bid(self) -> Bid:
        return Bid(first=False, running=len(self.running), ahead=0.0 if self.heard else float("inf"))

    def start(self, now: int) -> None:
        self.running.append(now + self.durations[self.started % len(self.durations)])
        self.started += 1


@dataclass
class Simulation:
    """Rows that are shared by books and by jobs of one part each, which come at a time and take a time."""

    rows: int
    books: Sequence[Book]
    jobs: Sequence[tuple[int, int]]
    most_heard: int = 8
    started: list[int] = field(default_factory=list)
    _running: list[int] = field(default_factory=list)
    now: int = 0

    def run(self) -> list[int]:
        """When each job has started."""
        while len(self.started) < len(self.jobs):
            self._running = [end for end in self._running if end > self.now]
            for book in self.books:
                book.running = [end for end in book.running if end > self.now]
            while self._start_one():
                pass
            self.now += 1
        return self.started

    def _start_one(self) -> bool:
        bids: dict[Bid, Book | None] = {book.bid(): book for book in self.books if self._may_start(book)}
        if self._waits():
            bids[Bid(first=True)] = None
        further = sum(len(book.running) for book in self.books)
        free = self.rows - further - len(self._running)
        chosen = choose(list(bids), free=free, rows=self.rows, further=further)
        if chosen is None:
            return False
        book = bids[chosen]
        if book is not None:
            book.start(self.now)
        else:
            self._running.append(self.now + self.jobs[len(self.started)][1])
            self.started.append(self.now)
        return True

    def _may_start(self, book: Book) -> bool:
        return not book.heard or len(book.running) < self.most_heard

    def _waits(self) -> bool:
        return len(self.started) < len(self.jobs) and self.jobs[len(self.started)][0] <= self.now


@given(st.integers(1, 20), st.integers(1, 4), DURATIONS, SHORT_JOBS)
def test_books_delay_a_job_by_no_more_than_the_time_of_one_part(
    rows: int, books: int, durations: list[int], jobs: list[tuple[int, int]]
) -> None:
    alone = Simulation(rows, [], jobs).run()
    beside = Simulation(rows, [Book(heard=False, durations=durations) for _ in range(books)], jobs).run()
    assert all(late - early <= LONGEST for early, late in zip(alone, beside, strict=True))


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=20), DURATIONS, SHORT_JOBS)
def test_the_first_in_the_queue_waits_for_one_part_whoever_listens(
    rows: int, heard: list[bool], durations: list[int], jobs: list[tuple[int, int]]
) -> None:
    started = Simulation(rows, [Book(heard=one, durations=durations) for one in heard], jobs).run()
    for number, (arrival, _) in enumerate(jobs):
        first_since = max(arrival, started[number - 1] if number else 0)
        assert started[number] - first_since <= LONGEST


@given(st.integers(2, 40), DURATIONS)
def test_a_lone_job_starts_at_once_beside_a_book(rows: int, durations: list[int]) -> None:
    assert Simulation(rows, [Book(heard=False, durations=durations)], [(50, 1)]).run() == [50]


def test_a_lone_row_is_the_books_until_a_job_comes() -> None:
    for heard in (True, False):
        book = Book(heard=heard, durations=[LONGEST])
        assert Simulation(1, [book], [(LONGEST + 1, 1), (LONGEST + 1, 1)]).run() == [2 * LONGEST, 2 * LONGEST + 1]


AHEAD = st.floats(-60, 60) | st.just(float("inf"))
BIDS = st.lists(st.builds(Bid, first=st.booleans(), running=st.integers(0, 9), ahead=AHEAD), max_size=12)


@given(BIDS, st.integers(1, 16), st.integers(0, 16), st.integers(1, 16))
def test_whoever_starts_is_the_one_that_matters_most(bids: list[Bid], free: int, further: int, more: int) -> None:
    rows = free + further + more
    chosen = choose(bids, free=free, rows=rows, further=further)
    jobs, near = [one for one in bids if one.first], [b for b in bids if not b.first and b.ahead < NEAR_SECONDS]
    if chosen is None:
        assert not jobs
        assert not near
    elif not chosen.first and chosen in near:
        assert chosen.ahead == min(one.ahead for one in near)
    elif chosen.first:
        assert chosen is jobs[0]
        assert not near or further >= rows - -(-rows // 8)
    else:
        assert not jobs
        assert not near
        assert chosen.running == min(one.running for one in bids if not one.first)


@given(st.integers(0, 100))
def test_a_stream_begins_alone_and_has_more_rows_where_its_listener_had_to_wait(waits: int) -> None:
    assert heard_at_once(waits, begun=False) == 1
    assert 2 <= heard_at_once(waits, begun=True) <= heard_at_once(waits + 1, begun=True) <= 8
