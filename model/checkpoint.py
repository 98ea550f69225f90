"""Reads RWKV-7 checkpoints of every published format into one set of names, the BlinkDL ones.

Formats are told apart by content, never by file name: a zip archive is a torch file, the rest is safetensors;
fla/HF names say ``attn`` for ``att``; web-rwkv files have BlinkDL's names but LoRA matrices turned, which
their shapes show. Every size comes from the tensors. Names follow the published ``x070`` checkpoints, so
``blocks.3.att.w1`` is what it is there.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

HEAD_SIZE = 64
"""Width of a head in every published RWKV-7 model."""

_LORAS = ("w", "a", "v", "g")
_LORA = re.compile(r"\.att\.[wavg][12]$")
_UNUSED = re.compile(r"blocks\.0\.att\.v[012]")
"""Layer 0 makes the values that later layers mix in; files may hold anything under these names."""
_FLA_RENAMES = (
    (r"^layers\.", "blocks."),
    (r"\.pre_norm\.", ".ln0."),
    (r"\.attn_norm\.", ".ln1."),
    (r"\.ffn_norm\.", ".ln2."),
    (r"\.attn\.", ".att."),
    (r"\.r_proj\.", ".receptance."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.o_proj\.", ".output."),
    (r"\.g_norm\.", ".ln_x."),
    (r"\.([wavg])_lora\.lora\.0\.weight$", r".\g<1>1"),
    (r"\.([wavg])_lora\.lora\.2\.weight$", r".\g<1>2"),
    (r"\.([wavg])_lora\.lora\.2\.bias$", r".\g<1>0"),
    (r"^norm\.", "ln_out."),
    (r"^lm_head\.", "head."),
)
_FLA_EMBEDDINGS = ("embeddings", "tts_tag_embedder", "global_embedder", "text_embedder")
"""In the order of the merged vocabulary; a plain language model has the first only."""


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message names the tensor, what was found and what is expected."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a checkpoint, all read from its tensors."""

    layers: int
    width: int
    heads: int
    ffn: int
    vocabulary: int
    head_rows: int
    ranks: Mapping[str, int]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under BlinkDL names; vectors are [C], LoRA pairs are [C, rank] and [rank, C]."""

    tensors: Mapping[str, Tensor]
    sizes: Sizes


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint file.

    Raises:
        CheckpointError: The file is of no known format, or a tensor is missing, unknown or of a wrong shape.
        FileNotFoundError: There is no such file.
    """
    raw = _read(path)
    tensors = _from_fla(raw) if any(".attn." in name for name in raw) else _from_blinkdl(raw)
    sizes = _sizes(tensors)
    shapes = _expected_shapes(sizes)
    _check_names(tensors, shapes)
    return Checkpoint({name: _shaped(name, tensors[name], shapes[name]) for name in shapes}, sizes)


def tensor_names(path: Path) -> list[str]:
    """The names that a file holds, without its tensors.

    Raises:
        CheckpointError: The file is of no known format.
    """
    if _is_zip(path):
        return list(_read(path))  # maps the file: no tensor is read
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: not a checkpoint ({error})") from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _read(path: Path) -> dict[str, Tensor]:
    zipped = _is_zip(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if zipped else load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path.name}: not a checkpoint ({reason}); accepted: torch zip archives (.pth) and safetensors"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path.name}: holds no dictionary of tensors")
    return loaded


def _from_blinkdl(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lower-case the names; turn the LoRA matrices back where the file has them as [out, in] (web-rwkv)."""
    named = {key: tensor for name, tensor in raw.items() if not _UNUSED.fullmatch(key := name.lower())}
    width = _matrix(named, "emb.weight").shape[1]
    downs = [_matrix(named, name) for name in named if _LORA.search(name) and name.endswith("1")]
    turned = any(down.shape[0] != width for down in downs)
    return {name: _matrix(named, name).t() if turned and _LORA.search(name) else t for name, t in named.items()}


def _from_fla(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename fla/HF tensors, and turn their LoRA matrices, which are [out, in]."""
    named: dict[str, Tensor] = {}
    embeddings: dict[str, Tensor] = {}
    for full_name, tensor in raw.items():
        name = full_name.removeprefix("model.")
        part = name.removesuffix(".weight")
        if part in _FLA_EMBEDDINGS:
            embeddings[part] = tensor
            continue
        for pattern, replacement in _FLA_RENAMES:
            name = re.sub(pattern, replacement, name)
        if name.endswith(".att.x_x"):
            if len(tensor.shape) < 2 or len(tensor) != 6:
                raise CheckpointError(f"{full_name}: shape {tuple(tensor.shape)}; expected six rows")
            named.update({name[:-1] + letter: tensor[i] for i, letter in enumerate("rwkvag")})
        elif not _UNUSED.fullmatch(name):
            named[name] = tensor
    turned = {name: _matrix(named, name).t() for name in named if _LORA.search(name)}
    return named | turned | {"emb.weight": _merged(embeddings)}


def _merged(embeddings: Mapping[str, Tensor]) -> Tensor:
    """The one vocabulary of fla/HF files, which keep its blocks in tables of their own."""
    tables = [_matrix(embeddings, part) for part in _FLA_EMBEDDINGS if part in embeddings]
    if "embeddings" not in embeddings:
        raise CheckpointError("model.embeddings.weight: missing tensor")
    widths = {table.shape[1] for table in tables}
    if len(widths) != 1:
        raise CheckpointError(f"model.embeddings.weight: tables of the vocabulary have widths {sorted(widths)}")
    return torch.cat(tables)


def _need(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"{name}: missing tensor")
    return tensors[name]


def _matrix(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    tensor = _need(tensors, name)
    if tensor.ndim != 2 or tensor.numel() == 0:
        raise CheckpointError(f"{name}: shape {tuple(tensor.shape)}; expected a matrix")
    return tensor


def _sizes(tensors: Mapping[str, Tensor]) -> Sizes:
    numbers = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    if numbers != set(range(len(numbers))) or not numbers:
        raise CheckpointError(f"blocks: numbered {sorted(numbers)}; expected 0, 1, 2, ... without a gap")
    vocabulary, width = _matrix(tensors, "emb.weight").shape
    if width % HEAD_SIZE:
        raise CheckpointError(f"emb.weight: width {width}; expected a multiple of {HEAD_SIZE}")
    last = max(numbers)
    ranks = {
        letter: _matrix(tensors, f"blocks.{0 if letter != 'v' or last == 0 else 1}.att.{letter}1").numel() // width
        for letter in _LORAS
        if letter != "v" or last > 0
    }
    return Sizes(
        layers=len(numbers),
        width=width,
        heads=width // HEAD_SIZE,
        ffn=_matrix(tensors, "blocks.0.ffn.key.weight").shape[0],
        vocabulary=vocabulary,
        head_rows=_used_rows(_matrix(tensors, "head.weight")),
        ranks=ranks,
    )


def _used_rows(head: Tensor) -> int:
    """Rows up to the last one that is not all zero: padded checkpoints carry rows of zeros."""
    used = head.ne(0).any(dim=1).nonzero()
    if len(used) == 0:
        raise CheckpointError("head.weight: all zero")
    return int(used[-1]) + 1


def _expected_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    width, vector = sizes.width, (sizes.width,)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.weight": (sizes.vocabulary, width),
        "head.weight": (sizes.head_rows, width),
        "ln_out.weight": vector,
        "ln_out.bias": vector,
        "blocks.0.ln0.weight": vector,
        "blocks.0.ln0.bias": vector,
    }
    for layer in range(sizes.layers):
        block = f"blocks.{layer}"
        norms = ("ln1", "ln2", "att.ln_x")
        shapes |= {f"{block}.{norm}.{part}": vector for norm in norms for part in ("weight", "bias")}
        shapes |= {f"{block}.att.x_{letter}": vector for letter in "rwkvag"}
        shapes |= {f"{block}.att.{name}": vector for name in ("k_k", "k_a", "r_k")}
        shapes |= {f"{block}.att.{m}.weight": (width, width) for m in ("receptance", "key", "value", "output")}
        for letter in _LORAS:
            if letter == "v" and layer == 0:
                continue
            rank = sizes.ranks[letter]
            shapes |= {f"{block}.att.{letter}1": (width, rank), f"{block}.att.{letter}2": (rank, width)}
            if letter != "g":
                shapes[f"{block}.att.{letter}0"] = vector
        shapes[f"{block}.ffn.x_k"] = vector
        shapes[f"{block}.ffn.key.weight"] = (sizes.ffn, width)
        shapes[f"{block}.ffn.value.weight"] = (width, sizes.ffn)
    return shapes


def _check_names(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = sorted(shapes.keys() - tensors.keys())
    if missing:
        raise CheckpointError(f"{missing[0]}: missing tensor ({len(missing)} missing in all)")
    unknown = sorted(tensors.keys() - shapes.keys())
    if unknown:
        raise CheckpointError(f"{unknown[0]}: unknown tensor ({len(unknown)} unknown in all)")


def _shaped(name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Drop singleton axes and padded head rows."""
    if name == "head.weight":
        tensor = tensor[: shape[0]]
    if len(shape) == 1:
        tensor = tensor.reshape(-1)
    if tensor.shape != shape:
        raise CheckpointError(f"{name}: shape {tuple(tensor.shape)}; expected {shape}")
    return tensor
