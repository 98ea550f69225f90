"""How a stream's audio is cut: small pieces first, so that it begins soon, then larger ones, which cost less."""

import time
from collections.abc import Iterator

from batching.row import Row
from worker.speech.utterance import Growing, Part, Piece, Utterance

FIRST_TOKENS = 8
MOST_TOKENS = 100

_NEAR_SECONDS = 2.0
"""A listener with less audio ahead comes before everybody who waits for a file."""


def piece_size(given: int) -> int:
    """Tokens of the piece that follows ``given`` tokens."""
    return min(max(given, FIRST_TOKENS), MOST_TOKENS)


def marks(lookahead: int, given: int = 0) -> Iterator[int]:
    """How many tokens a part has when its next piece can be made, one piece after another."""
    while True:
        given += piece_size(given)
        yield given + lookahead


def urgency(utterance: Utterance, part: Part) -> tuple[int, float, int]:
    """What comes first is smaller: listeners who soon run dry, then what jobs begin with, then the rest.

    Those of one utterance come in their order: the waves of a later part would only wait for the earlier ones.
    """
    if utterance.request.stream:
        dry = utterance.listening.runs_dry_at
        if dry - time.monotonic() < _NEAR_SECONDS and part.number == utterance.joined:
            return 0, dry or utterance.claimed_at, part.number
        return (1 if part.number <= utterance.joined else 2), utterance.claimed_at, part.number
    return (2 if part.number else 1), utterance.claimed_at, part.number


class HeardParts:
    """The parts that are heard while they decode.

    Args:
        lookahead: Tokens that a stream's samples wait for.
    """

    def __init__(self, lookahead: int) -> None:
        self._lookahead = lookahead
        self._pieces: dict[Row, tuple[Piece, Iterator[int]]] = {}
        self._marks: dict[Row, int] = {}

    def begin(self, piece: Piece) -> None:
        """A part starts; only the first of a stream is heard at once."""
        if is_heard(piece):
            piece.part.row.followed = True
            ahead = marks(self._lookahead)
            self._pieces[piece.part.row] = piece, ahead
            self._marks[piece.part.row] = next(ahead)

    def end(self, row: Row) -> bool:
        """A row has ended; return whether it was heard."""
        self._marks.pop(row, None)
        return self._pieces.pop(row, None) is not None

    def due(self) -> Iterator[Growing]:
        """Those whose next piece can be made since the last look."""
        for row, mark in self._marks.items():
            if len(row.decoding.semantic) >= mark:
                piece, ahead = self._pieces[row]
                self._marks[row] = next(ahead)
                yield Growing(*piece)


def is_heard(piece: Piece) -> bool:
    """Whether samples of a part are handed on before it is complete.

    The others may have to be drawn again, and are brought to the loudness of the first.
    """
    return piece.utterance.request.stream and piece.part.number == 0
