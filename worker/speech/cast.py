"""Which parts of the utterances in the engine may start, and when one has left it. Policy, without threads.

A part that is not the first of its utterance starts where a row would be idle: behind all that other utterances
begin with, and with a few rows left free for those to come. Utterances with further parts take turns.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from worker.speech.read_stage import Order, Read
from worker.speech.utterance import Part, Piece, Speaker, Utterance

_ORDERED_AT_ONCE = 8
_FREE_SHARE = 8
"""One row of so many is kept from further parts."""


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
    """The utterances in the engine.

    Args:
        order: Asks the reader for further parts.
        globals_per_voice: Global tokens of a voice.
    """

    def __init__(self, order: Callable[[Order], None], globals_per_voice: int) -> None:
        self._order, self._globals_per_voice = order, globals_per_voice
        self._roles: dict[Utterance, Role] = {}
        self._turns: deque[Role] = deque()  # those with further parts

    def __len__(self) -> int:
        return len(self._roles)

    def enter(self, utterance: Utterance) -> Role:
        """Take an utterance in."""
        role = self._roles[utterance] = Role(utterance, over=utterance.reading is None)
        if not role.over:
            self._turns.append(role)
            self._stock(role)
        return role

    def role(self, utterance: Utterance) -> Role | None:
        """What is known of an utterance; None where it is not in the engine."""
        return self._roles.get(utterance)

    def leave(self, role: Role) -> None:
        """Forget an utterance that is done."""
        del self._roles[role.utterance]
        if role in self._turns:
            self._turns.remove(role)

    def read(self, read: Read) -> Role:
        """Take what the reader has made."""
        role = self._roles[read.order.utterance]
        role.ordered = False
        if not role.over:
            role.ready.extend(read.parts)
            role.over = read.over
        return role

    def further(self, free: int, rows: int) -> Iterator[Piece]:
        """The further parts that start now.

        Args:
            free: Rows that nobody waits for.
            rows: Rows that there are.
        """
        free -= -(-rows // _FREE_SHARE) if rows > 1 else 0
        passed = 0
        while free > 0 and passed < len(self._turns):
            role = self._turns[0]
            self._turns.rotate(-1)
            if self._may_start(role, rows):
                part = role.ready.popleft()
                role.utterance.parts.append(part)
                self._stock(role)
                free, passed = free - 1, 0
                yield Piece(role.utterance, part)
            else:
                passed += 1

    def _may_start(self, role: Role, rows: int) -> bool:
        """Whether its voice is known, and its audio does not lie too far behind."""
        utterance = role.utterance
        if not role.ready or role.ready[0].number >= utterance.joined + 2 * rows:
            return False
        if utterance.speaker is None:
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
