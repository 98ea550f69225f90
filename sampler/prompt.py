"""Prompt token sequences of normal mode and zero-shot mode."""

from collections.abc import Sequence

from sampler.attributes import Attributes
from sampler.layout import TokenLayout


def _text(layout: TokenLayout, text_ids: Sequence[int]) -> list[int]:
    """Shift tokenizer ids to the text block, so that no text can become a control token.

    Raises:
        ValueError: There is no text, or an id lies outside the tokenizer's range.
    """
    if not text_ids:
        raise ValueError("text: no tokens; accepted: at least one character")
    if min(text_ids) < 0 or max(text_ids) >= layout.text_size:
        raise ValueError(f"text: token ids must be in 0..{layout.text_size - 1}")
    return [layout.tag_text, *(layout.text_offset + i for i in text_ids), layout.tag_text_end]


def attribute_prompt(layout: TokenLayout, text_ids: Sequence[int], attributes: Attributes) -> list[int]:
    """``SPCT_0 age gender emotion pitch speed TAG_2 text TAG_0``; the model then samples the voice itself."""
    control = [layout.control_offset + number for number in attributes.control_numbers()]
    return control + _text(layout, text_ids)


def voice_prompt(layout: TokenLayout, text_ids: Sequence[int], voice: Sequence[int]) -> list[int]:
    """``TAG_2 text TAG_0 voice TAG_1``; the model then speaks with the given voice.

    Args:
        voice: The raw global tokens, ``globals_per_voice`` values in ``0..global_size-1``.

    Raises:
        ValueError: The voice has the wrong number of tokens or one out of range.
    """
    if len(voice) != layout.globals_per_voice:
        raise ValueError(f"voice: {len(voice)} global tokens; accepted: exactly {layout.globals_per_voice}")
    if min(voice) < 0 or max(voice) >= layout.global_size:
        raise ValueError(f"voice: global tokens must be in 0..{layout.global_size - 1}")
    return [*_text(layout, text_ids), *(layout.global_offset + g for g in voice), layout.tag_speech]
