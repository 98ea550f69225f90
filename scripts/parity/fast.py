"""Compare the fast engine's forward with a directory of golden RWKV-7 vectors, within what float16 allows.

Every checkpoint of the directory is fed at once, in pieces of 7 and token by token, which are different kernels.
For each the report has the largest error of a logit, their root mean square, the share of positions where another
id has the largest logit, and the greedy continuation.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.fast.batch import Batch, Shape
from model.fast.forward import FastRWKV7
from model.fast.selftest import single_row
from model.fast.state import FastState
from parity.report import Arrays, Report, make_report
from parity.rwkv7 import GOLDEN_FILE, checkpoint_files

TOLERANCES = {"logits": 0.6, "rms": 0.03, "top1_missed": 0.03, "greedy_tokens": 0.0}
"""Of float16 weights and activations, as the golden vectors' README has them."""
SURE = 0.1
"""Margin of the best logit from which on the greedy token must be the golden one."""
PIECES = {"whole": 10_000, "chunks_7": 7, "steps": 1}


def positions(count: int, device: torch.device) -> Batch:
    """A batch in which every token is the last of a row."""
    shape = Shape(count, count, single=True)
    batch = Batch.of(torch.zeros(shape.size, dtype=torch.int32, device=device), shape)
    batch.starts.copy_(torch.arange(count + 1))
    batch.lengths.fill_(1)
    return batch


def feed(model: FastRWKV7, tokens: Tensor, state: FastState, fresh: bool) -> Tensor:
    """Logits after each token of a row, [T, head rows]."""
    batch = single_row(tokens, fresh)
    x, parts, first = model.embed(batch, state), None, None
    for layer in range(model.sizes.layers):
        x, parts, first = model.layer(layer, x, parts, first, batch, state)
    return model.logits(x, parts, positions(len(tokens), model.device))[:, : model.head_rows].cpu()


def expected_logits(model: FastRWKV7, golden: Arrays) -> Tensor:
    if "hidden" not in golden:
        return golden["logits"]
    return golden["hidden"] @ model.weights.head[: model.head_rows].float().cpu().t()


def greedy(model: FastRWKV7, logits: Tensor, state: FastState, golden: Arrays) -> Tensor:
    """The continuation, fed the golden tokens; where the golden margin is small, any token is right."""
    expected, found = golden["greedy_tokens"].int(), []
    for token in expected:
        found.append(logits.argmax())
        logits = feed(model, token.view(1).to(model.device), state, fresh=False)[-1]
    return torch.where(golden["greedy_margin"] < SURE, expected, torch.stack(found).int())


def compare_model(model: FastRWKV7, golden: Arrays) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    tokens, wanted = golden["tokens"].int().to(model.device), expected_logits(model, golden)
    found: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    nothing = torch.zeros(1)
    for name, size in PIECES.items():
        state = model.state(1)
        pieces = enumerate(torch.split(tokens, size))
        logits = torch.cat([feed(model, piece, state, fresh=i == 0) for i, piece in pieces])[:, : wanted.shape[1]]
        found[f"{name}.logits"], expected[f"{name}.logits"] = logits, wanted
        found[f"{name}.rms"] = (logits - wanted).square().mean().sqrt().view(1)
        found[f"{name}.top1_missed"] = (logits.argmax(-1) != wanted.argmax(-1)).float().mean().view(1)
        expected[f"{name}.rms"] = expected[f"{name}.top1_missed"] = nothing
        if "greedy_tokens" in golden:
            found[f"{name}.greedy_tokens"] = greedy(model, logits[-1], state, golden)
            expected[f"{name}.greedy_tokens"] = golden["greedy_tokens"].int()
    return found, expected


@torch.inference_mode()
def compare(directory: Path) -> Report:
    """Compare every checkpoint of the directory, on the GPU, or in Triton's interpreter where there is none."""
    golden = load_file(directory / GOLDEN_FILE)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    for path in checkpoint_files(directory):
        ours, theirs = compare_model(FastRWKV7(load_checkpoint(path), device), golden)
        found |= {f"{path.name}/{name}": array for name, array in ours.items()}
        expected |= {f"{path.name}/{name}": array for name, array in theirs.items()}
    return make_report(found, expected, lambda name: TOLERANCES[name.rpartition(".")[2]], "", {})
