"""The published token table, and a layout of other sizes."""

import pytest

from rwkv_tts.attributes import ATTRIBUTES, Attributes, canonical_attribute
from sampler.layout import TokenLayout

PUBLISHED = TokenLayout()


@pytest.mark.parametrize(
    ("found", "published"),
    [
        (PUBLISHED.eos, 8192),
        (PUBLISHED.head_size, 8193),
        (PUBLISHED.tag_text_end, 8193),
        (PUBLISHED.tag_speech, 8194),
        (PUBLISHED.tag_text, 8195),
        (PUBLISHED.global_offset, 8196),
        (PUBLISHED.global_offset + PUBLISHED.global_size - 1, 12291),
        (PUBLISHED.text_offset, 12292),
        (PUBLISHED.text_offset + 98, 12390),
        (PUBLISHED.text_offset + 65529, 77821),
        (PUBLISHED.text_offset + 65530, 77822),
        (PUBLISHED.control_offset, 77823),
        (PUBLISHED.control_offset + 99, 77922),
        (PUBLISHED.vocabulary_size, 77923),
    ],
)
def test_published_ids(found: int, published: int) -> None:
    assert found == published


def test_the_blocks_follow_one_another() -> None:
    layout = TokenLayout(semantic_size=10, global_size=5, globals_per_voice=2, text_size=7, control_size=3)
    tags = [layout.tag_text_end, layout.tag_speech, layout.tag_text]
    globals_ = range(layout.global_offset, layout.global_offset + 5)
    text = range(layout.text_offset, layout.text_offset + 7)
    control = range(layout.control_offset, layout.control_offset + 3)
    assert [*range(10), layout.eos, *tags, *globals_, *text, *control] == list(range(layout.vocabulary_size))


def test_attribute_numbers() -> None:
    """Fact sheet: 'SPCT_0SPCT_16SPCT_46SPCT_22SPCT_7SPCT_3' is [77823, 77839, 77869, 77845, 77830, 77826]."""
    voice = Attributes(age="middle-aged", gender="female", emotion="neutral", pitch="medium_pitch", speed="medium")
    ids = [PUBLISHED.control_offset + number for number in voice.control_numbers()]
    assert ids == [77823, 77839, 77869, 77845, 77830, 77826]


def test_attribute_groups_do_not_overlap() -> None:
    numbers = [number for table in ATTRIBUTES.values() for number in table.values()]
    assert len(numbers) == len(set(numbers)) == 5 + 2 + 25 + 4 + 5
    assert ATTRIBUTES["emotion"]["whisper"] == 37
    assert ATTRIBUTES["emotion"]["contempt"] == 45
    assert ATTRIBUTES["pitch"]["very_high_pitch"] == 9


def test_attribute_names_ignore_case() -> None:
    assert canonical_attribute("emotion", " HAPPY ") == "happy"
    with pytest.raises(ValueError, match=r"unknown gender 'robot'; accepted: female, male"):
        canonical_attribute("gender", "robot")
