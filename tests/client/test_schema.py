"""Requests: what is wrong is said in one line that names the field and what is accepted."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import result_of
from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.keys import SCHEMA
from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import (
    MAX_METADATA_BYTES,
    MAX_REFERENCE_BYTES,
    SynthesisRequest,
    parse_request,
)

NAN, INF = float("nan"), float("inf")
SPCT = {
    "speed": {"very_slow": 1, "slow": 2, "medium": 3, "fast": 4, "very_fast": 5},
    "pitch": {"low_pitch": 6, "medium_pitch": 7, "high_pitch": 8, "very_high_pitch": 9},
    "age": {"child": 13, "teenager": 14, "youth-adult": 15, "middle-aged": 16, "elderly": 17},
    "gender": {"female": 46, "male": 47},
    "emotion": {
        "unknown": 21,
        "neutral": 22,
        "angry": 23,
        "happy": 24,
        "sad": 25,
        "fearful": 26,
        "disgusted": 27,
        "surprised": 28,
        "sarcastic": 29,
        "excited": 30,
        "sleepy": 31,
        "confused": 32,
        "emphasis": 33,
        "laughing": 34,
        "singing": 35,
        "worried": 36,
        "whisper": 37,
        "anxious": 38,
        "no-agreement": 39,
        "apologetic": 40,
        "concerned": 41,
        "enunciated": 42,
        "assertive": 43,
        "encouraging": 44,
        "contempt": 45,
    },
}
"""The numbers of the published checkpoints, written down from their fact sheet."""
PROMPT_ORDER = ("age", "gender", "emotion", "pitch", "speed")
FIELD_NAMES = (
    *("text", "voice", "normalize", "language", "use_transcript", "reference", "reference_text", "age", "gender"),
    *("emotion", "pitch", "speed", "seed", "format", "sample_rate", "temperature", "top_p", "top_k"),
    *("max_seconds", "timestamps"),
    *("stream", "eos_guard", "metadata"),
)
SOUND = base64.b64encode(bytes(range(256))).decode()
"""Base64 with every character of its alphabet, for what is not looked at as audio."""
LARGEST = base64.b64encode(bytes(MAX_REFERENCE_BYTES)).decode()
ONE_OF = {name: ", ".join(ATTRIBUTES[name]) for name in ATTRIBUTES}
FORMAT_NAMES = "wav, flac, ogg, opus, mp3, aac, pcm"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def refusal(value: Any) -> str:
    with pytest.raises(RequestError) as caught:
        parse_request(value)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert "accepted: " in message
    return message


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        *[("text", text, "1 to 1000000 characters") for text in ("", "a" * 1_000_001, "\ud800", "a\udfffb", None)],
        *[("text", text, "text to speak") for text in (" ", "\n\t\r ", "\u3000")],
        *[(name, value, ONE_OF[name]) for name in ATTRIBUTES for value in ("ancient", "", "\ud800", "a\nb")],
        *[("format", value, FORMAT_NAMES) for value in ("m4a", "WAV", "", "wav\n")],
        *[("seed", seed, "0 to 2^64-1") for seed in (-1, 2**64, True, "5", 5.0, 10**400, NAN)],
        *[("sample_rate", r, "8000 to 48000") for r in (7999, 48_001, 0, -8000, "16000", 16000.0, True, 10**400)],
        *[("temperature", t, "0 (greedy) to 5") for t in (NAN, INF, -INF, -0.1, 5.1, True, "1", 10**400)],
        *[("top_p", p, "above 0 and up to 1") for p in (0, 1.01, NAN, INF, "1")],
        *[("top_k", k, "0 (keep all) up") for k in (-1, 1.5, True, "1")],
        *[("max_seconds", s, "above 0 and up to 100000") for s in (0, -1, 100000.5, NAN, INF, "1")],
        *[("metadata", m, "a JSON object") for m in ({"a": NAN}, {"a": "\ud800"}, {"\ud800": 1})],
        *[("metadata", {"a": nested(levels)}, "a JSON object") for levels in (300, 5000)],
        *[("reference", r, "base64") for r in ("", "A", "AAA", "A===", "=AAA", "AA=A", "====", "AAAA\n", " AAAA")],
        *[("reference", r, "base64") for r in ("AA-_", "AAA\u0661", "\ud800", f"{SOUND[:76]}\n{SOUND[76:]}")],
        *[
            ("reference", r, "base64")
            for r in ("data:audio/wav,AAAA", "data:;base64,", "https://a.b/c.wav", "/etc/passwd")
        ],
        *[("reference", r, "of up to 8388608 bytes") for r in (LARGEST + "AAAA", "\n" * 12_000_000)],
        *[("eos_guard", value, "none, or rwkv-tts-rs") for value in ("rust", "None", "", "rwkv-tts-rs")],
        *[("language", value, "auto, en, zh") for value in ("fr", "EN", "", "zh-CN")],
        ("use_transcript", True, "true with voice"),
        ("reference_text", "hello", "with reference"),
        ("metadata", {"a": "x" * MAX_METADATA_BYTES}, "16384 bytes"),
        ("metadata", {"a": "好" * (MAX_METADATA_BYTES // 2)}, "16384 bytes"),
    ],
)
def test_bad_value_is_named_with_what_is_accepted(field: str, value: Any, accepted: str) -> None:
    message = refusal({"text": "hello", field: value})
    assert message.startswith(f"{field}: ")
    assert accepted in message.partition("accepted: ")[2]


WRONG_TYPES: dict[str, list[Any]] = {
    **{
        name: [None, 1, 1.5, True, [], {}, nested(5000)]
        for name in ("text", "language", *PROMPT_ORDER, "format", "eos_guard")
    },
    **{name: [1, 1.5, True, [], {}] for name in ("voice", "reference", "reference_text")},
    **{name: [None, 1, 0.0, "true", [], {}] for name in ("use_transcript", "timestamps", "stream")},
    "normalize": [1, 0.0, "true", [], {}],
    **{name: ["1", 1.5, True, [], {}] for name in ("seed", "top_k", "sample_rate")},
    **{name: ["1", True, [], {}] for name in ("temperature", "top_p", "max_seconds")},
    "metadata": [None, 1, 1.5, True, [], "{}"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in WRONG_TYPES.items() for v in values])
def test_wrong_json_type_is_named(field: str, value: Any) -> None:
    assert refusal({"text": "hello", field: value}).startswith(f"{field}: ")


def test_every_field_has_a_wrong_type_above() -> None:
    assert set(FIELD_NAMES) == set(SynthesisRequest.model_fields) == set(WRONG_TYPES)


@pytest.mark.parametrize("value", [None, "text", 1, 1.5, True, [], [{"text": "a"}]])
def test_anything_but_an_object_is_refused(value: Any) -> None:
    assert refusal(value).startswith("request: ")


@pytest.mark.parametrize(
    ("name", "shown"), [("tempo", "tempo: "), ("a\nb", "a\\nb: "), ("\x1b[31m", "\\x1b[31m: "), ("", "'': ")]
)
def test_unknown_field_lists_the_known_ones(name: str, shown: str) -> None:
    message = refusal({"text": "a", name: 1})
    assert message.startswith(shown + "unknown field")
    assert message.endswith("accepted: " + ", ".join(FIELD_NAMES))


def test_unknown_field_that_is_not_unicode() -> None:
    assert "field name" in refusal({"text": "a", "\ud800": 1})


def test_long_unknown_field_is_cut() -> None:
    assert len(refusal({"text": "a", "x" * 10_000: 1})) < 500


def test_missing_text_is_named() -> None:
    assert refusal({}).startswith("text: ")


def test_each_of_several_problems_is_named() -> None:
    message = refusal({"text": "", "seed": -1, "pitch": "deep", "tempo": 3})
    for field in ("text", "seed", "pitch", "tempo"):
        assert f"{field}: " in message


@pytest.mark.parametrize(
    ("fields", "complaint", "accepted"),
    [
        ({"voice": "a", "reference": SOUND}, "voice, reference: both", "one of them, or neither"),
        (
            {"reference": SOUND, "use_transcript": True},
            "use_transcript: no stored",
            "reference with reference_text",
        ),
        ({"voice": "a", "reference_text": "b"}, "reference_text: no reference", "use_transcript with voice"),
        ({"reference": SOUND, "reference_text": ""}, "reference_text: ", "1 to 2000 characters"),
        ({"reference": SOUND, "reference_text": " \n"}, "reference_text: nothing but blanks", "words spoken"),
        ({"reference": SOUND, "reference_text": "a" * 2001}, "reference_text: ", "1 to 2000 characters"),
        ({"reference": SOUND + "!", "seed": 1}, "reference: not base64", "the base64"),
        (
            {"sample_rate": 44_100, "format": "opus"},
            "sample_rate: 44100 with opus",
            "8000, 12000, 16000, 24000, 4",
        ),
        ({"sample_rate": 15_999, "format": "mp3"}, "sample_rate: 15999 with mp3", "with mp3 one of 8000, 11025"),
        ({"age": "child", "eos_guard": "rwkv-tts-rs"}, "eos_guard: no voice", "with voice or reference"),
    ],
)
def test_fields_that_do_not_go_together(fields: dict[str, Any], complaint: str, accepted: str) -> None:
    message = refusal({"text": "a", **fields})
    assert message.startswith(complaint)
    assert accepted in message.partition("accepted: ")[2]


def test_a_refused_reference_is_not_quoted() -> None:
    assert len(refusal({"text": "a", "reference": "%" * 10_000})) < 300
    assert SOUND not in repr(parse_request({"text": "a", "reference": SOUND}))


@pytest.mark.parametrize("kind", ["audio/webm;codecs=opus", "audio/wav", "", "application/octet-stream"])
def test_a_data_url_is_the_base64_in_it(kind: str) -> None:
    assert parse_request({"text": "a", "reference": f"data:{kind};base64,{SOUND}"}).reference == SOUND


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({"age": "child"}, "attributes"),
        ({"voice": "a", "use_transcript": True}, "voice"),
        ({"reference": SOUND, "voice": None, "use_transcript": False}, "reference"),
    ],
)
def test_the_mode_is_implied(fields: dict[str, Any], mode: str) -> None:
    assert parse_request({"text": "a", **fields}).mode == mode


@pytest.mark.parametrize("given", [{"voice": "a"}, {"reference": SOUND}])
@pytest.mark.parametrize("name", PROMPT_ORDER)
def test_one_attribute_brings_all_to_a_given_voice(given: dict[str, str], name: str) -> None:
    """Setting one to its default counts as well; so it must survive the producer's JSON."""
    assert parse_request({"text": "a", **given}).attributes() is None
    plain = parse_request({"text": "a"}).attributes()
    assert plain is not None
    request = parse_request({"text": "a", **given, name: getattr(plain, name)})
    assert request.attributes() == plain
    again = parse_request(json.loads(json.dumps(request.model_dump(mode="json", exclude_unset=True))))
    assert again.attributes() == plain


@pytest.mark.parametrize("name", PROMPT_ORDER)
def test_attribute_tables_are_the_published_numbers(name: str) -> None:
    assert dict(ATTRIBUTES[name]) == SPCT[name]
    for value, number in SPCT[name].items():
        for spelling in (value, value.upper(), value.title()):
            attributes = parse_request({"text": "a", name: spelling}).attributes()
            assert attributes is not None
            assert attributes.control_numbers()[1 + PROMPT_ORDER.index(name)] == number


def test_defaults_are_a_neutral_voice() -> None:
    attributes = parse_request({"text": "a"}).attributes()
    assert attributes is not None
    assert attributes.control_numbers() == [0, 15, 46, 22, 7, 3]


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "a" * 20_000},
        {"text": "你好，世界 👋"},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"temperature": 0},
        {"temperature": 5.0},
        {"top_p": 1},
        {"top_k": 0},
        {"max_seconds": 3600},
        {"voice": "first"},
        {"voice": "first", "use_transcript": True, "eos_guard": "rwkv-tts-rs", "emotion": "happy"},
        {"reference": SOUND},
        {"reference": "AA==", "reference_text": "好" * 2000, "eos_guard": "rwkv-tts-rs", "pitch": "low_pitch"},
        {"reference": LARGEST, "eos_guard": "none"},
        {"metadata": {"a": [None, True, 1, 1.5, "好\n", {"b": nested(100)}]}},
        {"voice": None, "seed": None, "temperature": None, "top_p": None, "top_k": None, "max_seconds": None},
    ],
)
def test_limits_are_inclusive_and_requests_survive_json(fields: dict[str, Any]) -> None:
    request = parse_request({"text": "a", **fields})
    for name, value in fields.items():
        assert getattr(request, name) == value
    assert parse_request(json.loads(json.dumps(request.model_dump(mode="json", exclude_unset=True)))) == request


@pytest.mark.parametrize("levels", range(245, 260))
def test_accepted_metadata_can_be_echoed_at_any_depth(levels: int) -> None:
    metadata = {"a": nested(levels)}
    try:
        parse_request({"text": "a", "metadata": metadata})
    except RequestError:
        return
    assert (
        json.loads(json.dumps(result_of("j", metadata=metadata).model_dump(mode="json")))["metadata"] == metadata
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NEAR_REQUESTS = st.dictionaries(
    st.sampled_from(FIELD_NAMES) | st.text(st.characters(), max_size=4),
    JSON_VALUES | st.sampled_from(["hello", "happy", "female", "wav", 1, 0.5]),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(JSON_VALUES | NEAR_REQUESTS)
def test_any_json_is_a_request_or_one_printable_line(value: Any) -> None:
    try:
        request = parse_request(value)
    except RequestError as error:
        message = str(error)
    else:
        message = ""
        assert request.text.strip()
        json.dumps(result_of("j", metadata=request.metadata).model_dump(mode="json"), allow_nan=False).encode()
    assert message.isprintable()


def test_the_schema_has_a_number_for_what_older_workers_do_not_know() -> None:
    """Another field or value: raise ``SCHEMA``, so that jobs with it wait for a worker that knows it."""
    fields = (
        "text voice normalize language use_transcript reference reference_text age gender emotion pitch speed "
        "seed format sample_rate temperature top_p top_k max_seconds timestamps stream eos_guard metadata"
    )
    assert (SCHEMA, list(SynthesisRequest.model_fields)) == (6, fields.split())
    assert SynthesisRequest.model_fields["format"].description == f"one of {FORMAT_NAMES}"
