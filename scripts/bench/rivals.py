"""Other ways to run the decode steps that the engine's bench measures, each as a function to call once a step."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from bench.timing import median_milliseconds
from model.checkpoint import Checkpoint
from model.ragged import Ragged
from model.rwkv7 import RWKV7


def compare(
    names: Sequence[str], checkpoint: Checkpoint, batches: Sequence[int], repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    """The same decode steps by other means: milliseconds, or why there are none."""
    found: list[dict[str, Any]] = []
    for name in names:
        for rows in batches:
            try:
                taken = _milliseconds(name, checkpoint, rows, repeats, device)
            except (RuntimeError, ImportError, TypeError, AttributeError) as error:
                found.append({"name": name, "rows": rows, "error": str(error).splitlines()[0][:200]})
                continue
            found.append({"name": name, "rows": rows, "milliseconds": taken})
    return found


def _milliseconds(name: str, checkpoint: Checkpoint, rows: int, repeats: int, device: torch.device) -> float:
    if name == "rwkv":
        with TemporaryDirectory() as folder:
            return median_milliseconds(package_decode(checkpoint, Path(folder), rows), repeats, device)
    step = {"eager": eager_step, "compile": compiled_step}[name](RWKV7(checkpoint, device), rows)
    return median_milliseconds(step, min(repeats, 20), device)


def eager_step(model: RWKV7, rows: int) -> Callable[[], object]:
    """The reference forward and head in plain torch, with a greedy draw."""
    state = model.state(rows)
    ragged = Ragged.of([1] * rows, range(rows), model.device)
    tokens = torch.arange(rows, device=model.device)
    buffer = torch.empty(model.padded(rows), model.head_rows, device=model.device)

    def step() -> Tensor:
        return model.logits(model.forward(tokens, ragged, state), buffer).argmax(-1)

    return step


def compiled_step(model: RWKV7, rows: int) -> Callable[[], object]:
    """The same through ``torch.compile``, in a CUDA graph where there is a GPU."""
    step = torch.compile(eager_step(model, rows), dynamic=False)
    for _ in range(3):
        step()
    if model.device.type != "cuda":
        return step
    torch.cuda.synchronize(model.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def package_decode(checkpoint: Checkpoint, folder: Path, rows: int) -> Callable[[], object]:
    """The PyPI package ``rwkv``, strategy ``cpu fp32``: one sequence after another, for it has no batches."""
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    torch.save(_published(checkpoint), folder / "model.pth")
    model = RWKV(model=str(folder / "model"), strategy="cpu fp32")
    states: list[Any] = [model.forward([0], None)[1] for _ in range(rows)]

    def step() -> None:
        for i, state in enumerate(states):
            states[i] = model.forward([i], state)[1]

    return step


def _published(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """BlinkDL's shapes: vectors of a layer are [1, 1, C]; layer 0 has LoRA pairs for v, which nothing uses."""
    heads, width = checkpoint.sizes.heads, checkpoint.sizes.width
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        inner = tensor.ndim == 1 and ("att." in name or "ffn." in name) and "ln_x" not in name
        tensors[name] = tensor.view(1, 1, width) if inner and not name.endswith("r_k") else tensor
        if name.endswith("r_k"):
            tensors[name] = tensor.view(heads, -1)
    for number in "012":
        tensors[f"blocks.0.att.v{number}"] = tensors[f"blocks.0.att.a{number}"]
    return tensors
