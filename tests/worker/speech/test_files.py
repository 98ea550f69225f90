"""Folders as people have them after a download speak as they are, and what is missing is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from published import ALONE, RESPARK, TRANSCRIPTS, checkpoint, respark_folder, rust_checkout, spark_tts
from worker.speech.config import ModelError
from worker.speech.files import card_licence, find_files
from worker.speech.loading import open_model


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spark_tts(tmp_path_factory.mktemp("hub") / "Spark-TTS-0.5B")


def respark_with_codec(folder: Path, spark: Path) -> Path:
    """The codec lies in the model's folder."""
    shutil.copytree(spark / "BiCodec", respark_folder(folder / RESPARK) / "BiCodec")
    return folder / RESPARK


def respark_beside_spark(folder: Path, spark: Path) -> Path:
    """Both repositories lie in one folder."""
    shutil.copytree(spark, folder / "Spark-TTS-0.5B")
    return respark_folder(folder / RESPARK)


def a_pth_beside_a_codec(folder: Path, spark: Path) -> Path:
    shutil.copytree(spark / "BiCodec", folder / "BiCodec")
    checkpoint(folder / ALONE, "pth")
    return folder


def the_pth_itself(folder: Path, spark: Path) -> Path:
    return a_pth_beside_a_codec(folder, spark) / ALONE


def all_formats_of_one_model(folder: Path, spark: Path) -> Path:
    """As conversion leaves them: the first of a list is taken."""
    shutil.copytree(spark / "BiCodec", folder / "BiCodec")
    checkpoint(folder / "webrwkv.safetensors", "web-rwkv")
    checkpoint(folder / "model_converted.pth", "pth")
    return folder


def rust_with_codec(folder: Path, spark: Path) -> Path:
    shutil.copytree(spark / "BiCodec", rust_checkout(folder / "rwkv-tts-rs") / "BiCodec")
    return folder / "rwkv-tts-rs"


@pytest.mark.parametrize(
    ("layout", "file", "licence", "voices"),
    [
        (respark_with_codec, "model.safetensors", "apache-2.0; codec: apache-2.0", []),
        (respark_beside_spark, "model.safetensors", "apache-2.0; codec: cc-by-nc-sa-4.0", []),
        (a_pth_beside_a_codec, ALONE, "unknown, see its model card; codec: unknown, see its model card", []),
        (the_pth_itself, ALONE, "unknown, see its model card; codec: unknown, see its model card", []),
        (all_formats_of_one_model, "webrwkv.safetensors", "unknown", []),
        (rust_with_codec, "webrwkv.safetensors", "unknown", ["first", "second"]),
    ],
)
def test_a_download_is_a_model(
    layout: Callable[[Path, Path], Path],
    file: str,
    licence: str,
    voices: list[str],
    tmp_path: Path,
    spark: Path,
) -> None:
    source = layout(tmp_path, spark)
    assert find_files(source).checkpoint.name == file
    speech = open_model(source)
    assert speech.config.licence.startswith(licence)
    assert (speech.config.features, speech.config.tokens.tokenizer) == ("mel", "world")
    assert speech.layout.vocabulary_size == 77923
    assert [voice.id for voice in speech.voices] == voices
    assert not (source / "bicodec").exists()  # nothing is written where it lies


def test_what_the_source_lacks_is_found_elsewhere(tmp_path: Path, spark: Path) -> None:
    source = respark_folder(tmp_path / RESPARK)
    assert find_files(source, spark).codec.samefile(spark / "BiCodec")
    assert find_files(source, spark).wav2vec2.samefile(spark / TRANSCRIPTS)
    assert find_files(source, spark / "BiCodec").codec.samefile(spark / "BiCodec")


@pytest.mark.parametrize("of_rust", [False, True])
def test_a_missing_codec_is_named_with_its_repository(tmp_path: Path, of_rust: bool) -> None:
    source = rust_checkout(tmp_path / "rwkv-tts-rs") if of_rust else respark_folder(tmp_path / RESPARK)
    with pytest.raises(ModelError, match=r"codec is missing: .*BiCodec.*SparkAudio/Spark-TTS-0.5B") as caught:
        open_model(source)
    assert ("ONNX files are not read" in str(caught.value)) == of_rust


def test_a_codec_that_is_half_there_is_named(tmp_path: Path, spark: Path) -> None:
    source = respark_with_codec(tmp_path, spark)
    (source / "BiCodec/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"missing: .*BiCodec/model\.safetensors"):
        open_model(source)


def test_a_clone_without_lfs_is_told(tmp_path: Path, spark: Path) -> None:
    source = respark_with_codec(tmp_path, spark)
    (source / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    with pytest.raises(ModelError, match=r"model.safetensors: a Git LFS pointer.*git lfs pull"):
        open_model(source)


def test_several_models_in_one_repository_are_listed(tmp_path: Path, spark: Path) -> None:
    for name in (RESPARK, f"{RESPARK}_ipa"):
        respark_folder(tmp_path / name)
    with pytest.raises(ModelError, match=rf"several checkpoints, {RESPARK}/model.safetensors, {RESPARK}_ipa/"):
        find_files(tmp_path, spark)


def test_a_quantised_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "rwkvtts-Int8_22.prefab").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"not a model directory.*rwkvtts-Int8_22.prefab: quantised"):
        open_model(tmp_path)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_not_run(tmp_path: Path, spark: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(spark / "BiCodec", tmp_path / "BiCodec")
    torch.save({"emb.weight": Evil(made)}, tmp_path / "model.pth")
    for source in (tmp_path, tmp_path / "model.pth"):
        with pytest.raises(ModelError, match=r"model\.pth: not a checkpoint"):
            open_model(source)
    assert not made.exists()


def test_an_own_config_that_is_wrong_is_not_taken_for_a_download(tmp_path: Path, spark: Path) -> None:
    source = respark_with_codec(tmp_path, spark)
    (source / "config.json").write_text(json.dumps({"name": "n", "licence": "l"}))
    with pytest.raises(ModelError, match="provenance"):
        open_model(source)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\ntags: [a]\n---\n# license: mit", None),
        ("# Model\n---\nlicense: mit\n---\n", None),
        ("---\n: [\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_of_a_model_card(card: str, licence: str | None) -> None:
    assert card_licence(card) == licence
