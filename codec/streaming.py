"""Waves of a part of an utterance, also while its later tokens are not known yet.

A token's samples depend on the tokens around it: through the prenet and the wave generator on ``reach`` tokens on
either side (68 with the published sizes at most), of which the outer ones hardly matter. So an utterance can be
decoded span by span. Before a span, all tokens are known, and what the codec reads of them is cut where nothing
changes any more. After it, tokens may still be missing; the codec takes the utterance to end there. The samples of
the last tokens known are therefore not what they will be: a caller that streams leaves out the last ``lookahead``
tokens until the utterance has ended, and asks

    span = Span(delivered, settled(len(tokens), ended=..., lookahead=...))
    waves = vocoder([tokens, ...], [voice, ...], [span, ...], lookahead)

with *all* tokens of the utterance so far, prompts of a resumed stream included. Spans that follow one another give
the whole utterance's samples, in order, each once: exactly with a look-ahead of ``reach`` tokens, at 70 dB or more
with far fewer. The demo voice, spans of 5 tokens: 66 dB with 16, 77 with 17, 89 with 18, 109 with 20. Random
weights of the published sizes: 77 dB with 24, 121 with 32.

In float16 (``codec.fast``) that is so only for the same spans: whatever changes a frame a little changes how all
that comes after it is rounded, which is 48 dB. But there a span's samples are the same bits in any company, and
however many tokens after ``lookahead`` are known. So who wants a whole utterance to have the stream's samples asks
for it in the same spans, with the same look-ahead, all of them at once if need be.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from codec.config import BiCodecConfig, VocosConfig
from codec.vocos import KERNEL_SIZE, RESAMPLING_LAYERS
from codec.windows import receptive_field


class Span(NamedTuple):
    """Consecutive tokens of an utterance.

    Attributes:
        begin: The first, counted from 0.
        end: One more than the last.
    """

    begin: int
    end: int


def settled(known: int, *, ended: bool, lookahead: int) -> int:
    """How many tokens' samples later tokens do not change any more.

    Args:
        known: Tokens so far.
        ended: Whether there will be no more.
        lookahead: Tokens that a token waits for; 0 is the least.
    """
    return known if ended else max(0, known - lookahead)


def prenet_field(config: VocosConfig) -> int:
    """Tokens on either side that a frame depends on, at most; 57 for the published sizes."""
    backbones = len(config.sample_ratios) * (1 + RESAMPLING_LAYERS) + 1 + config.vocos_num_layers
    return KERNEL_SIZE // 2 * backbones


def reach(config: BiCodecConfig) -> int:
    """Tokens on either side that a token's samples depend on, at most; 68 for the published sizes."""
    return prenet_field(config.prenet) + receptive_field(config.decoder)


def check_spans(spans: Sequence[Span], lengths: Sequence[int]) -> None:
    """Refuse spans that are not one within each row of these lengths, of at least one token.

    Raises:
        ValueError: The message names the field.
    """
    if len(spans) != len(lengths):
        raise ValueError(f"spans: got {len(spans)}, expected {len(lengths)}, one for each row")
    for number, ((begin, end), length) in enumerate(zip(spans, lengths, strict=True)):
        if not 0 <= begin < end <= length:
            raise ValueError(
                f"spans[{number}]: got tokens {begin} to {end}, expected at least one within 0 to {length}"
            )


def cut(rows: Sequence[Tensor], spans: Sequence[Span], before: int, after: int) -> tuple[list[Tensor], list[Span]]:
    """Of each row the tokens of its span and so many more on either side, and where the span is in them."""
    first = [max(0, span.begin - before) for span in spans]
    seen = [row[begin : span.end + after] for row, span, begin in zip(rows, spans, first, strict=True)]
    return seen, [Span(span.begin - begin, span.end - begin) for span, begin in zip(spans, first, strict=True)]
