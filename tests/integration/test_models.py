"""``rwkv-tts model``: models are added, fetched from a hub, listed, found by name and removed."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from hub import Hub, serve_hub
from published import RESPARK, TRANSCRIPTS, checkpoint, respark_folder, spark_tts
from worker.cli.common import CommandError
from worker.cli.model import model_app
from worker.settings import Settings

SPARK = "SparkAudio/Spark-TTS-0.5B"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As on the hub, small."""
    folder = tmp_path_factory.mktemp("hub")
    respark_folder(folder / "yueyulin/respark" / RESPARK)
    checkpoint(folder / "cgisky/rwkv-tts/webrwkv.safetensors", "web-rwkv")
    spark_tts(folder / SPARK)
    return folder


@pytest.fixture
def hub(repositories: Path) -> Iterator[Hub]:
    with serve_hub(repositories) as hub:
        for repository in ("yueyulin/respark", "cgisky/rwkv-tts", SPARK):
            hub.commit(repository)
        yield hub


@pytest.fixture
def models(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of its own, and that hub in place of the real one."""
    monkeypatch.setenv("RWKV_TTS_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)  # what was received of one is lost
    monkeypatch.setattr(time, "sleep", lambda _: None)  # of its repeats
    return tmp_path / "models"


def model(*arguments: object, answer: str = "") -> str:
    """What a command prints; it must not fail."""
    done = CliRunner().invoke(model_app, list(map(str, arguments)), input=answer)
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.output.split())


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(model_app, list(map(str, arguments)))
    assert isinstance(done.exception, CommandError), (done.output, done.exception)
    return str(done.exception)


def test_a_download_is_added_found_by_its_name_and_removed(models: Path, repositories: Path) -> None:
    source = repositories / "yueyulin/respark" / RESPARK
    assert "codec is missing" in refused("add", source)
    assert not models.exists()
    added = model("add", source, "mine", "--with", repositories / SPARK)
    for told in (
        f"{source}/model.safetensors",
        f"{SPARK}/BiCodec",
        "1 layers x 64",
        "apache-2.0; codec: cc-by-nc",
    ):
        assert told in added
    assert "mine is in" in refused("add", source, "mine", "--with", repositories / SPARK)
    listed = model("list")
    assert "mine" in listed
    assert "to fetch: respark-0.4b," in listed
    assert Settings.model_validate({"model": "mine"}).model == models / "mine"
    assert "1 layers x 64" in model("info", "mine")
    assert "removed mine: 0.0 MB" in model("remove", "mine", answer="y")
    assert (source / "model.safetensors").exists()
    assert "there: none" in refused("remove", "mine", "--yes")


def test_a_model_that_cannot_speak_is_not_added(models: Path, repositories: Path, tmp_path: Path) -> None:
    plain = checkpoint(tmp_path / "plain.safetensors", "fla")
    weights = load_file(plain)
    save_file(weights | {"lm_head.weight": weights["lm_head.weight"][:5]}, plain)
    assert "5 head rows; its token layout needs" in refused("add", plain, "--with", repositories / SPARK)
    assert list(models.glob("*")) == list(models.glob(".*")) == []


@pytest.mark.slow
def test_a_model_speaks_by_its_name(models: Path, repositories: Path, tmp_path: Path) -> None:
    source = repositories / "yueyulin/respark" / RESPARK
    model("add", source, "mine", "--with", repositories / SPARK)
    wave = tmp_path / "said.wav"
    words = [
        "-m",
        "worker.cli",
        "say",
        "Hello.",
        "--model",
        "mine",
        "--seed",
        "1",
        "--max-seconds",
        "1",
        "-o",
        str(wave),
    ]
    subprocess.run([sys.executable, *words], check=True, timeout=100, cwd=tmp_path)
    assert wave.stat().st_size > 1000


def test_a_published_model_is_fetched_after_its_licences_were_shown(
    models: Path, hub: Hub, tmp_path: Path
) -> None:
    asked = CliRunner().invoke(model_app, ["fetch", "respark-0.4b"], input="n")
    commits = [hub.commits[one][-1] for one in ("yueyulin/respark", SPARK)]
    for told in (*commits, "cc-by-nc-sa-4.0", "[y/N]", "Aborted"):
        assert told in asked.output
    assert asked.exit_code == 1
    assert not models.exists()
    assert hub.ranges == []
    model("fetch", "respark-0.4b", answer="y")
    taken = {name for name, _ in hub.ranges}
    weights = {f"{RESPARK}/model.safetensors", "BiCodec/config.yaml", "BiCodec/model.safetensors"}
    transcripts = {f"{TRANSCRIPTS}/config.json", f"{TRANSCRIPTS}/pytorch_model.bin"}
    assert taken == {*weights, *transcripts, "README.md"}
    assert "is there already" in refused("fetch", "respark-0.4b", "--yes")
    moved = models.rename(tmp_path / "moved")  # as when a container mounts it elsewhere
    assert f"{SPARK}@{commits[1]}" in model("info", "respark-0.4b", "--models", moved)


def test_a_transfer_that_breaks_goes_on_where_it_was(models: Path, hub: Hub) -> None:
    hub.cuts[f"{RESPARK}/model.safetensors"] = [1 << 20, 1 << 20]
    model("fetch", "respark-0.4b", "--yes")
    asked = [asked for name, asked in hub.ranges if name.startswith(RESPARK)]
    assert asked == [None, f"bytes={1 << 20}-", f"bytes={2 << 20}-"]


def test_files_that_are_whole_are_not_fetched_again(models: Path, hub: Hub) -> None:
    hub.cuts["BiCodec/model.safetensors"] = [0] * 6  # more than it tries
    assert f"{SPARK}: not fetched from {hub.url}" in refused("fetch", "respark-0.4b", "--yes")
    assert list(models.glob("[!.]*")) == []
    hub.ranges.clear()
    model("fetch", "respark-0.4b", "--yes")
    assert [name for name, _ in hub.ranges] == ["BiCodec/model.safetensors"]


def test_a_pinned_commit_is_taken_and_another_lies_beside_it(models: Path, hub: Hub, repositories: Path) -> None:
    hub.commits["cgisky/rwkv-tts"].append("1" * 40)
    first = hub.commits["cgisky/rwkv-tts"][0]
    model("fetch", "rwkv-tts-rs", "old", "--pin", f"cgisky/rwkv-tts@{first}", "--yes", "--no-transcripts")
    assert not any(name.startswith(TRANSCRIPTS) for name, _ in hub.ranges)
    model("fetch", "rwkv-tts-rs", "new", "--yes")
    assert f"cgisky/rwkv-tts@{first}" in model("info", "old")
    assert f"cgisky/rwkv-tts@{'1' * 40}" in model("info", "new")


def test_a_hub_that_names_a_path_outside_is_not_followed(models: Path, hub: Hub) -> None:
    hub.commits["cgisky/rwkv-tts"].append("../../../out")
    assert "cannot be one" in refused("fetch", "rwkv-tts-rs", "--yes")
    hub.commits["cgisky/rwkv-tts"].pop()
    hub.more["cgisky/rwkv-tts"] = ["../../../../out.raf.json"]
    assert "cannot be one" in refused("fetch", "rwkv-tts-rs", "--yes")
    assert not models.exists()


def test_two_models_share_a_codec_and_the_last_takes_it_along(models: Path, hub: Hub) -> None:
    model("fetch", "respark-0.4b", "--yes")
    before = len(hub.ranges)
    model("fetch", "rwkv-tts-rs", "other", "--yes")
    assert [name for name, _ in hub.ranges[before:]] == ["webrwkv.safetensors"]
    assert re.search(r"removed respark-0.4b: [1-9][\d.]* MB are free", model("remove", "respark-0.4b", "--yes"))
    kept = sorted(hub.commits[one][-1] for one in ("cgisky/rwkv-tts", SPARK))
    assert sorted(path.name for path in models.glob(".hub/*/*")) == kept
    model("info", "other")
    model("remove", "other", "--yes")
    assert list(models.glob(".hub/*/*")) == []


def test_what_cannot_be_fetched_is_one_line(models: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, told in (
        (["nothing"], "'nothing'; accepted: respark-0.4b,"),
        (["nobody/nothing"], f"nobody/nothing: not on {hub.url}"),
        (["yueyulin/respark"], f"a folder with one, of {RESPARK}"),
        (["respark-0.4b", "--pin", f"{SPARK}@{'0' * 40}"], f"{SPARK}: has no such revision"),
        (["respark-0.4b", "--pin", "main"], "--pin: 'main'; accepted: OWNER/REPOSITORY@COMMIT"),
        (["respark-0.4b", "../up"], "name: '../up'; accepted:"),
    ):
        assert told in refused("fetch", *arguments, "--yes")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    away = refused("fetch", "respark-0.4b", "--yes")
    assert "yueyulin/respark: not fetched from http://127.0.0.1:9" in away
    assert "HF_ENDPOINT" in away
