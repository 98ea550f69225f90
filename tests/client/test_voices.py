"""RAF voices: bytes survive, changes do not pass, and an id names nothing but a voice."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_tts.voices import VoiceError, dump_raf, load_raf

GLOBALS = [(i * 131 + 4095) % 4096 for i in range(32)]
FIELDS: dict[str, Any] = {
    "id": "voice_20251014_132429_0a1b2c3d",
    "name": "示例",
    "prompt_text": '希望你以后能够做的比我还好呦。\n"quoted" \\ é \u2028',
    "created_at": "2025-10-14T13:24:29.757840800Z",
    "global_tokens": GLOBALS,
    "semantic_tokens": [0, 8191, 7],
    "audio_duration": 5.2,
    "sample_rate": 16000,
}


def serde_pretty(fields: dict[str, Any], checksum: str) -> str:
    """The text that serde_json's pretty printer writes: two spaces, one element a line, UTF-8 unescaped."""
    lines = []
    for key, value in {**fields, "checksum": checksum}.items():
        if isinstance(value, list):
            shown = "[\n" + ",\n".join(f"    {item}" for item in value) + "\n  ]" if value else "[]"
        elif isinstance(value, str):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            shown = f'"{escaped}"'
        else:
            shown = str(value)
        lines.append(f'  "{key}": {shown}')
    return "{\n" + ",\n".join(lines) + "\n}"


def raf(**changes: Any) -> str:
    """A RAF file with a right checksum, made without the code under test."""
    fields = {**FIELDS, **changes}
    return serde_pretty(fields, hashlib.sha256(serde_pretty(fields, "").encode()).hexdigest())


def refusal(text: str) -> str:
    with pytest.raises(VoiceError) as caught:
        load_raf(text)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("duration", [5.2, 0.1, 40.96, 3.0, 24.939999])
def test_round_trip_is_byte_identical(duration: float) -> None:
    text = raf(audio_duration=duration)
    voice = load_raf(text)
    assert voice.model_dump(exclude={"checksum"}) == {**FIELDS, "audio_duration": duration}
    assert dump_raf(voice.model_dump()).encode() == text.encode()
    assert dump_raf({**FIELDS, "audio_duration": duration}) == text


def test_voice_without_semantic_tokens_or_prompt_loads() -> None:
    text = raf(semantic_tokens=[], prompt_text="")
    assert dump_raf(load_raf(text).model_dump()) == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"示例"', '"Other"'),
        ("希望", "絕望"),
        ("    8191,", "    8190,"),
        (f"    {GLOBALS[3]},", f"    {GLOBALS[4]},"),
        ("5.2", "5.20001"),
        ('"checksum": "', '"checksum": "0'),
        ("16000", "24000"),
        ('\n  ],\n  "audio', ',\n    1\n  ],\n  "audio'),
    ],
)
def test_changed_file_is_refused(old: str, new: str) -> None:
    text = raf()
    assert text.count(old) >= 1
    message = refusal(text.replace(old, new, 1))
    assert "checksum" in message
    assert FIELDS["id"] in message


def test_file_without_checksum_is_refused() -> None:
    assert "checksum" in refusal(json.dumps(FIELDS))
    assert "checksum" in refusal(serde_pretty(FIELDS, ""))


@pytest.mark.parametrize(
    "voice_id",
    [
        "../first",
        "..",
        ".",
        "",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "C:x",
        "a\nb",
        "first\n",
        "a b",
        "é",
        "x" * 129,
        "-a",
    ],
)
def test_id_that_could_name_a_path_is_refused(voice_id: str) -> None:
    assert "voice id" in refusal(raf(id=voice_id))


def test_only_form_and_checksum_count() -> None:
    assert load_raf(raf(global_tokens=[2**70], semantic_tokens=[-1])).global_tokens == [2**70]
    with pytest.raises(VoiceError, match="checksum"):
        load_raf(raf().replace("5.2", "5.3"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "voice",
        "[]",
        "null",
        "{}",
        "\x00\x01",
        "[" * 100_000,
        '{"a":' * 100_000,
        raf().replace("5.2", "[" * 50_000 + "]" * 50_000),
        raf().replace("16000", "9" * 5000),
        raf().replace('"name": "', '"extra": 1, "name": "'),
        raf().replace('  "sample_rate": 16000,\n', ""),
        raf().replace("示例", "\\ud800"),
    ],
)
def test_hostile_text_is_refused(text: str) -> None:
    assert refusal(text).startswith("not a RAF voice file: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_duration_that_is_no_number_is_refused_even_with_its_checksum(number: str) -> None:
    fields = {**FIELDS, "audio_duration": float(number)}
    assert "audio_duration" in refusal(dump_raf(fields))
    assert "audio_duration" in refusal(raf().replace("5.2", number))


@settings(max_examples=150, deadline=None)
@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*FIELDS, "checksum"]), inner),
    ).map(json.dumps)
)
def test_any_text_is_refused_with_a_voice_error(text: str) -> None:
    refusal(text)
