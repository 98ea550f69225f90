"""References to voices: each as if alone, equal ones once, a bad one fails alone, wav2vec 2.0 only when needed."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codec.bicodec import ENCODER_KEYS, WEIGHTS_FILE
from codec.features import SemanticFeatures
from codec.recording import read_recording
from codec.voice_encoder import EncodedVoice, VoiceEncoder
from recordings import recording
from rwkv_tts.refusal import Cause, Refusal
from wav2vec2 import random_wav2vec2
from worker.speech.cloning import Cloner, Recording
from worker.speech.describe import describe
from worker.speech.loading import open_model
from worker.speech.model import LocalModel

VOICES = 8
WIDTH = 40
"""Of the features that the random model's codec takes."""
JUNK = b"text, by the name of voice.wav"


@pytest.fixture(scope="module")
def encoder(random_model: Path) -> VoiceEncoder:
    encoder = open_model(random_model).voice_encoder
    assert encoder is not None
    return encoder


class Counted:
    """A voice encoder's ways into the codec, with the rows of each call written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoder: VoiceEncoder) -> None:
        self.globals_: list[int] = []
        self.semantic: list[int] = []
        monkeypatch.setattr(
            encoder.codec, "encode_globals", self._counting(encoder.codec.encode_globals, self.globals_)
        )
        monkeypatch.setattr(
            encoder.codec, "encode_semantic", self._counting(encoder.codec.encode_semantic, self.semantic)
        )

    def _counting(self, encode: Callable[[Any], Any], calls: list[int]) -> Callable[[Any], Any]:
        def counting(rows: Any) -> Any:
            calls.append(len(rows))
            return encode(rows)

        return counting


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, encoder: VoiceEncoder) -> Counted:
    return Counted(monkeypatch, encoder)


def plain(number: int, seconds: float = 1.5) -> Recording:
    return Recording(recording(number, seconds), transcript=False)


def spoken(number: int, seconds: float = 1.5) -> Recording:
    return Recording(recording(number, seconds), transcript=True)


def voice(outcome: EncodedVoice | Refusal) -> EncodedVoice:
    assert isinstance(outcome, EncodedVoice), outcome
    return outcome


def different(make: Callable[[int, float], Recording]) -> list[Recording]:
    """Eight voices of unequal length, shorter and longer than a clip."""
    return [make(number, 0.4 + 0.9 * number) for number in range(VOICES)]


@pytest.mark.parametrize("make", [plain, spoken])
def test_each_of_eight_in_a_batch_is_what_it_is_alone(
    encoder: VoiceEncoder, make: Callable[[int, float], Recording]
) -> None:
    references = different(make)
    alone = [voice(Cloner(encoder)([one])[0]) for one in references]
    assert Cloner(encoder)(references) == alone
    assert Cloner(encoder)(references[::-1]) == alone[::-1]
    assert len({tuple(one.globals_) for one in alone}) == VOICES, "a voice is not like another"


def test_tokens_are_those_of_the_codec(encoder: VoiceEncoder) -> None:
    (expected,) = encoder([read_recording(recording(3))])
    (found,) = Cloner(encoder)([spoken(3)])
    assert replace(voice(found), faults=(), cut_off=False) == expected
    assert len(expected.semantic) == pytest.approx(50 * expected.seconds, abs=2)
    assert replace(voice(Cloner(encoder)([plain(3)])[0]), semantic=expected.semantic) == found


def test_equal_references_are_encoded_once_and_remembered(encoder: VoiceEncoder, counted: Counted) -> None:
    cloner = Cloner(encoder)
    first = cloner([plain(1), plain(2), plain(1)])
    assert first[0] is first[2]
    assert counted.globals_ == [2]
    assert cloner([plain(2), plain(1)]) == [first[1], first[0]]
    assert counted.globals_ == [2]


def test_semantic_tokens_are_made_only_for_transcripts(encoder: VoiceEncoder, counted: Counted) -> None:
    cloner = Cloner(encoder)
    outcomes = cloner([plain(1), spoken(1), plain(2)])
    assert [bool(voice(one).semantic) for one in outcomes] == [False, True, False]
    assert (sorted(counted.globals_), counted.semantic) == ([1, 2], [1])
    assert cloner([spoken(1), plain(1)]) == [outcomes[1], outcomes[0]]
    assert counted.semantic == [1]


def test_the_voice_used_longest_ago_is_forgotten(encoder: VoiceEncoder, counted: Counted) -> None:
    cloner = Cloner(encoder, capacity=2)
    for number in (1, 2, 1, 3):
        cloner([plain(number)])
    assert len(counted.globals_) == 3
    cloner([plain(1)])
    assert len(counted.globals_) == 3, "its second use kept it"
    cloner([plain(2)])
    assert len(counted.globals_) == 4


def test_more_at_once_than_are_remembered_all_get_their_voice(encoder: VoiceEncoder) -> None:
    references = different(plain)
    small, large = Cloner(encoder, capacity=1), Cloner(encoder)
    small(references[:1])
    assert small(references) == large(references)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (b"", "unknown format"),
        (JUNK, "unknown format"),
        (recording(1)[:100], "recording"),
        (recording(1, 0.05), "at least 0.1 s"),
        (recording(1, 61), "at most 60 s"),
    ],
)
def test_a_refused_file_fails_alone_with_its_reason(encoder: VoiceEncoder, audio: bytes, reason: str) -> None:
    good = [plain(1), spoken(2)]
    bad, *others = Cloner(encoder)([Recording(audio, transcript=True), *good])
    assert isinstance(bad, Refusal)
    assert (bad.field, bad.cause) == ("reference", Cause.INVALID)
    assert reason in bad.message
    assert "\n" not in bad.message
    assert others == Cloner(encoder)(good)


def test_a_batch_that_fails_is_encoded_one_by_one(encoder: VoiceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a batch needs more memory than there is, and one of its rows alone does too."""
    references = [plain(number) for number in range(3)]
    expected = Cloner(encoder)(references)
    encode, sizes = encoder.codec.encode_globals, []

    def limited(clips: Tensor) -> Tensor:
        sizes.append(len(clips))
        if len(clips) > 1 or sizes == [3, 1, 1]:
            raise torch.OutOfMemoryError("no memory\nwith a long explanation")
        return encode(clips)

    monkeypatch.setattr(encoder.codec, "encode_globals", limited)
    cloner = Cloner(encoder)
    found = cloner(references)
    assert sizes == [3, 1, 1, 1]
    assert found == [
        expected[0],
        Refusal("voice encoder", Cause.INTERNAL, "OutOfMemoryError: no memory"),
        expected[2],
    ]
    assert cloner(references) == expected, "a failure is not remembered"


def test_a_lost_device_is_not_the_fault_of_a_reference(
    encoder: VoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Tensor) -> Tensor:
        raise torch.AcceleratorError("device-side assert triggered")

    monkeypatch.setattr(encoder.codec, "encode_globals", lost)
    with pytest.raises(torch.AcceleratorError):
        Cloner(encoder)([plain(1), plain(2)])


# What a model directory has for it.


def copy_of(model: Path, to: Path, *, features: str) -> Path:
    """A copy of a model directory, with another front end."""
    shutil.copytree(model, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "features": features}))
    return to


def encode(speech: LocalModel, references: Sequence[Recording]) -> list[EncodedVoice | Refusal]:
    assert speech.voice_encoder is not None
    return Cloner(speech.voice_encoder)(references)


def test_wav2vec2_is_loaded_for_the_first_transcript_and_not_before(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copy_of(random_model, tmp_path / "model", features="wav2vec2")
    random_wav2vec2(WIDTH).save_pretrained(directory / "wav2vec2")
    loads: list[Path] = []
    load = SemanticFeatures.load

    def counting(path: Path, device: str) -> SemanticFeatures:
        loads.append(path)
        return load(path, device)

    monkeypatch.setattr(SemanticFeatures, "load", counting)
    speech = open_model(directory)
    assert speech.refusals == {}
    assert voice(encode(speech, [plain(1)])[0]).semantic == []
    assert loads == []
    long, short = (voice(one) for one in encode(speech, [spoken(1), spoken(2, 0.5)]))
    assert abs(len(long.semantic) - 75) <= 2
    assert abs(len(short.semantic) - 25) <= 2
    assert voice(encode(speech, [spoken(2, 0.5)])[0]) == short
    assert loads == [directory / "wav2vec2"]


def test_a_broken_wav2vec2_fails_transcripts_only(random_model: Path, tmp_path: Path) -> None:
    directory = copy_of(random_model, tmp_path / "model", features="wav2vec2")
    random_wav2vec2(WIDTH).save_pretrained(directory / "wav2vec2")
    (directory / "wav2vec2" / "model.safetensors").unlink()
    good, bad = encode(open_model(directory), [plain(1), spoken(1)])
    assert isinstance(good, EncodedVoice)
    assert isinstance(bad, Refusal)
    assert str(bad).startswith("voice encoder: OSError: ")
    assert bad.cause is Cause.INTERNAL


def test_without_wav2vec2_references_work_but_no_transcripts(random_model: Path, tmp_path: Path) -> None:
    directory = copy_of(random_model, tmp_path / "model", features="wav2vec2")
    speech = open_model(directory)
    assert list(speech.refusals) == ["reference_text"]
    assert "has no wav2vec2/config.json; accepted: reference without" in speech.refusals["reference_text"]
    assert encode(speech, [plain(1)]) == encode(open_model(random_model), [plain(1)])
    assert describe(directory)["cloning"] == "reference_text: " + speech.refusals["reference_text"]


def test_without_transformers_references_work_but_no_transcripts(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copy_of(random_model, tmp_path / "model", features="wav2vec2")
    (directory / "wav2vec2").mkdir()
    (directory / "wav2vec2" / "config.json").write_text("{}")
    monkeypatch.setattr("worker.speech.cloning.find_spec", lambda _: None)
    speech = open_model(directory)
    assert "[clone]" in speech.refusals["reference_text"]
    assert isinstance(encode(speech, [plain(1)])[0], EncodedVoice)


def test_a_codec_without_encoder_takes_no_reference_and_still_speaks(random_model: Path, tmp_path: Path) -> None:
    directory = copy_of(random_model, tmp_path / "model", features="mel")
    weights = directory / "bicodec" / WEIGHTS_FILE
    whole = load_file(weights)
    save_file({name: one for name, one in whole.items() if not name.startswith(ENCODER_KEYS)}, weights)
    speech = open_model(directory)
    assert speech.voice_encoder is None
    assert speech.refusals["reference"].startswith("this worker clones no voices, its bicodec/ has no encoder; ")
    tokens, voices = [torch.arange(5)], torch.arange(32)[None]
    theirs = open_model(random_model).codec.decode(tokens, voices)
    assert torch.equal(speech.codec.decode(tokens, voices)[0], theirs[0])


def test_a_setting_switches_it_off(random_model: Path) -> None:
    speech = open_model(random_model, clone=False)
    assert speech.voice_encoder is None
    assert speech.codec.encoder is None
    assert "the setting clone is off; accepted: voice, or the attributes age, " in speech.refusals["reference"]
    assert open_model(random_model).refusals == {}
    assert describe(random_model)["cloning"] == "yes"
