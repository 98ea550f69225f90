"""What a request may say of how its text is read, and how that meets what its model needs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import parse_request
from worker.speech.config import ModelError, write_config
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel
from worker.speech.preparation import make_utterance
from worker.text import traditional
from worker.text.speakable import TextConfig


@pytest.fixture(scope="module")
def speech(random_model: Path) -> SpeechModel:
    """Its tokenizer's ids are bytes, so that a text can be read back."""
    return open_model(random_model)


def texts(speech: SpeechModel, text: str, normalizer: str = "none", **fields: Any) -> list[str]:
    """What the parts of a request say."""
    config = TextConfig.model_validate({"normalizer": normalizer})
    speech = replace(speech, config=speech.config.model_copy(update={"text": config}))
    utterance = make_utterance(speech, "key", parse_request({"text": text, "seed": 1, **fields}))
    parts = [*utterance.parts, *(utterance.reading or ())]
    return [bytes(part.script.text_ids).decode() for part in parts if part.script is not None]


def test_without_a_normalizer_a_text_passes_as_it_is(speech: SpeechModel) -> None:
    assert texts(speech, "我有2本。 2026") == ["我有2本。 2026"]
    assert texts(speech, "我有2本。 2026", language="zh") == ["我有2本。 2026"]


def test_a_request_may_have_it_read_in_words(speech: SpeechModel) -> None:
    assert texts(speech, "我有2本，it costs $5.", normalize=True) == ["我有两本，it costs five dollars."]


def test_a_request_may_hand_its_text_through(speech: SpeechModel) -> None:
    assert texts(speech, "<b>2</b> 本", "auto", normalize=False) == ["<b>2</b> 本"]


@pytest.mark.parametrize(
    ("text", "language", "last"),
    [
        ("他问我哪一年。\n\n2026", "auto", "二零二六"),
        ("Which year was it?\n\n2026", "auto", "twenty twenty-six"),
        ("Which year was it?\n\n2026", "zh", "二零二六"),
        ("他问我哪一年。\n\n2026", "en", "twenty twenty-six"),
    ],
)
def test_a_part_of_numbers_is_read_in_the_language_of_its_text(
    speech: SpeechModel, text: str, language: str, last: str
) -> None:
    assert texts(speech, text, "auto", language=language)[-1] == last


@pytest.mark.parametrize(("normalizer", "language", "other"), [("english", "en", "zh"), ("chinese", "zh", "en")])
def test_a_model_of_one_language_refuses_the_other(
    speech: SpeechModel, normalizer: str, language: str, other: str
) -> None:
    assert texts(speech, "OK", normalizer, language=language)
    with pytest.raises(RequestError, match=rf"^language: '{other}', .*; accepted: auto, {language}$"):
        texts(speech, "OK", normalizer, language=other)
    assert texts(speech, "OK", normalizer, language=other, normalize=False) == ["OK"]


def test_spans_are_of_the_text_as_it_was_sent(speech: SpeechModel) -> None:
    text = "# 第1章\n\n我有**2**本书。" * 2
    config = speech.config.model_copy(update={"text": TextConfig(normalizer="auto")})
    request = parse_request({"text": text, "seed": 1, "timestamps": True})
    utterance = make_utterance(replace(speech, config=config), "key", request)
    parts = [*utterance.parts, *(utterance.reading or ())]
    assert [text[slice(*part.span)].strip("# ") for part in parts][:2] == ["第1章", "我有**2**本书。# 第1章"]


def test_a_model_that_folds_characters_needs_the_extra(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folding = TextConfig(normalizer="auto", traditional="folded")
    for name in ("rwkv7.safetensors", "bicodec", "voices"):
        (tmp_path / name).symlink_to(random_model / name)
    config = open_model(random_model).config
    write_config(tmp_path, config.model_copy(update={"text": folding}))
    assert open_model(tmp_path).config.text == folding
    monkeypatch.setattr(traditional, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"folds traditional characters, but .*rwkv-tts-worker\[chinese\]"):
        open_model(tmp_path)
