"""One utterance's way through the phases: what is fed next, what may be drawn, when it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from sampler.layout import TokenLayout
from sampler.randomness import Draws

MAX_SEMANTIC_TOKENS = 2048
"""No row speaks longer than this (40.96 s at 50 tokens a second), as in the published system."""

_FREE_TOKENS = 100
_TOKENS_PER_BYTE = 16


class Phase(IntEnum):
    """What a row does; the number is part of the randomness counter of the phase's draws."""

    PREFILL = 0
    GLOBAL = 1
    SEMANTIC = 2


class FinishReason(StrEnum):
    EOS = "eos"
    LENGTH = "length"
    REPETITION = "repetition"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True)
class PhaseSampling:
    """Sampling parameters of one phase; ``top_k`` of 0 keeps every column."""

    temperature: float
    top_p: float
    top_k: int


GLOBAL_SAMPLING = PhaseSampling(temperature=1.0, top_p=0.95, top_k=20)
SEMANTIC_SAMPLING = PhaseSampling(temperature=1.0, top_p=0.95, top_k=80)


def semantic_limit(text: str, max_tokens: int = MAX_SEMANTIC_TOKENS) -> int:
    """Semantic tokens after which a row is taken to have missed its end.

    Ordinary speech needs 3 to 5 tokens for each UTF-8 byte of English and of Chinese alike; the limit is about
    four times that, plus two seconds, and never more than ``max_tokens`` or 2048.
    """
    return min(_FREE_TOKENS + _TOKENS_PER_BYTE * len(text.encode()), max_tokens, MAX_SEMANTIC_TOKENS)


def rust_first_eos(text_tokens: int) -> int:
    """Semantic tokens before EOS may be drawn in zero-shot mode of rwkv-tts-rs, whose sampler stops too early.

    There EOS is masked for ``max(clamp(tokens / 4, 8, 64), ceil(1.8 * tokens))`` steps, at most 1843 (90 % of
    2048), and then drawn again until a window of 12 tokens is full (``zero_shot_inference.rs``).
    """
    least = max(min(max(text_tokens // 4, 8), 64), -(-9 * text_tokens // 5))
    return max(min(least, _RUST_MOST_GUARDED), _RUST_WINDOW)


_RUST_MOST_GUARDED = 1843
_RUST_WINDOW = 12


def unknown(offset: int) -> int:
    """The token to feed while its id is not known: a negative number, for the id drawn last plus ``offset``."""
    return -1 - offset


@dataclass
class Decoding:
    """The progress of one row; it is advanced by ``take``, ``expect``, ``accept`` and ``catch_up``
    only.

    A draw may be expected before its result is known: the row then goes on as if it ended nothing, so that the
    next step can be started meanwhile. The results are accepted in the order of the draws.

    Attributes:
        prompt: Token ids to prefill.
        voice: The global tokens: given (zero-shot), or empty and sampled (normal mode).
        seed: unsigned 64-bit.
        limit: Semantic tokens after which the row ends with ``length``.
        streak: The same semantic token this often in a row ends it with ``repetition``.
        first_eos: Semantic tokens that must be there before EOS may be drawn.
        spoken: Semantic tokens that were drawn before, of a row with a given voice: it prefills them and goes on.
    """

    layout: TokenLayout
    prompt: Sequence[int]
    voice: Sequence[int] = ()
    seed: int = 0
    limit: int = MAX_SEMANTIC_TOKENS
    streak: int = 50
    global_sampling: PhaseSampling = GLOBAL_SAMPLING
    semantic_sampling: PhaseSampling = SEMANTIC_SAMPLING
    first_eos: int = 0
    spoken: Sequence[int] = ()
    globals_: list[int] = field(init=False)
    semantic: list[int] = field(init=False, default_factory=list)
    phase: Phase = field(init=False, default=Phase.PREFILL)
    finish: FinishReason | None = field(init=False, default=None)
    _pending: list[int] = field(init=False)
    _cursor: int = field(init=False, default=0)
    _repeats: int = field(init=False, default=0)
    _drawn: int = field(init=False, default=0)  # draws of the present phase, expected ones included
    _expected: int = field(init=False, default=0)  # draws whose result is not known
    _draws: Draws = field(init=False)

    def __post_init__(self) -> None:
        self._draws = Draws(self.seed, self.phase)
        self.globals_ = list(self.voice)
        self._pending = [*self.prompt, *self.spoken]
        for token in self.spoken:
            self._say(token)

    def restarted(self) -> "Decoding":
        """The same request before its first step; it will draw the same tokens again."""
        return replace(self)

    @property
    def remaining(self) -> int:
        """Tokens that must still be fed before the next draw."""
        return len(self._pending) - self._cursor

    def take(self, count: int) -> list[int]:
        """Return the next ``count`` tokens to feed, and count them as fed."""
        tokens = self._pending[self._cursor : self._cursor + count]
        self._cursor += count
        if self.phase is Phase.PREFILL and self.remaining == 0:
            self.phase = Phase.SEMANTIC if self.voice else Phase.GLOBAL
            self._drawn = len(self.spoken)
        return tokens

    @property
    def sampling(self) -> PhaseSampling:
        """Parameters of the next draw."""
        return self.global_sampling if self.phase is Phase.GLOBAL else self.semantic_sampling

    @property
    def allowed(self) -> int:
        """Columns ``0..allowed-1`` of the head may be drawn next; EOS is the last column."""
        if self.phase is Phase.GLOBAL:
            return self.layout.global_size
        return self.layout.head_size if self._drawn >= self.first_eos else self.layout.eos

    @property
    def step(self) -> int:
        """Position of the next draw inside its phase."""
        return self._drawn

    @property
    def awaited(self) -> Phase:
        """The phase of the draw whose result ``accept`` takes next."""
        known = bool(self.voice) or len(self.globals_) >= self.layout.globals_per_voice
        return Phase.SEMANTIC if known else Phase.GLOBAL

    @property
    def draw(self) -> float:
        """The random number of the next draw, in [0, 1): it depends on seed, phase and step."""
        if self._draws.phase != self.phase:
            self._draws = Draws(self.seed, self.phase)
        return self._draws.at(self.step)

    def expect(self) -> None:
        """Count a draw that is under way, and set what is fed next: nothing where it must be the last."""
        self._expected += 1
        self._drawn += 1
        if self.phase is Phase.SEMANTIC:
            self._feed(*([unknown(0)] if self._drawn < self.limit else []))
        elif self._drawn < self.layout.globals_per_voice:
            self._feed(unknown(self.layout.global_offset))
        else:
            self.phase, self._drawn = Phase.SEMANTIC, 0
            self._feed(unknown(self.layout.global_offset), self.layout.tag_speech)

    @property
    def repeats(self) -> int:
        """How often the last semantic token has come in a row."""
        return self._repeats

    def catch_up(self, tokens: Sequence[int]) -> None:
        """Record semantic tokens that were drawn and accepted elsewhere meanwhile; none of them ends the row."""
        for token in tokens:
            self._say(token)
        self._drawn += len(tokens)

    def accept(self, token: int) -> None:
        """Take a drawn token, expected or not: record it, end the row, or let it be fed next."""
        if not self._expected:
            self.expect()
        self._expected -= 1
        if not self._expected:
            self._pending = [token - 1 - t if t < 0 else t for t in self._pending]
        if token < 0:
            self.finish = FinishReason.ERROR
        elif self.awaited is Phase.GLOBAL:
            self.globals_.append(token)
        else:
            self._accept_semantic(token)

    def _feed(self, *tokens: int) -> None:
        self._pending = list(tokens)
        self._cursor = 0

    def _say(self, token: int) -> None:
        self._repeats = self._repeats + 1 if self.semantic and token == self.semantic[-1] else 1
        self.semantic.append(token)

    def _accept_semantic(self, token: int) -> None:
        if token == self.layout.eos:
            self.finish = FinishReason.EOS
            return
        self._say(token)
        if self._repeats >= self.streak:
            del self.semantic[len(self.semantic) - self.streak + 1 :]
            self.finish = FinishReason.REPETITION
        elif len(self.semantic) >= self.limit:
            self.finish = FinishReason.LENGTH
