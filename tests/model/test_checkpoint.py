"""Every published format loads as the same tensors, and what cannot be loaded is said in one line."""

import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from make_random_model import (
    FILES,
    Format,
    RandomModel,
    random_checkpoint,
    to_fla,
    to_web_rwkv,
    write_checkpoint,
)
from model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from model.rwkv7 import RWKV7
from sampler.layout import TokenLayout

OPTIONS = RandomModel(layers=2, width=64, ffn=96, ranks=(8, 12, 16, 20), tokenizer="bytes")
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def blinkdl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("blinkdl"), OPTIONS)


def saved(directory: Path, weights: Weights) -> Path:
    path = directory / "changed.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return one.sizes == other.sizes and all(torch.equal(t, other.tensors[n]) for n, t in one.tensors.items())


@pytest.mark.parametrize("kind", FILES)
def test_formats(blinkdl: Path, tmp_path: Path, kind: Format) -> None:
    options = replace(OPTIONS, format=kind)
    path = write_checkpoint(tmp_path, options)
    checkpoint, expected = load_checkpoint(path), load_checkpoint(blinkdl)
    assert checkpoint.tensors.keys() == expected.tensors.keys()
    assert equal(checkpoint, expected)
    assert checkpoint.sizes.ranks == {"w": 8, "a": 12, "v": 16, "g": 20}
    assert checkpoint.sizes.head_rows == 8193


def test_padded_head_rows_are_dropped(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, replace(OPTIONS, format="web-rwkv"))
    assert load_file(path)["head.weight"].shape == (12648, 64)
    assert load_checkpoint(path).tensors["head.weight"].shape == (8193, 64)


def test_old_fla_mixes(blinkdl: Path, tmp_path: Path) -> None:
    weights = packed_mixes(load_file(write_checkpoint(tmp_path, replace(OPTIONS, format="fla"))))
    assert equal(load_checkpoint(saved(tmp_path, weights)), load_checkpoint(blinkdl))


def test_the_name_of_the_file_does_not_matter(blinkdl: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.bin"
    renamed.write_bytes(blinkdl.read_bytes())
    assert equal(load_checkpoint(renamed), load_checkpoint(blinkdl))


def test_layer_zero_needs_no_value_lora(blinkdl: Path, tmp_path: Path) -> None:
    weights = load_file(blinkdl)
    garbage = {f"blocks.0.att.v{i}": torch.full((3, 5), torch.nan) for i in range(3)}
    assert equal(load_checkpoint(saved(tmp_path, weights | garbage)), load_checkpoint(blinkdl))


def test_golden_formats(golden: Path) -> None:
    directory = golden / "rwkv7_tiny_formats"
    if not directory.is_dir():
        pytest.skip(f"no {directory}")
    files = [*directory.glob("model*.safetensors"), directory / "model.pth", directory / "model_webrwkv.st"]
    first, *others = [load_checkpoint(path) for path in files]
    assert len(others) == 3
    for other in others:
        assert other.sizes == first.sizes
        assert all(torch.equal(t.float(), first.tensors[n].float()) for n, t in other.tensors.items())


def test_a_missing_tensor_is_named(blinkdl: Path, tmp_path: Path) -> None:
    weights = load_file(blinkdl)
    for name in weights:
        changed = saved(tmp_path, {other: tensor for other, tensor in weights.items() if other != name})
        with pytest.raises(CheckpointError, match=rf"{name}: missing tensor"):
            load_checkpoint(changed)


def test_an_unknown_tensor_is_named(blinkdl: Path, tmp_path: Path) -> None:
    changed = saved(tmp_path, load_file(blinkdl) | {"blocks.1.att.z9": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"blocks.1.att.z9: unknown tensor \(1 unknown in all\)"):
        load_checkpoint(changed)


def test_a_gap_between_blocks(blinkdl: Path, tmp_path: Path) -> None:
    weights = {name.replace("blocks.1.", "blocks.2."): tensor for name, tensor in load_file(blinkdl).items()}
    with pytest.raises(CheckpointError, match=r"numbered \[0, 2\]; expected 0, 1, 2"):
        load_checkpoint(saved(tmp_path, weights))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "one row less": lambda tensor: tensor[1:],
    "one column less": lambda tensor: tensor[..., 1:],
    "one axis more": lambda tensor: tensor[None].expand(2, *tensor.shape),
    "flat": lambda tensor: tensor.flatten()[:-1],
    "scalar": lambda tensor: tensor.flatten()[0],
    "empty": lambda tensor: tensor[:0],
}


def tiny_weights(kind: str) -> Weights:
    """A checkpoint of a small vocabulary in the names and shapes of a format."""
    layout = TokenLayout(semantic_size=9, global_size=4, globals_per_voice=2, text_size=20, control_size=6)
    sizes = replace(OPTIONS.sizes(), vocabulary=layout.vocabulary_size, head_rows=layout.head_size)
    weights = random_checkpoint(sizes, seed=0)
    if kind == "web-rwkv":
        return to_web_rwkv(weights)
    return weights if kind == "blinkdl" else packed_mixes(to_fla(weights, layout))


def packed_mixes(weights: Weights) -> Weights:
    """The six mixes of each layer as one tensor [6, C], in the order r, w, k, v, a, g."""
    weights = dict(weights)
    for layer in range(OPTIONS.layers):
        stem = f"model.layers.{layer}.attn.x_"
        weights[stem + "x"] = torch.cat([weights.pop(stem + letter).view(1, -1) for letter in "rwkvag"])
    return weights


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["blinkdl", "old fla", "web-rwkv"])
def test_a_wrong_shape_is_an_error(tmp_path: Path, kind: str, change: str) -> None:
    weights = tiny_weights(kind)
    for name, tensor in weights.items():
        path = saved(tmp_path, weights | {name: CHANGES[change](tensor)})
        if change == "one row less" and re.search("emb|head", name):
            load_checkpoint(path)
            continue
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
        assert "\n" not in str(error.value)
        assert re.search("shape|width|all zero|no rows", str(error.value)), error.value


def test_a_width_that_heads_do_not_divide(tmp_path: Path, blinkdl: Path) -> None:
    weights = {name: narrow(tensor) for name, tensor in load_file(blinkdl).items()}
    with pytest.raises(CheckpointError, match="multiple of 64"):
        load_checkpoint(saved(tmp_path, weights))


def narrow(tensor: Tensor) -> Tensor:
    """Cut every axis of the width to 48."""
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, 48) if size == 64 else tensor
    return tensor


class Evil:
    """What a hostile checkpoint holds: unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self._path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    torch.save({"emb.weight": Evil(witness)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"^evil.pth: ") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not witness.exists()


def test_a_bare_pickle(tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.safetensors", tmp_path / "witness"
    path.write_bytes(pickle.dumps(Evil(witness)))
    with pytest.raises(CheckpointError, match=r"^evil.safetensors: not a checkpoint"):
        load_checkpoint(path)
    assert not witness.exists()


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("kept", [0, 1, 3, 100, 5000, -1])
def test_a_truncated_file(tmp_path: Path, kind: Format, kept: int) -> None:
    path = write_checkpoint(tmp_path, replace(OPTIONS, format=kind))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"^{path.name}: ") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\n", b"{}", b"PK nonsense", b"\0" * 64]
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^model.safetensors: ") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_zip_that_torch_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"^model.pth: "):
        load_checkpoint(path)


def test_tensors_in_a_nest(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {"emb.weight": torch.zeros(2, 64)}}, path)
    with pytest.raises(CheckpointError, match=r"model.pth: holds no dictionary of tensors"):
        load_checkpoint(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("head_rows", [None, 4096])
def test_the_head_can_be_cut(blinkdl: Path, head_rows: int | None) -> None:
    model = RWKV7(load_checkpoint(blinkdl), head_rows=head_rows)
    out = torch.empty(model.padded(1), head_rows or 8193)
    assert model.logits(torch.ones(1, 64), out).shape == (1, head_rows or 8193)
