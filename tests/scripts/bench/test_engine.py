"""The bench of the engine, small and on a CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import engine
from compiled import COMPILED

SMALL = ["--device", "cpu", "--batch", "1,4", "--repeats", "2", "--turns", "1", "--longest-chunk", "32"]


def run(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert engine.main([*SMALL, *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_random_weights_beside_plain_steps(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(
        capsys, "--engine", "reference", "--layers", "1", "--width", "64", "--vs", "eager,rwkv", "--vs-batch", "4"
    )
    assert [(p["kind"], p["rows"]) for p in found["points"]] == [("decode", 1), ("decode", 4), ("chunk", 1)]
    for point in found["points"]:
        assert point["tokens_per_second"] * point["milliseconds"] == pytest.approx(1000 * point["tokens"])
    eager, package = found["vs"]
    assert (eager["name"], eager["rows"]) == ("eager", 4)
    assert eager["milliseconds"] > 0
    assert package["name"] == "rwkv"  # with figures, or with the reason why there are none
    assert found["model"] == {"layers": 1, "width": 64, "engine": "reference"}


@pytest.mark.parametrize("name", ["reference", "int8", *(["native"] if COMPILED else [])])
def test_a_model_directory(random_model: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = run(capsys, "--model", str(random_model), "--engine", name)
    assert found["model"]["engine"] == name
    assert all(point["milliseconds"] == point["wall"] for point in found["points"] if point["kind"] == "decode")


def test_a_folder_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine.main([*SMALL, "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err
