"""RAF voices: bytes survive, changes do not pass, and an id names nothing but a voice."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_tts.voices import MAX_RAF_BYTES, VoiceError, VoiceLibrary, dump_raf, load_raf
from sampler.layout import TokenLayout

LAYOUT = TokenLayout()
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
        load_raf(text, LAYOUT)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("duration", [5.2, 0.1, 40.96, 3.0, 24.939999])
def test_round_trip_is_byte_identical(duration: float) -> None:
    text = raf(audio_duration=duration)
    voice = load_raf(text, LAYOUT)
    assert voice.model_dump(exclude={"checksum"}) == {**FIELDS, "audio_duration": duration}
    assert dump_raf(voice.model_dump()).encode() == text.encode()
    assert dump_raf({**FIELDS, "audio_duration": duration}) == text


def test_voice_without_semantic_tokens_or_prompt_loads() -> None:
    text = raf(semantic_tokens=[], prompt_text="")
    assert dump_raf(load_raf(text, LAYOUT).model_dump()) == text


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


@pytest.mark.parametrize(
    "tokens", [[], GLOBALS[:31], [*GLOBALS, 1], [4096, *GLOBALS[1:]], [-1, *GLOBALS[1:]], [2**70, *GLOBALS[1:]]]
)
def test_wrong_global_tokens_are_refused(tokens: list[int]) -> None:
    message = refusal(raf(global_tokens=tokens))
    assert "global_tokens" in message
    assert "32 values in 0..4095" in message


@pytest.mark.parametrize("token", [8192, -1, 2**70])
def test_wrong_semantic_tokens_are_refused(token: int) -> None:
    message = refusal(raf(semantic_tokens=[1, token]))
    assert "semantic_tokens" in message
    assert "0..8191" in message


def test_limits_are_those_of_the_layout() -> None:
    small = TokenLayout(semantic_size=10, global_size=8, globals_per_voice=2)
    text = raf(global_tokens=[0, 7], semantic_tokens=[9])
    assert load_raf(text, small).global_tokens == [0, 7]
    with pytest.raises(VoiceError, match=r"2 values in 0\.\.7"):
        load_raf(raf(global_tokens=[0, 8], semantic_tokens=[9]), small)


def test_without_a_layout_only_form_and_checksum_count() -> None:
    assert load_raf(raf(global_tokens=[2**70], semantic_tokens=[-1]), None).global_tokens == [2**70]
    with pytest.raises(VoiceError, match="checksum"):
        load_raf(raf().replace("5.2", "5.3"), None)


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


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.raf.json").write_text(text, encoding="utf-8")


def test_library_finds_voices_by_id_and_lists_them_when_one_is_unknown(tmp_path: Path) -> None:
    for voice_id in ("beta", "alpha"):
        write(tmp_path, voice_id, raf(id=voice_id))
    (tmp_path / "notes.json").write_text("{}")
    library = VoiceLibrary.load(tmp_path, LAYOUT)
    assert [voice.id for voice in library] == ["alpha", "beta"]
    assert library.get("beta").id == "beta"
    for name in ("gamma", "../alpha", "ALPHA", "x" * 10_000, "a\nb"):
        with pytest.raises(VoiceError, match="accepted: alpha, beta") as caught:
            library.get(name)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)


def test_library_of_an_absent_folder_is_empty(tmp_path: Path) -> None:
    library = VoiceLibrary.load(tmp_path / "none", LAYOUT)
    assert list(library) == []
    with pytest.raises(VoiceError, match="none is stored"):
        library.get("first")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"[" * 100_000])
def test_library_names_the_file_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "alpha", raf(id="alpha"))
    (tmp_path / "broken.raf.json").write_bytes(content)
    with pytest.raises(VoiceError, match=r"^broken\.raf\.json: "):
        VoiceLibrary.load(tmp_path, LAYOUT)


def test_a_file_is_read_as_far_as_a_voice_may_be_long(tmp_path: Path) -> None:
    fits = raf() + "\n" * (MAX_RAF_BYTES - len(raf().encode()))
    write(tmp_path, "long", fits)
    assert [voice.id for voice in VoiceLibrary.load(tmp_path, LAYOUT)] == [FIELDS["id"]]
    write(tmp_path, "long", fits + "\n")
    with pytest.raises(VoiceError, match=rf"^long\.raf\.json: .*too long; accepted: up to {MAX_RAF_BYTES} bytes"):
        VoiceLibrary.load(tmp_path, LAYOUT)


def test_an_unknown_voice_is_told_of_some_others_only(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, f"{number:02}", raf(id=f"voice{number:02}"))
    with pytest.raises(VoiceError, match=r"accepted: voice00, .*voice19, \.\.\.$"):
        VoiceLibrary.load(tmp_path, LAYOUT).get("nobody")


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", raf(id="same"))
    write(tmp_path, "two", raf(id="same", name="Other"))
    with pytest.raises(VoiceError, match=r"two\.raf\.json: .*'same'"):
        VoiceLibrary.load(tmp_path, LAYOUT)
