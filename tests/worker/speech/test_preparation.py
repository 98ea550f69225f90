"""From a request to a row: what each mode writes into the prompt, and what it may not."""

import base64
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batching.engine import Engine
from codec.voice_encoder import EncodedVoice
from make_random_model import RandomModel, write_random_model
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import MAX_REFERENCE_TEXT, parse_request
from rwkv_tts.voices import Voice
from sampler.decoding import FinishReason
from sampler.prompt import attribute_prompt, voice_prompt
from utterances import row
from worker.speech.assembly import Assembly
from worker.speech.catalogue import VoiceCatalogue
from worker.speech.config import AttributeConfig
from worker.speech.loading import open_model
from worker.speech.model import LocalModel
from worker.speech.preparation import MOST_TRANSCRIPT_TOKENS, make_utterance, with_voice
from worker.speech.reading import join_texts
from worker.speech.summary import kept_tokens, make_result
from worker.speech.utterance import Closed, Piece, Utterance
from worker.text.speakable import TextConfig

RECORDING = bytes(range(256)) * 3
REFERENCE = {"reference": base64.b64encode(RECORDING).decode()}
CLONED = EncodedVoice(globals_=list(range(100, 132)), semantic=[8191, 0, 7], seconds=0.06)
TRANSCRIBED = {**REFERENCE, "reference_text": "I said this."}
GUARDED = {"eos_guard": "rwkv-tts-rs", "voice": "first"}


def opened(directory: Path) -> LocalModel:
    """A random model, whose first voice knows what it said."""
    speech = open_model(directory)
    first: Voice = speech.voices.get("first").model_copy(update={"prompt_text": "I am the first."})
    return replace(speech, voices=VoiceCatalogue([first], speech.layout))


@pytest.fixture(scope="module")
def speech(random_model: Path) -> LocalModel:
    return opened(random_model)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A model that ends all speech before it begins."""
    directory = tmp_path_factory.mktemp("hasty") / "model"
    options = RandomModel(layers=2, tokenizer="bytes", seed=1, dtype="fp32", eos_logit=60.0)
    write_random_model(directory, options)
    return opened(directory)


def spoken(speech: LocalModel, key: str = "key", **fields: Any) -> Utterance:
    return make_utterance(speech, key, parse_request({"text": "Hello.", "seed": 1, **fields}))


def prompt(speech: LocalModel, **fields: Any) -> list[int]:
    """The prompt of a request; of a reference, that of the cloned voice."""
    utterance = spoken(speech, **fields)
    if utterance.recording is not None:
        with_voice(utterance, speech, CLONED)
    return list(row(utterance).decoding.prompt)


def refusal(speech: LocalModel, **fields: Any) -> str:
    with pytest.raises(RequestError) as caught:
        spoken(speech, **fields)
    message = str(caught.value)
    assert message.isprintable()
    assert "; accepted: " in message
    return message


def english(speech: LocalModel, longest: int | None = None) -> LocalModel:
    text = TextConfig(normalizer="english", longest=longest)
    return replace(speech, config=speech.config.model_copy(update={"text": text}))


def with_stored(speech: LocalModel, **fields: Any) -> LocalModel:
    """The model with a voice ``other`` that differs from its first in the given fields."""
    other: Voice = speech.voices.get("first").model_copy(update={"id": "other", **fields})
    return replace(speech, voices=VoiceCatalogue([other], speech.layout))


def test_a_format_that_this_worker_cannot_write_is_refused(
    speech: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.delivery.encoding.find_spec", lambda _: None)
    assert refusal(speech, format="aac").startswith("format: aac: the worker lacks PyAV (pip install")
    assert "[media]" in refusal(speech, format="aac")
    assert spoken(speech, format="mp3").refusal is None


def run(speech: LocalModel, utterances: Iterable[Utterance]) -> None:
    engine = Engine(speech.model, speech.layout, max_rows=8, token_chunk_size=64)
    for utterance in utterances:
        engine.add(row(utterance))
    while len(engine.scheduler):
        engine.step()


def finished(speech: LocalModel, utterance: Utterance) -> Utterance:
    """An utterance after its row has run, with silence for a wave."""
    run(speech, [utterance])
    (part,), tokens = utterance.parts, len(row(utterance).decoding.semantic)
    part.wave = np.zeros(tokens * speech.codec.hop, np.float32)
    assembly = Assembly(utterance, speech.codec.sample_rate)
    for item in (Piece(utterance, part), Closed(utterance, 1)):
        assembly.count(item)
        assembly.take(item)
    utterance.audio, utterance.account = assembly.file(), assembly.account()
    utterance.done_at = row(utterance).finished_at
    return utterance


# Prompts.


def test_a_stored_voice_gives_its_sound_only(speech: LocalModel) -> None:
    voice = speech.voices.get("first")
    assert prompt(speech, voice="first") == voice_prompt(speech.layout, list(b"Hello."), voice.global_tokens)


def test_a_stored_voice_with_its_transcript(speech: LocalModel) -> None:
    voice = speech.voices.get("first")
    assert prompt(speech, voice="first", use_transcript=True) == voice_prompt(
        speech.layout,
        list(f"{voice.prompt_text} Hello.".encode()),
        voice.global_tokens,
        semantic=voice.semantic_tokens,
    )


def test_a_reference_gives_its_sound_only(speech: LocalModel) -> None:
    assert prompt(speech, **REFERENCE) == voice_prompt(speech.layout, list(b"Hello."), CLONED.globals_)


def test_a_reference_with_its_transcript(speech: LocalModel) -> None:
    assert prompt(speech, **TRANSCRIBED) == voice_prompt(
        speech.layout, list(b"I said this. Hello."), CLONED.globals_, semantic=CLONED.semantic
    )


@pytest.mark.parametrize("given", [{"voice": "first"}, {"voice": "first", "use_transcript": True}, REFERENCE])
def test_attributes_go_before_a_given_voice_as_soon_as_one_is_set(
    speech: LocalModel, given: dict[str, Any]
) -> None:
    plain = prompt(speech, **given)
    control = attribute_prompt(speech.layout, [1], Attributes(emotion="happy"))[:6]
    assert prompt(speech, **given, emotion="happy") == control + plain
    default = attribute_prompt(speech.layout, [1], Attributes())[:6]
    assert prompt(speech, **given, emotion="neutral") == default + plain


def test_attributes_of_a_given_voice_are_the_trained_ones(speech: LocalModel) -> None:
    trained = AttributeConfig(
        age=("elderly",), gender=("male",), emotion=("neutral",), pitch=("low_pitch",), speed=("medium",)
    )
    narrow = replace(speech, config=speech.config.model_copy(update={"attributes": trained}))
    assert spoken(narrow, voice="first").warnings == []
    utterance = spoken(narrow, voice="first", emotion="happy")
    used = Attributes(age="elderly", gender="male", pitch="low_pitch")
    assert list(row(utterance).decoding.prompt)[:6] == attribute_prompt(speech.layout, [1], used)[:6]
    assert any(warning.startswith("emotion 'happy': ") for warning in utterance.warnings)


@pytest.mark.parametrize("more", [{}, {"reference_text": "word " * 300}])
def test_the_limit_is_that_of_the_text_to_speak(speech: LocalModel, more: dict[str, str]) -> None:
    utterance = spoken(speech, **REFERENCE, **more)
    with_voice(utterance, speech, CLONED)
    assert row(utterance).decoding.limit == row(spoken(speech)).decoding.limit


# References on their way.


def test_a_reference_waits_for_its_voice(speech: LocalModel) -> None:
    """The row stays the same object, the one that the stages know; the recording is let go of."""
    utterance = spoken(speech, **TRANSCRIBED, temperature=0.5, max_seconds=1, seed=9)
    only = row(utterance)
    assert (utterance.id, utterance.recording) == ("key", RECORDING)
    assert (list(only.decoding.prompt), only.decoding.globals_) == ([], [])
    with_voice(utterance, speech, CLONED)
    assert row(utterance) is only
    assert (utterance.recording, utterance.voice) == (None, CLONED)
    assert (only.decoding.globals_, only.decoding.semantic) == (CLONED.globals_, [])
    assert (only.decoding.seed, only.decoding.limit) == (9, 50)
    assert only.decoding.semantic_sampling.temperature == 0.5
    assert only.decoding.remaining == len(only.decoding.prompt) > 0


def test_a_transcript_needs_semantic_tokens(speech: LocalModel) -> None:
    silent = replace(CLONED, semantic=[])
    with_voice(spoken(speech, **REFERENCE), speech, silent)
    with pytest.raises(RequestError, match=r"^reference: no semantic tokens; accepted: .*without reference_text"):
        with_voice(spoken(speech, **TRANSCRIBED), speech, silent)


@pytest.mark.parametrize(
    "voice",
    [replace(CLONED, globals_=[4096] * 32), replace(CLONED, semantic=[8192]), replace(CLONED, globals_=[])],
)
def test_tokens_that_are_not_the_models_are_refused(speech: LocalModel, voice: EncodedVoice) -> None:
    utterance = spoken(speech, **TRANSCRIBED)
    with pytest.raises(ValueError, match="voice: "):
        with_voice(utterance, speech, voice)


@pytest.mark.parametrize("field", ["reference", "reference_text"])
def test_what_the_model_cannot_serve_is_refused(speech: LocalModel, field: str) -> None:
    limited = replace(speech, refusals={field: "why; accepted: what"})
    assert refusal(limited, **TRANSCRIBED) == f"{field}: why; accepted: what"
    assert spoken(limited, voice="first").parts[0].row.decoding.prompt
    if field == "reference_text":
        assert spoken(limited, **REFERENCE).recording == RECORDING


# Transcripts.


@pytest.mark.parametrize("fields", [{"prompt_text": ""}, {"prompt_text": " \n"}, {"semantic_tokens": []}])
def test_a_stored_voice_may_have_no_transcript(speech: LocalModel, fields: dict[str, Any]) -> None:
    other = with_stored(speech, **fields)
    assert refusal(other, voice="other", use_transcript=True).startswith("use_transcript: voice 'other' has no")
    assert spoken(other, voice="other").parts[0].row.decoding.prompt


@pytest.mark.parametrize(
    ("characters", "tokens", "fits"),
    [
        (MAX_REFERENCE_TEXT, MOST_TRANSCRIPT_TOKENS, True),
        (MAX_REFERENCE_TEXT + 1, 1, False),
        (1, MOST_TRANSCRIPT_TOKENS + 1, False),
    ],
)
def test_a_stored_transcript_is_no_longer_than_a_reference(
    speech: LocalModel, characters: int, tokens: int, fits: bool
) -> None:
    other = with_stored(speech, prompt_text="a" * characters, semantic_tokens=[1] * tokens)
    if fits:
        assert len(prompt(other, voice="other", use_transcript=True)) > tokens + characters
    else:
        assert "accepted: up to 3000 and 2000" in refusal(other, voice="other", use_transcript=True)


def test_transcripts_are_normalised_as_texts_are(speech: LocalModel) -> None:
    reader = english(speech)
    ids = list(b"five kilograms two miles")
    expected = voice_prompt(speech.layout, ids, CLONED.globals_, semantic=CLONED.semantic)
    assert prompt(reader, **REFERENCE, text="2 mi", reference_text="5 kg") == expected
    stored = with_stored(
        reader, prompt_text="5 kg", global_tokens=CLONED.globals_, semantic_tokens=CLONED.semantic
    )
    assert prompt(stored, text="2 mi", voice="other", use_transcript=True) == expected


def test_messages_about_a_transcript_name_its_field(speech: LocalModel) -> None:
    reader = english(speech, longest=30)
    assert refusal(reader, **REFERENCE, reference_text="你好").startswith("reference_text: Chinese letters")
    stored = with_stored(reader, prompt_text="你好")
    message = refusal(stored, voice="other", use_transcript=True)
    assert message.startswith("use_transcript: voice 'other': Chinese letters")
    (dropped,) = spoken(reader, **REFERENCE, reference_text="One \u2603 two.").warnings
    assert dropped.startswith("reference_text: characters that cannot be spoken were left out: \u2603")


@pytest.mark.parametrize(("transcript", "warned"), [("Word " * 3, False), ("Word " * 5, True)])
def test_transcript_and_text_may_be_too_long_together(speech: LocalModel, transcript: str, warned: bool) -> None:
    warnings = spoken(english(speech, longest=30), **REFERENCE, reference_text=transcript).warnings
    assert [warning.startswith("text: 31 characters with the transcript") for warning in warnings] == (
        [True] if warned else []
    )


@pytest.mark.parametrize(
    ("transcript", "text", "joined"),
    [
        ("Good day.", "How are you?", "Good day. How are you?"),
        ("Good day. ", "How are you?", "Good day. How are you?"),
        ("Good day.", "\nHow are you?", "Good day.\nHow are you?"),
        ("Voilà", "“Élan”", "Voilà “Élan”"),
        ("Room 5", "7 days", "Room 5 7 days"),
        ("你好。", "世界", "你好。世界"),
        ("你好", "world", "你好world"),
        ("world", "你好", "world你好"),
        ("Hello。", "Hello", "Hello。Hello"),
        ("你好.", "Hello", "你好.Hello"),
        ("Привет.", "Hello", "Привет.Hello"),
        ("...", "Hello", "...Hello"),
    ],
)
def test_texts_are_joined(transcript: str, text: str, joined: str) -> None:
    assert join_texts(transcript, text) == joined


# The rules of the Rust system against an early end.


@pytest.mark.parametrize(("text", "first"), [("a", 12), ("a" * 20, 36), ("a" * 100, 180)])
def test_guarded_speech_ends_no_sooner_than_in_the_rust_system(hasty: LocalModel, text: str, first: int) -> None:
    free, guarded = spoken(hasty, voice="first", text=text), spoken(hasty, "guarded", text=text, **GUARDED)
    run(hasty, [free, guarded])
    assert (row(free).finished, row(free).decoding.semantic) == (FinishReason.EOS, [])
    assert (row(guarded).finished, len(row(guarded).decoding.semantic)) == (
        FinishReason.EOS,
        first,
    )
    assert hasty.layout.eos not in row(guarded).decoding.semantic


def test_the_guard_counts_the_text_without_its_transcript(speech: LocalModel) -> None:
    alone = spoken(speech, text="a" * 20, **GUARDED)
    after = spoken(speech, text="a" * 20, **GUARDED, use_transcript=True)
    assert row(alone).decoding.first_eos == row(after).decoding.first_eos == 36


def test_guarded_rows_share_a_batch_with_others(hasty: LocalModel) -> None:
    """Each row draws what it draws alone, whichever of its mates may not end yet."""

    def rows() -> list[Utterance]:
        fields: list[dict[str, Any]] = [
            GUARDED,
            {"voice": "first"},
            {},
            {**GUARDED, "use_transcript": True},
            {**GUARDED, "top_k": 0},
        ]
        made = [spoken(hasty, str(i), **one, text="a" * (5 * i + 1)) for i, one in enumerate(fields)]
        cloned = spoken(hasty, "cloned", **TRANSCRIBED, eos_guard="rwkv-tts-rs")
        with_voice(cloned, hasty, CLONED)
        return [*made, cloned]

    together, alone = rows(), rows()
    run(hasty, together)
    for utterance in alone:
        run(hasty, [utterance])
    assert [row(one).decoding for one in together] == [row(one).decoding for one in alone]
    assert [len(row(one).decoding.semantic) for one in together] == [12, 0, 0, 29, 38, 12]


def test_the_limit_wins_over_the_guard(hasty: LocalModel) -> None:
    utterance = spoken(hasty, **GUARDED, max_seconds=0.1)
    run(hasty, [utterance])
    assert (row(utterance).finished, len(row(utterance).decoding.semantic)) == (
        FinishReason.LENGTH,
        5,
    )


# Results.


@pytest.mark.parametrize(
    ("fields", "mode"), [({}, "attributes"), ({"voice": "first"}, "voice"), (REFERENCE, "reference")]
)
def test_a_result_tells_its_mode_and_the_time_of_cloning(
    speech: LocalModel, fields: dict[str, Any], mode: str
) -> None:
    utterance = spoken(speech, **fields)
    if mode == "reference":
        with_voice(utterance, speech, CLONED)
        utterance.cloned_at = utterance.claimed_at + 0.25
    result = make_result(finished(speech, utterance), 16_000)
    assert result.mode == mode
    assert result.timings.clone == pytest.approx(0.25 if mode == "reference" else 0.0)
    assert result.tokens.semantic == len(row(utterance).decoding.semantic)
    json.dumps(result.model_dump(mode="json"), allow_nan=False)


def test_what_is_kept_of_a_reference_is_the_reference(speech: LocalModel) -> None:
    for fields, text in ((REFERENCE, ""), (TRANSCRIBED, "I said this.")):
        utterance = spoken(speech, **fields)
        with_voice(utterance, speech, CLONED)
        kept = kept_tokens(finished(speech, utterance), 16_000)
        assert (kept.globals, kept.semantic) == (CLONED.globals_, CLONED.semantic)
        assert (kept.text, kept.seconds, kept.sample_rate) == (text, CLONED.seconds, 16_000)


def test_what_is_kept_of_other_voices_is_their_speech(ending_model: Path) -> None:
    speech = open_model(ending_model)
    utterance = finished(speech, spoken(english(speech), text="5 kg"))
    decoding = row(utterance).decoding
    kept = kept_tokens(utterance, 16_000)
    assert row(utterance).finished is FinishReason.EOS
    assert (kept.globals, kept.semantic, kept.text) == (decoding.globals_, decoding.semantic, "5 kg")
    assert kept.seconds == len(decoding.semantic) / 50


def test_speech_that_was_cut_has_no_transcript(speech: LocalModel) -> None:
    utterance = finished(speech, spoken(speech, max_seconds=0.1))
    assert row(utterance).finished is FinishReason.LENGTH
    assert kept_tokens(utterance, 16_000).text == ""
