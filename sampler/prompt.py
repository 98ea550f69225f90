"""Prompt token sequences of normal mode and zero-shot mode."""

from collections.abc import Sequence

from rwkv_tts.attributes import Attributes
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


def _control(layout: TokenLayout, attributes: Attributes) -> list[int]:
    return [layout.control_offset + number for number in attributes.control_numbers()]


def attribute_prompt(layout: TokenLayout, text_ids: Sequence[int], attributes: Attributes) -> list[int]:
    """``SPCT_0 age gender emotion pitch speed TAG_2 text TAG_0``; the model then samples the voice itself."""
    return _control(layout, attributes) + _text(layout, text_ids)


def voice_prompt(
    layout: TokenLayout,
    text_ids: Sequence[int],
    voice: Sequence[int],
    *,
    attributes: Attributes | None = None,
    semantic: Sequence[int] = (),
) -> list[int]:
    """``[attributes] TAG_2 text TAG_0 voice TAG_1 [semantic]``; the model then speaks with the given voice.

    The two optional parts are RWKVTTS's: its training has voices with and without attributes
    (``utils/multiple_jsonl.py``), its zero-shot inference prefills a recording's speech where it knows the
    words (``tts_using_webrwkv_zeroshot.py``).

    Args:
        layout: The token layout of the model.
        text_ids: Tokenizer ids; with ``semantic`` those of its transcript and the text to speak, in one.
        voice: The raw global tokens, ``globals_per_voice`` values in ``0..global_size-1``.
        attributes: ``SPCT_0 age gender emotion pitch speed`` to write before the text.
        semantic: Speech that the model goes on from: raw semantic tokens in ``0..semantic_size-1``.

    Raises:
        ValueError: The voice has the wrong number of tokens, or a token is out of range.
    """
    if len(voice) != layout.globals_per_voice:
        raise ValueError(f"voice: {len(voice)} global tokens; accepted: exactly {layout.globals_per_voice}")
    if min(voice) < 0 or max(voice) >= layout.global_size:
        raise ValueError(f"voice: global tokens must be in 0..{layout.global_size - 1}")
    if semantic and (min(semantic) < 0 or max(semantic) >= layout.semantic_size):
        raise ValueError(f"voice: semantic tokens must be in 0..{layout.semantic_size - 1}")
    control = [] if attributes is None else _control(layout, attributes)
    tokens = (layout.global_offset + g for g in voice)
    return [*control, *_text(layout, text_ids), *tokens, layout.tag_speech, *semantic]
