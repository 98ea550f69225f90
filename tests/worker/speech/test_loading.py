"""What a model directory says about text and attributes, and what a request gets from it."""

import json
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loguru import logger

from compiled import COMPILED
from model import product
from model.native.forward import NativeRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from native import library
from random_bicodec import SMALL_CONFIG, write_random_bicodec
from rwkv_tts.attributes import AGE, ATTRIBUTES, EMOTION, Attributes
from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import parse_request
from sampler.prompt import attribute_prompt, voice_prompt
from utterances import row
from worker.speech import loading
from worker.speech.config import AttributeConfig, ModelConfig, ModelError, read_config, write_config
from worker.speech.engines import EngineName
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel
from worker.speech.preparation import make_utterance
from worker.speech.utterance import Utterance
from worker.text.speakable import TextConfig

TRAINED = AttributeConfig(
    age=("youth-adult", "middle-aged"),
    gender=("female", "male"),
    emotion=("neutral",),
    pitch=("low_pitch", "medium_pitch"),
    speed=("slow", "medium"),
)
CONFIG = ModelConfig(
    name="n",
    licence="l",
    provenance="p",
    text=TextConfig(normalizer="english", longest=60),
    attributes=TRAINED,
)


@pytest.fixture(scope="module")
def speech(random_model: Path) -> SpeechModel:
    """The random model, as if it were trained on English and a few attributes."""
    opened = open_model(random_model)
    trained = opened.config.model_copy(update={"text": CONFIG.text, "attributes": TRAINED})
    return replace(opened, config=trained)


def spoken(speech: SpeechModel, **fields: Any) -> Utterance:
    return make_utterance(speech, "key", parse_request({"text": "Hello.", **fields}))


def prompt(speech: SpeechModel, text: str, attributes: Attributes | None = None) -> list[int]:
    return attribute_prompt(speech.layout, list(text.encode()), attributes or Attributes())


def test_config_survives_a_round_trip(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    assert read_config(tmp_path) == CONFIG


def test_a_config_of_a_published_model_takes_any_text_and_all_attributes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"name": "n", "licence": "l", "provenance": "p"}')
    config = read_config(tmp_path)
    assert config.text == TextConfig(normalizer="none", longest=None)
    assert config.attributes is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": {"normalizer": "french"}}, "text.normalizer: "),
        ({"text": {"longest": 0}}, "text.longest: "),
        ({"text": {"language": "fr"}}, "text.language: "),
        ({"text": {"dialect": "en"}}, "text.dialect: "),
        ({"attributes": {"age": ["baby"]}}, "attributes.age: .*unknown age 'baby'; accepted: child"),
        ({"attributes": {"emotion": []}}, "attributes.emotion: "),
        ({"attributes": {"accent": ["us"]}}, "attributes.accent: "),
        ({"attributes": {"pitch": None}}, "attributes.pitch: "),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, fields: Mapping[str, Any], reason: str) -> None:
    config = CONFIG.model_dump()
    for name, values in fields.items():
        config[name].update(values)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=reason):
        read_config(tmp_path)


def test_features_that_the_encoder_does_not_take_are_refused(random_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    config = deepcopy(dict(SMALL_CONFIG))
    config["audio_tokenizer"]["encoder"]["input_channels"] = 48
    write_random_bicodec(model / "bicodec", config, seed=0)
    with pytest.raises(ModelError, match=r"features are mel, 40 a frame, but bicodec/'s encoder takes 48"):
        open_model(model)


def test_text_is_normalised_before_it_is_tokenised_and_limited(speech: SpeechModel) -> None:
    words = "five kilograms"
    utterance = spoken(speech, text="5 kg")
    assert list(row(utterance).decoding.prompt) == prompt(speech, words)
    assert row(utterance).decoding.limit == row(spoken(speech, text=words)).decoding.limit
    assert row(utterance).decoding.limit > row(spoken(speech, text="a kg")).decoding.limit
    assert utterance.warnings == []


def test_text_in_a_stored_voice_is_normalised_too(speech: SpeechModel) -> None:
    tokens = speech.voices.get("first").global_tokens
    utterance = spoken(speech, text="5 kg", voice="first")
    assert list(row(utterance).decoding.prompt) == voice_prompt(speech.layout, list(b"five kilograms"), tokens)


def test_text_it_cannot_say_is_refused(speech: SpeechModel) -> None:
    with pytest.raises(RequestError, match="text: Chinese letters"):
        spoken(speech, text="\u4f60\u597d")


def test_a_text_longer_than_those_in_training_becomes_several_parts(speech: SpeechModel) -> None:
    utterance = spoken(speech, text="word " * 20)
    assert utterance.reading is not None
    parts = [*utterance.parts, *utterance.reading]
    assert [utterance.request.text[slice(*part.span)].count("word") for part in parts] == [10, 10]
    assert utterance.warnings == []


def test_markup_makes_parts_and_pauses_and_each_part_knows_where_it_stood(speech: SpeechModel) -> None:
    text = "<h1>One &amp; all</h1><p>Two <b>three</b>.<break time='900ms'/> *Four*, then. 😀</p>"
    utterance = spoken(speech, text=text)
    assert utterance.reading is not None
    parts = [*utterance.parts, *utterance.reading]
    assert [text[slice(*part.span)] for part in parts] == ["One &amp; all", "Two <b>three</b>.", "Four*, then."]
    assert [part.pause for part in parts] == [0.0, 0.8, 0.9]
    assert utterance.warnings == ["text: characters that cannot be spoken were left out: 😀"]


def test_one_foreign_part_of_a_text_does_not_refuse_it(speech: SpeechModel) -> None:
    utterance = spoken(speech, text="Hello.\n\n\u4f60\u597d\u3002")
    assert utterance.reading is not None
    assert len([*utterance.parts, *utterance.reading]) == 2
    (warning,) = utterance.warnings
    assert warning == "text: words in other letters were read as Latin ones: \u4f60\u597d"


@pytest.mark.parametrize(
    ("fields", "used", "warning"),
    [
        ({"emotion": "happy"}, {}, "emotion 'happy': this model was trained on neutral only; neutral is used"),
        (
            {"age": "elderly"},
            {"age": "middle-aged"},
            "age 'elderly': this model was trained on youth-adult and middle-aged only; middle-aged is used",
        ),
        ({"age": "child"}, {}, "age 'child': this model was trained on youth-adult and middle-aged only; youth"),
        ({"pitch": "very_high_pitch"}, {}, "pitch 'very_high_pitch': this model was trained on low_pitch and"),
        (
            {"speed": "very_slow"},
            {"speed": "slow"},
            "speed 'very_slow': this model was trained on slow and medium",
        ),
    ],
)
def test_an_untrained_value_gives_way_to_the_nearest_with_a_warning(
    speech: SpeechModel, fields: Mapping[str, str], used: Mapping[str, str], warning: str
) -> None:
    utterance = spoken(speech, **fields)
    assert list(row(utterance).decoding.prompt) == prompt(speech, "Hello.", Attributes(**used))
    (given,) = utterance.warnings
    assert given.startswith(warning)


def test_trained_values_defaults_and_stored_voices_get_no_warning(speech: SpeechModel) -> None:
    trained = {"age": "middle-aged", "gender": "male", "pitch": "low_pitch", "speed": "slow"}
    utterance = spoken(speech, **trained)
    assert list(row(utterance).decoding.prompt) == prompt(speech, "Hello.", Attributes(**trained))
    assert utterance.warnings == spoken(speech).warnings == spoken(speech, voice="first").warnings == []


def test_a_model_trained_on_everything_takes_every_value(random_model: Path) -> None:
    speech = open_model(random_model)
    utterance = spoken(speech, emotion="happy", age="child")
    assert list(row(utterance).decoding.prompt) == prompt(
        speech, "Hello.", Attributes(emotion="happy", age="child")
    )
    assert utterance.warnings == []


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_nearest_value_is_always_a_trained_one(name: str) -> None:
    assert {TRAINED.nearest(name, value) for value in ATTRIBUTES[name]} <= set(TRAINED.trained(name))
    assert all(TRAINED.nearest(name, value) == value for value in TRAINED.trained(name))


def test_emotions_are_no_scale() -> None:
    both = TRAINED.model_copy(update={"emotion": ("happy", "neutral"), "age": tuple(AGE)})
    assert both.nearest("emotion", "sad") == "neutral"
    assert list(EMOTION).index("sad") - list(EMOTION).index("happy") == 1
    assert TRAINED.model_copy(update={"emotion": ("happy", "sad")}).nearest("emotion", "angry") == "happy"


def test_the_fast_engine_wants_a_cuda_device(random_model: Path) -> None:
    reason = "device 'cpu' is no CUDA device; accepted: auto, reference, native, int8$"
    with pytest.raises(ModelError, match=f"^engine 'cuda' cannot be used: {reason}"):
        open_model(random_model, engine="cuda")


def test_a_cpu_runs_what_was_compiled_or_says_why_not(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not COMPILED:
        pytest.skip("nothing was written for this processor")
    assert isinstance(open_model(random_model, engine="reference").model, RWKV7)
    monkeypatch.setattr(library, "COMPILED", "nothing")
    said: list[str] = []
    sink = logger.add(said.append, format="{message}", level="WARNING")
    try:
        assert isinstance(open_model(random_model).model, RWKV7)
    finally:
        logger.remove(sink)
    reason = "it was not compiled when this was installed, which needs a C compiler such as gcc"
    slower = f"plain torch, several times slower than compiled code, because {reason}\n"
    assert said == [f"engine: {slower}", f"vocoder: {slower}"]
    with pytest.raises(ModelError, match=f"^engine 'native' cannot be used: {reason}; accepted: auto, reference"):
        open_model(random_model, engine="native")


@pytest.mark.skipif(not COMPILED, reason="nothing was written for this processor")
def test_a_number_of_threads_is_for_all_and_auto_for_what_was_compiled(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(loading, "available", lambda: 3)
    monkeypatch.setattr(loading, "fastest", lambda seconds, most: most if seconds(most) > 0 else 0)
    try:
        for threads, of_torch, compiled in ((2, 2, 2), ("auto", 1, 3)):
            speech = open_model(random_model, threads=threads)  # type: ignore[arg-type]
            parts = (speech.model, speech.codec.make_waves)
            if not isinstance(parts[0], NativeRWKV7):
                pytest.skip("it was not compiled here")
            assert torch.get_num_threads() == of_torch
            assert [part.threads for part in parts] == [compiled, compiled]  # type: ignore[union-attr]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("there", "compiler", "reason"),
    [(False, True, "the package triton is missing"), (True, False, "there is no C compiler, which Triton needs")],
)
def test_auto_says_why_a_gpu_is_not_used_well(
    there: bool, compiler: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda _: object() if there else None)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/cc" if compiler else None)
    said: list[str] = []
    sink = logger.add(said.append, format="{level} {message}")
    try:
        assert not loading._is_fast("auto", "cuda")
    finally:
        logger.remove(sink)
    assert said == [f"WARNING engine: plain torch, many times slower than engine 'cuda', because {reason}\n"]
    with pytest.raises(ModelError, match=reason):
        loading._is_fast("cuda", "cuda")


def test_8_bit_matrices_decode_nearly_the_same(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_LEAST_INT8", 0)

    def logits(engine: EngineName) -> torch.Tensor:
        model = open_model(random_model, engine=engine).model
        assert isinstance(model, RWKV7)
        x = model.forward(torch.arange(5), Ragged.of([5], [0], model.device), model.state(1))
        return model.logits(x, torch.empty(model.padded(1), model.head_rows)).clone()

    exact, rounded = logits("reference"), logits("int8")
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.2


def test_8_bit_matrices_that_cannot_be_had_are_refused(
    random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "_LEAST_INT8", 0)
    monkeypatch.setattr(product, "_int8_works", lambda _: False)
    with pytest.raises(ModelError, match="engine: int8 needs a CPU and a build of torch"):
        open_model(random_model, engine="int8")
