"""Prompt id lists of both modes, and that text can be nothing but text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkv_tts.attributes import Attributes
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt

LAYOUT = TokenLayout()
VOICE = [0, 4095, *range(100, 130)]


def test_normal_mode() -> None:
    """SPCT_0 age gender emotion pitch speed TAG_2 text TAG_0, with 'hello world' as plain [34550, 40213]."""
    voice = Attributes(
        age="elderly", gender="male", emotion="contempt", pitch="very_high_pitch", speed="very_fast"
    )
    expected = [77823, 77840, 77870, 77868, 77832, 77828, 8195, 46842, 52505, 8193]
    assert attribute_prompt(LAYOUT, [34550, 40213], voice) == expected


def test_zero_shot_mode() -> None:
    """TAG_2 text TAG_0 globals TAG_1."""
    expected = [8195, 46842, 52505, 8193, 8196, 12291, *range(8296, 8326), 8194]
    assert voice_prompt(LAYOUT, [34550, 40213], VOICE) == expected


def test_zero_shot_mode_with_attributes() -> None:
    """The second layout of the training data: the attributes before, the rest unchanged."""
    control = [77823, 77838, 77869, 77845, 77830, 77826]
    prompt = voice_prompt(LAYOUT, [34550, 40213], VOICE, attributes=Attributes())
    assert prompt == control + voice_prompt(LAYOUT, [34550, 40213], VOICE)


def test_zero_shot_mode_after_a_recording() -> None:
    """Its semantic tokens are the model's own, so they go in as they are, after the tag of speech."""
    prompt = voice_prompt(LAYOUT, [34550, 40213], VOICE, semantic=[8191, 0, 7])
    assert prompt == [*voice_prompt(LAYOUT, [34550, 40213], VOICE), 8191, 0, 7]


def test_zero_shot_mode_with_everything() -> None:
    attributes = Attributes(emotion="happy")
    prompt = voice_prompt(LAYOUT, [1], VOICE, attributes=attributes, semantic=[5])
    globals_ = [8196, 12291, *range(8296, 8326)]
    assert prompt == [77823, 77838, 77869, 77847, 77830, 77826, 8195, 12293, 8193, *globals_, 8194, 5]


@pytest.mark.parametrize("semantic", [[8192], [0, -1], [8193, 1]])
def test_semantic_tokens_out_of_range(semantic: list[int]) -> None:
    """EOS and the tags among them: no recording may end the speech or open a text."""
    with pytest.raises(ValueError, match=r"0\.\.8191"):
        voice_prompt(LAYOUT, [1], VOICE, semantic=semantic)


@given(st.lists(st.integers(0, LAYOUT.text_size - 1), min_size=1))
def test_text_ids_stay_in_the_text_block(text: list[int]) -> None:
    prompt = attribute_prompt(LAYOUT, text, Attributes())[7:-1]
    assert prompt == [12292 + token for token in text]
    assert all(LAYOUT.text_offset <= token < LAYOUT.control_offset for token in prompt)
    assert voice_prompt(LAYOUT, text, VOICE)[1 : 1 + len(text)] == prompt


@pytest.mark.parametrize(("text", "message"), [([], "no tokens"), ([5, -1], "0..65530"), ([65531], "0..65530")])
def test_text_out_of_range(text: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute_prompt(LAYOUT, text, Attributes())
    with pytest.raises(ValueError, match=message):
        voice_prompt(LAYOUT, text, VOICE)


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (VOICE[1:], "31 global tokens; accepted: exactly 32"),
        ([*VOICE, 7], "33 global tokens; accepted: exactly 32"),
        ([], "0 global tokens; accepted: exactly 32"),
        ([4096, *VOICE[1:]], r"0\.\.4095"),
        ([*VOICE[1:], -1], r"0\.\.4095"),
    ],
)
def test_voice_out_of_range(voice: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        voice_prompt(LAYOUT, [1], voice)
