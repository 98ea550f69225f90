"""Random model directories: reproducible, complete, and the same model in every format."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import make_random_model
from batching.engine import Engine
from batching.row import Row
from make_random_model import (
    DTYPES,
    FILES,
    RandomModel,
    random_checkpoint,
    write_checkpoint,
    write_random_model,
)
from model.checkpoint import load_checkpoint
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from rwkv_tts.attributes import Attributes
from sampler.decoding import Decoding, FinishReason
from sampler.prompt import attribute_prompt
from worker.speech.loading import open_model

TINY = RandomModel(layers=2, width=64, ffn=160, ranks=(8, 12, 16, 20), tokenizer="bytes", dtype="fp32")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def logits(model: RWKV7) -> torch.Tensor:
    tokens = torch.arange(0, model.sizes.vocabulary, 97)
    rows, state = Ragged.of([len(tokens)], [0]), model.state(1)
    return model.logits(model.forward(tokens, rows, state), torch.empty(32, model.sizes.head_rows))


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_random_model(tmp_path / name, replace(TINY, seed=seed))
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert {name for name in a if a[name] == c[name]} == {"bicodec/config.yaml"}


def test_open_model(random_model: Path) -> None:
    model = open_model(random_model)
    assert not model.config.trained
    assert "noise" in model.config.provenance
    assert {voice.id for voice in model.voices} == {"first", "second"}
    assert model.voices.get("first").global_tokens != model.voices.get("second").global_tokens
    assert model.model.sizes.head_rows == model.layout.head_size


def test_every_format_holds_the_same_model(tmp_path: Path) -> None:
    found = []
    for name in FILES:
        (tmp_path / name).mkdir()
        checkpoint = load_checkpoint(write_checkpoint(tmp_path / name, replace(TINY, format=name)))
        assert checkpoint.sizes == TINY.sizes()
        found.append(logits(RWKV7(checkpoint)))
    assert found[0].std() > 1
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype(tmp_path: Path, dtype: make_random_model.Dtype) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path, replace(TINY, dtype=dtype)))
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {DTYPES[dtype]}


def test_published_shapes() -> None:
    weights = random_checkpoint(TINY.sizes(), seed=0)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    assert shapes["blocks.1.att.x_r"] == (1, 1, 64)
    assert shapes["blocks.1.att.v0"] == (1, 1, 64)
    assert shapes["blocks.1.att.r_k"] == (1, 64)
    assert shapes["blocks.1.att.w1"] == (64, 8)
    assert shapes["blocks.1.att.g2"] == (20, 64)
    assert shapes["blocks.1.ffn.value.weight"] == (64, 160)
    assert shapes["head.weight"] == (8193, 64)


def test_rows_end_at_different_lengths(ending_model: Path) -> None:
    opened = open_model(ending_model)
    engine = Engine(opened.model, opened.layout, max_rows=16, token_chunk_size=256)
    prompt = attribute_prompt(opened.layout, opened.encode_text("How long is this?"), Attributes())
    for seed in range(16):
        engine.add(Row(str(seed), Decoding(opened.layout, prompt, seed=seed)))
    rows = []
    while len(engine.scheduler):
        rows += engine.step()
    lengths = [len(row.decoding.semantic) for row in rows]
    assert {row.finished for row in rows} == {FinishReason.EOS}
    assert len(set(lengths)) > 8
    assert 50 < sum(lengths) / len(lengths) < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--width", "100"], "multiple of the head size, 64"), (["--layers", "0"], "must be at least 1")],
)
def test_sizes_that_no_model_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert make_random_model.main([str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(tmp_path / "out"), "--layers", "1", "--width", "64", "--ranks", "8", "8", "8", "8"]
    assert make_random_model.main([*command, "--tokenizer", "bytes", "--format", "pth"]) == 0
    assert "1 layers x 64, 12648 tokens, bytes text, pth fp16" in capsys.readouterr().out
    assert open_model(tmp_path / "out").model.sizes.ranks == {"w": 8, "a": 8, "g": 8}
