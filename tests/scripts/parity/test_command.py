"""The parity command: golden vectors hold, and whatever is wrong or left out is said."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from make_random_model import RandomModel, write_checkpoint
from model.checkpoint import load_checkpoint
from parity import command as parity
from parity.rwkv7 import Subject, state_arrays


def run(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, the lines of standard output, and standard error."""
    status = parity.main([str(path) for path in paths])
    captured = capsys.readouterr()
    return status, [json.loads(line) for line in captured.out.splitlines()], captured.err


def wrong(line: dict[str, Any]) -> set[str]:
    return {name for name, array in line["arrays"].items() if not array["ok"]}


@pytest.fixture(scope="module")
def own_golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in the golden format with what this implementation computes, to change and to break."""
    directory = tmp_path_factory.mktemp("golden") / "own"
    directory.mkdir()
    options = RandomModel(layers=2, width=64, ranks=(8, 8, 8, 8), tokenizer="bytes")
    checkpoint = load_checkpoint(write_checkpoint(directory, options))
    tokens = torch.randint(checkpoint.sizes.vocabulary, (40,), generator=torch.Generator().manual_seed(0))
    whole = Subject(checkpoint, {}).prefill(tokens)
    arrays = {"tokens": tokens.int(), "logits": whole.logits, "hidden": whole.hidden}
    arrays |= {name: array.contiguous() for name, array in state_arrays("", whole.state).items()}
    save_file(arrays, directory / "golden.safetensors")
    return directory


@pytest.fixture
def copy(own_golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(own_golden, tmp_path / "copy"))


@pytest.mark.parametrize(
    "name",
    [
        "rwkv7_small_a",
        "rwkv7_shape_c",
        "rwkv7_tiny_formats",
        "bicodec_small_a",
        pytest.param("bicodec_full_hash", marks=pytest.mark.slow),
    ],
)
def test_golden_vectors(golden: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, lines, errors = run(capsys, golden / name)
    assert [(line["name"], wrong(line), line["ok"]) for line in lines] == [(name, set(), True)]
    assert (status, errors) == (0, "")
    reasons = lines[0].get("not_compared", {})
    assert all("transformers" in reason for reason in reasons.values())
    chunked = [array for key, array in lines[0]["arrays"].items() if re.search(r"\b(steps|chunks_\d+)\.", key)]
    assert all(array["bit_equal"] for array in chunked)
    assert len(chunked) >= 9 or not name.startswith("rwkv7")


def test_a_changed_array_is_found(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(golden / "rwkv7_shape_c", tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy").chmod(0o755)
    file = tmp_path / "copy" / "golden.safetensors"
    arrays = load_file(file)
    arrays["state_wkv"][1, 0, 3, 5] += 2e-4
    arrays["logits_top8_idx"][7, 0] += 1
    file.unlink()
    save_file(arrays, file)
    status, lines, _ = run(capsys, tmp_path / "copy")
    assert status == 1
    assert wrong(lines[0]) == {"state_wkv", "logits_top8_idx"}


def test_a_changed_weight_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(copy / "rwkv7.safetensors")
    weights["blocks.1.att.r_k"][0, 7] += 0.01
    save_file(weights, copy / "other.safetensors")
    status, lines, _ = run(capsys, copy)
    assert status == 1
    files = {"other.safetensors", "rwkv7.safetensors"}
    assert {name.split("/")[0] for name in lines[0]["arrays"]} == files
    assert "other.safetensors/logits" in wrong(lines[0])
    assert {name for name in wrong(lines[0]) if name.startswith("rwkv7")} == {"rwkv7.safetensors/close_logits"}


def test_equal_weights_must_give_equal_logits(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(copy / "rwkv7.safetensors")
    torch.save({name: tensor.float() for name, tensor in weights.items()}, copy / "other.pth")
    status, lines, _ = run(capsys, copy)
    assert status == 0
    assert lines[0]["arrays"]["rwkv7.safetensors/same_logits"] == {
        "max": 0.0,
        "rms": 0.0,
        "tolerance": 0.0,
        "ok": True,
        "bit_equal": True,
    }


def test_what_is_not_compared_is_listed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = load_file(copy / "golden.safetensors")
    save_file(arrays | {"novel_array": torch.zeros(3)}, copy / "golden.safetensors")
    status, lines, _ = run(capsys, copy)
    assert status == 0
    assert list(lines[0]["not_compared"]) == ["novel_array"]


def test_unequal_shapes_are_null(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = load_file(copy / "golden.safetensors")
    save_file(arrays | {"hidden": arrays["hidden"][1:].clone()}, copy / "golden.safetensors")
    status, lines, _ = run(capsys, copy)
    assert status == 1
    assert wrong(lines[0]) == {"hidden"}
    assert lines[0]["arrays"]["hidden"]["max"] is None


def test_what_cannot_be_loaded_is_a_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "rwkv7.safetensors").write_text("nonsense")
    status, lines, _ = run(capsys, copy)
    assert status == 1
    assert "CheckpointError: rwkv7.safetensors" in lines[0]["error"]
    assert not lines[0]["ok"]


def test_usage_errors(own_golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("not a directory")
    (tmp_path / "unknown").mkdir()
    assert run(capsys, tmp_path / "README.md")[0] == 2
    assert run(capsys, tmp_path / "absent")[0] == 2
    status, lines, errors = run(capsys, tmp_path / "README.md", tmp_path / "unknown", own_golden)
    assert status == 2
    assert [line["name"] for line in lines] == ["own"]
    assert "unknown: not a directory of golden vectors" in errors


def test_a_kind_stands_for_the_directories_that_the_environment_names(
    own_golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unknown").mkdir()
    (tmp_path / "linked").symlink_to(own_golden)
    monkeypatch.setenv("RWKV_TTS_GOLDEN", str(tmp_path))
    for arguments in (["rwkv7"], []):
        assert parity.main(arguments) == 0
        assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["own"]
    assert parity.main(["bicodec"]) == 2
    monkeypatch.delenv("RWKV_TTS_GOLDEN")
    with pytest.raises(SystemExit):
        parity.main(["rwkv7"])
    assert "RWKV_TTS_GOLDEN" in capsys.readouterr().err
