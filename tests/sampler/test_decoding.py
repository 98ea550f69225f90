"""A row's way through the phases, and every way to end."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.decoding import (
    GLOBAL_SAMPLING,
    SEMANTIC_SAMPLING,
    Decoding,
    FinishReason,
    Phase,
    PhaseSampling,
    rust_first_eos,
    semantic_limit,
    unknown,
)
from sampler.layout import TokenLayout

LAYOUT = TokenLayout()
VOICE = list(range(32))


def speaking(limit: int = 2048, streak: int = 50) -> Decoding:
    """A zero-shot row whose prompt is fed."""
    decoding = Decoding(LAYOUT, [1, 2], VOICE, limit=limit, streak=streak)
    decoding.take(2)
    return decoding


def draw(decoding: Decoding, *tokens: int) -> list[list[int]]:
    """Accept each token; what the row feeds after each."""
    fed = []
    for token in tokens:
        decoding.accept(token)
        fed.append(decoding.take(decoding.remaining) if decoding.finish is None else [])
    return fed


def test_prefill_in_pieces() -> None:
    decoding = Decoding(LAYOUT, [5, 6, 7, 8, 9])
    assert decoding.take(2) == [5, 6]
    assert (decoding.phase, decoding.remaining) == (Phase.PREFILL, 3)
    assert decoding.take(3) == [7, 8, 9]
    assert (decoding.phase, decoding.remaining, decoding.step) == (Phase.GLOBAL, 0, 0)


def test_normal_mode_samples_the_voice_first() -> None:
    decoding = Decoding(LAYOUT, [1])
    decoding.take(1)
    for step in range(31):
        assert (decoding.phase, decoding.step) == (Phase.GLOBAL, step)
        assert (decoding.allowed, decoding.sampling) == (4096, GLOBAL_SAMPLING)
        assert draw(decoding, 4095 - step) == [[8196 + 4095 - step]]
    assert draw(decoding, 17) == [[8196 + 17, 8194]]
    assert (decoding.phase, decoding.step) == (Phase.SEMANTIC, 0)
    assert (decoding.allowed, decoding.sampling) == (8193, SEMANTIC_SAMPLING)
    assert decoding.globals_ == [*(4095 - step for step in range(31)), 17]
    assert draw(decoding, 4000, 8191) == [[4000], [8191]]
    assert (decoding.semantic, decoding.step) == ([4000, 8191], 2)


def test_the_voice_is_fed_one_token_at_a_time() -> None:
    """The tag of speech goes in a step of its own: a decoding row takes one token a step."""
    decoding = Decoding(LAYOUT, [1])
    decoding.take(1)
    draw(decoding, *range(31))
    decoding.accept(31)
    assert decoding.remaining == 2
    assert decoding.take(1) == [8196 + 31]
    assert (decoding.remaining, decoding.phase) == (1, Phase.SEMANTIC)
    assert decoding.take(1) == [8194]
    assert decoding.remaining == 0


def test_zero_shot_goes_straight_to_speech() -> None:
    decoding = speaking()
    assert (decoding.phase, decoding.allowed, decoding.step) == (Phase.SEMANTIC, 8193, 0)
    assert decoding.globals_ == VOICE


@pytest.mark.parametrize(
    ("text_tokens", "first"),
    [(1, 12), (6, 12), (7, 13), (20, 36), (100, 180), (256, 461), (1023, 1842), (1024, 1843), (20_000, 1843)],
)
def test_rust_eos_rules(text_tokens: int, first: int) -> None:
    """The examples of the fact sheet, 2.2, and the edges of the rules."""
    assert rust_first_eos(text_tokens) == first


def test_eos_is_masked_before_its_first_step() -> None:
    decoding = Decoding(LAYOUT, [1, 2], VOICE, first_eos=3)
    decoding.take(2)
    allowed = []
    for token in range(5):
        allowed.append(decoding.allowed)
        draw(decoding, token)
    assert allowed == [8192, 8192, 8192, 8193, 8193]


def test_the_eos_guard_leaves_the_voice_phase_alone() -> None:
    decoding = Decoding(LAYOUT, [1], first_eos=3)
    decoding.take(1)
    for token in range(32):
        assert decoding.allowed == 4096
        draw(decoding, token)
    assert decoding.allowed == 8192


def test_eos_is_not_kept() -> None:
    decoding = speaking()
    draw(decoding, 3, 4, 8192)
    assert decoding.finish is FinishReason.EOS
    assert decoding.semantic == [3, 4]


def test_eos_may_come_first() -> None:
    decoding = speaking()
    draw(decoding, 8192)
    assert (decoding.finish, decoding.semantic) == (FinishReason.EOS, [])


def test_length() -> None:
    decoding = speaking(limit=3)
    draw(decoding, 1, 2)
    assert not decoding.finish
    draw(decoding, 3)
    assert (decoding.finish, decoding.semantic) == (FinishReason.LENGTH, [1, 2, 3])


def test_repetition_keeps_one_token_of_the_streak() -> None:
    decoding = speaking(streak=4)
    draw(decoding, 9, 9, 9, 5, 5, 5)
    assert not decoding.finish
    draw(decoding, 5)
    assert (decoding.finish, decoding.semantic) == (FinishReason.REPETITION, [9, 9, 9, 5])


def test_alternation_is_no_streak() -> None:
    decoding = speaking(streak=3)
    draw(decoding, *[1, 1, 2, 2] * 50)
    assert decoding.finish is None


@pytest.mark.parametrize("fed", [1, 2])
def test_an_error_token_ends_the_row_in_any_phase(fed: int) -> None:
    decoding = Decoding(LAYOUT, [1], VOICE if fed == 2 else ())
    decoding.take(1)
    decoding.accept(-1)
    assert decoding.finish is FinishReason.ERROR
    assert decoding.semantic == []


@pytest.mark.parametrize("voice", [(), VOICE])
def test_a_restarted_row_is_as_new(voice: Sequence[int]) -> None:
    def fresh() -> Decoding:
        phases = PhaseSampling(0.5, 0.9, 4), PhaseSampling(0.6, 0.8, 5)
        return Decoding(LAYOUT, [1, 2], voice, 7, 40, 3, *phases, first_eos=2)

    decoding = fresh()
    decoding.take(2)
    draw(decoding, *range(33), 9, 9, 9)
    assert decoding.finish is FinishReason.REPETITION
    assert decoding.restarted() == fresh()
    assert (decoding.globals_, decoding.semantic) != (fresh().globals_, fresh().semantic)


@given(st.text(), st.text(min_size=1), st.integers(1, 5000))
def test_the_limit_grows_with_the_text(text: str, more: str, max_tokens: int) -> None:
    shorter, longer = semantic_limit(text), semantic_limit(text + more)
    assert 100 <= shorter <= longer <= 2048
    assert semantic_limit(text, max_tokens) == min(shorter, max_tokens)


def test_the_limit_leaves_room_for_slow_speech() -> None:
    """Ordinary speech needs 3 to 5 tokens a byte; three times that must fit."""
    for text in ("The quick brown fox jumps over the lazy dog.", "敏捷的棕色狐狸跳过了懒狗。"):
        assert semantic_limit(text) >= min(15 * len(text.encode()), 2048)
    assert semantic_limit("x" * 20_000) == 2048


SMALL = TokenLayout(semantic_size=20, global_size=5, globals_per_voice=3)


@given(
    tokens=st.lists(st.integers(0, 20), min_size=14, max_size=14),
    voice=st.sampled_from([(), (1, 2, 3)]),
    limit=st.integers(1, 6),
    first_eos=st.integers(0, 4),
)
def test_draws_that_are_expected_give_what_known_ones_give(
    tokens: list[int], voice: tuple[int, ...], limit: int, first_eos: int
) -> None:
    """A step is fed and its draw expected before the result of the step before it is accepted."""

    def decoding() -> Decoding:
        return Decoding(SMALL, [7], voice, seed=3, limit=limit, streak=3, first_eos=first_eos)

    known, ahead = decoding(), decoding()
    told: list[tuple[int, int, int, float]] = []
    fed: list[int] = []
    draws = iter(tokens)
    while not known.finish:
        fed += known.take(1)
        if known.remaining == 0:
            told.append((known.phase, known.step, known.allowed, known.draw))
            known.accept(next(draws))
    under_way: list[int] = []
    drawn: list[int] = []
    seen: list[tuple[int, int, int, float]] = []
    found: list[int] = []
    draws = iter(tokens)
    while not ahead.finish:
        before = len(under_way)
        if ahead.remaining:
            token = ahead.take(1)[0]
            found.append(drawn[-1] - 1 - token if token < 0 else token)
            if ahead.remaining == 0:
                seen.append((ahead.phase, ahead.step, ahead.allowed, ahead.draw))
                drawn.append(next(draws))
                under_way.append(drawn[-1])
                ahead.expect()
        if before:
            ahead.accept(under_way.pop(0))
    assert (ahead.globals_, ahead.semantic, ahead.finish) == (known.globals_, known.semantic, known.finish)
    assert found[: len(fed)] == fed
    assert seen[: len(told)] == told
    assert len(seen) <= len(told) + 1, "one draw too many at most"


def test_nothing_is_fed_while_the_last_draw_is_under_way() -> None:
    decoding = speaking(limit=2)
    decoding.expect()
    assert decoding.take(1) == [unknown(0)]
    decoding.expect()
    assert decoding.remaining == 0
    decoding.accept(4)
    assert not decoding.finish
    decoding.accept(5)
    assert (decoding.semantic, decoding.finish) == ([4, 5], FinishReason.LENGTH)
