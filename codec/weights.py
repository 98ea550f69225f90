"""Read the published ``BiCodec/model.safetensors`` strictly, with weight norm folded into plain weights."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

WEIGHT_NORMED = ("decoder.", "quantizer.in_project.", "quantizer.out_project.")
"""Where the file holds a weight as direction ``weight_v`` and length ``weight_g`` (Salimans & Kingma 2016)."""

Shape = tuple[int, ...]


def stored_shapes(name: str, shape: Shape) -> dict[str, Shape]:
    """Names and shapes of the tensors that the file holds for one entry of a module's state dict."""
    if name.startswith(WEIGHT_NORMED) and name.endswith(".weight"):
        return {f"{name}_g": (shape[0], 1, 1), f"{name}_v": shape}
    return {name: shape}


def published_layout(model: nn.Module) -> dict[str, Shape]:
    """Names and shapes of all tensors that the file holds for a module."""
    layout: dict[str, Shape] = {}
    for name, tensor in model.state_dict().items():
        layout |= stored_shapes(name, tuple(tensor.shape))
    return layout


def fold_weight_norm(direction: Tensor, length: Tensor) -> Tensor:
    """The weight whose slices along dimension 0 have directions [C, C', K] and lengths [C, 1, 1], float32."""
    norm: Tensor = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
    return direction * (length / norm)


def read_parameter(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """One entry of a module's state dict, from the tensors that the file holds for it."""
    if name in tensors:
        return tensors[name]
    return fold_weight_norm(tensors[f"{name}_v"].float(), tensors[f"{name}_g"].float())


def layout_problems(
    expected: Mapping[str, Shape], found: Mapping[str, Shape], ignored: tuple[str, ...]
) -> list[str]:
    """One sentence for each tensor that is missing, misshapen or unknown."""
    missing = [f"{name}: missing, expected shape {list(expected[name])}" for name in expected if name not in found]
    misshapen = [
        f"{name}: found shape {list(found[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    unknown = [
        f"{name}: unknown, found shape {list(found[name])}, expected no such key"
        for name in found
        if name not in expected and not name.startswith(ignored)
    ]
    return missing + misshapen + unknown


def load_weights(model: nn.Module, path: Path, *, ignored: Collection[str], device: torch.device) -> None:
    """Load a model built on the meta device, strictly, and put it on ``device``.

    Every tensor is cast to the type that the model gives it, so a counter may be stored in any type.

    Args:
        model: Its parameters are replaced.
        path: A safetensors file.
        ignored: Keys that begin with one of these may be in the file.
        device: Where the model goes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no safetensors file, or the message names a key that is missing, misshapen or unknown.
    """
    expected = published_layout(model)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            problems = layout_problems(expected, found, tuple(ignored))
            if problems:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise ValueError(f"{path}: {problems[0]}{more}")
            tensors = {name: file.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error
    state = {name: read_parameter(tensors, name).to(empty.dtype) for name, empty in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    model.to(device)
