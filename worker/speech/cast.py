"""The utterances in the engine: which of their parts may start, and when one has left it. Without threads."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.speech.admission import Bid, choose, heard_at_once
from worker.speech.read_stage import Order, Read
from worker.speech.utterance import Part, Piece, Speaker, Utterance

_ORDERED_AT_ONCE = 8


@dataclass(eq=False)
class Role:
    """An utterance in the engine.

    Attributes:
        ready: Parts that may start.
        running: How many wait in the scheduler or run.
        sent: How many have been handed on.
        ordered: Whether the reader is making more.
        over: Whether there are no more to be made.
        ended: Whether it is to end before its time.
        enough: Whether it has all its audio.
    """

    utterance: Utterance
    ready: deque[Part] = field(default_factory=deque)
    running: int = 0
    sent: int = 0
    ordered: bool = False
    over: bool = False
    ended: bool = False
    enough: bool = False

    @property
    def done(self) -> bool:
        """Whether everything of it has been handed on."""
        return self.over and not (self.ready or self.running or self.ordered)

    def end(self, *, enough: bool) -> None:
        """Nothing more of it starts."""
        self.enough |= enough
        self.ready.clear()
        self.over = self.ended = True


class Cast:
    """The utterances in the engine, in the order in which they came.

    Args:
        order: Asks the reader for further parts.
        globals_per_voice: Global tokens of a voice.
    """

    def __init__(self, order: Callable[[Order], None], globals_per_voice: int) -> None:
        self._order, self._globals_per_voice = order, globals_per_voice
        self._roles: dict[Utterance, Role] = {}
        self._unstarted: list[Role] = []  # those with parts that have not started
        self._further = 0  # rows with parts that are not the first

    def __len__(self) -> int:
        return len(self._roles)

    @property
    def hurried(self) -> bool:
        """Whether further parts should not be in the way: some have rows, and no utterance waits for its first.

        If one does, every row is to end as soon as may be.
        """
        waits = any(role.ready and role.ready[0].number == 0 for role in self._unstarted)
        return self._further > 0 and not waits

    def enter(self, utterance: Utterance) -> Role:
        """Take an utterance in."""
        over = utterance.read = utterance.reading is None
        role = self._roles[utterance] = Role(utterance, deque(utterance.parts), over=over)
        self._unstarted.append(role)
        self._stock(role)
        return role

    def role(self, utterance: Utterance) -> Role | None:
        """What is known of an utterance; None where it is not in the engine."""
        return self._roles.get(utterance)

    def leave(self, role: Role) -> None:
        """Forget an utterance that is done."""
        del self._roles[role.utterance]

    def read(self, read: Read) -> Role:
        """Take what the reader has made."""
        role = self._roles[read.order.utterance]
        role.ordered = False
        if not role.over:
            role.ready.extend(read.parts)
            role.utterance.parts.extend(read.parts)
            role.over = role.utterance.read = read.over
        return role

    def begin(self, piece: Piece) -> None:
        """A part takes a row."""
        self._roles[piece.utterance].running += 1
        self._further += piece.part.number > 0

    def end(self, piece: Piece) -> Role:
        """A part has left its row."""
        role = self._roles[piece.utterance]
        role.running -= 1
        self._further -= piece.part.number > 0
        return role

    def next(self, free: int, rows: int, now: float) -> Piece | None:
        """The part that starts next; None where all that wait wait on.

        Args:
            free: Rows that are free.
            rows: Rows that there are.
            now: ``time.monotonic()``, seconds.
        """
        if free <= 0 or not self._unstarted:
            return None
        self._unstarted = [role for role in self._unstarted if role.ready or not role.over]
        bids = {_bid(role, now): role for role in self._unstarted if self._may_start(role, rows)}
        bid = choose(list(bids), free=free, rows=rows, further=self._further)
        if bid is None:
            return None
        role = bids[bid]
        part = role.ready.popleft()
        self._stock(role)
        return Piece(role.utterance, part)

    def _may_start(self, role: Role, rows: int) -> bool:
        """Whether it has a part whose voice is known, and whose turn to be heard is not too far away."""
        if not role.ready:
            return False
        utterance, part = role.utterance, role.ready[0]
        if part.number and part.number >= utterance.joined + _at_once(utterance, rows):
            return False
        if part.number and utterance.speaker is None:
            drawn = utterance.parts[0].row.decoding.globals_
            if len(drawn) < self._globals_per_voice:
                return False
            utterance.speaker = Speaker(tuple(drawn))
        return True

    def _stock(self, role: Role) -> None:
        """See to it that parts are ready before there is a row for them."""
        if not role.over and not role.ordered and len(role.ready) < _ORDERED_AT_ONCE:
            role.ordered = True
            self._order(Order(role.utterance, _ORDERED_AT_ONCE))


def _at_once(utterance: Utterance, rows: int) -> int:
    """Parts that may be under way, from their start until they are in the audio."""
    listening = utterance.listening
    if not utterance.request.stream:
        return 2 * rows
    return heard_at_once(listening.waits, begun=listening.began_at > 0)


def _bid(role: Role, now: float) -> Bid:
    utterance = role.utterance
    dry = utterance.listening.runs_dry_at if utterance.request.stream else float("inf")
    return Bid(role.ready[0].number == 0, role.running, (dry or utterance.claimed_at) - now)
