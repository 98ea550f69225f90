"""Compare the RWKV-7 forward with a directory of golden vectors, array by array.

The directory holds `golden.safetensors` and one or more checkpoints. Each checkpoint is loaded and compared
with the golden arrays that are there; several checkpoints hold the same weights in several formats, and are
also compared with one another. Arrays named after a chunk size say whether feeding the tokens in pieces gives
what feeding them at once gives.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from model.state import State
from parity.report import Arrays, Report, make_report

GOLDEN_FILE = "golden.safetensors"
CHECKPOINT_SUFFIXES = {".safetensors", ".pth", ".st"}

LOGIT_TOLERANCE = 3e-4
STATE_TOLERANCE = 1e-4
INPUTS = r"(.*/)?(tokens|mid_len|logits_full_pos|logits_cols_idx)"
"""Names of golden arrays that nothing computes."""
CHUNKS = {"whole": None, "steps": 1, "chunks_7": 7, "chunks_64": 64}
"""Tokens that are fed at once; all of them for None."""
FULL_WIDTH = ("logits", "logits_full", "greedy_last_logits")
"""Arrays that have a column for each id, padded head rows included."""
TOP_IDS, TOP_LOGITS = "logits_top8_idx", "logits_top8_val"
SAME_LOGITS = "same_logits"
"""Logits of two files with equal numbers; with unequal ones, as of different types, they are only close."""
CLOSE_LOGITS = "close_logits"


@dataclass(frozen=True)
class Prefill:
    """Results at every position of one sequence: [T, columns], [T, width] and [layers, T, width]."""

    logits: Tensor
    hidden: Tensor
    resid: Tensor
    state: State


class Subject:
    """One checkpoint under comparison, its head widened to the golden number of columns."""

    def __init__(self, checkpoint: Checkpoint, golden: Arrays) -> None:
        self.model = RWKV7(checkpoint)
        widths = [golden[name].shape[-1] for name in FULL_WIDTH if name in golden]
        self._columns = max([self.model.sizes.head_rows, *widths])

    def logits(self, residual: Tensor) -> Tensor:
        """Residual vectors [n, width] to logits [n, columns]; ids without a row in the head have logit 0."""
        count = len(residual)
        logits = self.model.logits(residual, torch.empty(self.model.padded(count), self.model.sizes.head_rows))
        return F.pad(logits, (0, self._columns - logits.shape[-1]))

    def feed(self, tokens: Tensor, state: State) -> Tensor:
        """Feed a row [T] to slot 0; the logits after its last token, [columns]."""
        residual = self.model.forward(tokens, Ragged.of([len(tokens)], [0]), state)
        return self.logits(residual)[0]

    def prefill(self, tokens: Tensor) -> Prefill:
        """Feed a row [T], and keep every stage of it."""
        rows, state = Ragged.of([len(tokens)], [0]), self.model.state(1)
        x, first_value, resid = self.model.embed(tokens), torch.empty(0), []
        for block in self.model.blocks:
            x, first_value = block.forward(x, first_value, rows, state)
            resid.append(x[: len(tokens)])
        x = x[: len(tokens)]
        return Prefill(self.logits(x), self.model.hidden(x), torch.stack(resid), state)


def state_arrays(prefix: str, state: State) -> dict[str, Tensor]:
    pools = {"att_x": state.att_shift, "ffn_x": state.ffn_shift, "wkv": state.wkv}
    return {f"{prefix}state_{name}": pool[:, 0] for name, pool in pools.items()}


def position_arrays(whole: Prefill, golden: Arrays) -> dict[str, Tensor]:
    """The golden selections of the logits of all positions.

    The ids of the largest logits are compared by our logits at those ids: equal logits may come in any order.
    """
    logits = whole.logits
    selections: dict[str, Tensor] = {
        "logits": logits,
        "logits_lse": logits.logsumexp(-1),
        "hidden": whole.hidden,
        "resid": whole.resid,
    }
    if "logits_full_pos" in golden:
        selections["logits_full"] = logits[golden["logits_full_pos"].long()]
    if "logits_cols_idx" in golden:
        selections["logits_cols"] = logits[:, golden["logits_cols_idx"].long()]
    if TOP_IDS in golden and TOP_LOGITS in golden:
        ids = golden[TOP_IDS].long()
        selections[TOP_LOGITS] = logits.topk(ids.shape[-1], dim=-1).values
        selections[TOP_IDS] = logits.gather(-1, ids)
    return selections


def greedy_arrays(subject: Subject, whole: Prefill, golden: Arrays) -> dict[str, Tensor]:
    """Feed the golden continuation; where the golden margin is within the tolerance, any token is right."""
    expected, margins = golden["greedy_tokens"].long(), golden["greedy_margin"]
    logits, rows = whole.logits[-1], []
    for token in expected:
        rows.append(logits)
        logits = subject.feed(token.view(1), whole.state)
    best = torch.stack(rows).topk(2, dim=-1)
    unsure = margins < 2 * LOGIT_TOLERANCE
    return {
        "greedy_tokens": torch.where(unsure, expected, best.indices[:, 0]),
        "greedy_margin": best.values[:, 0] - best.values[:, 1],
        "greedy_last_logits": logits,
    }


def chunked_arrays(subject: Subject, tokens: Tensor) -> dict[str, Tensor]:
    """Logits after each chunk, and the final state, for every chunk size."""
    found: dict[str, Tensor] = {}
    for name, size in CHUNKS.items():
        state = subject.model.state(1)
        pieces = torch.split(tokens, size or len(tokens))
        found[f"{name}.logits"] = torch.stack([subject.feed(piece, state) for piece in pieces])
        found |= state_arrays(f"{name}.", state)
    return found


def unchunked_arrays(whole: Prefill) -> dict[str, Tensor]:
    """What every chunk size must give: the prefill's logits at the chunk ends, and its final state."""
    length, expected = len(whole.logits), {}
    for name, size in CHUNKS.items():
        ends = [*range((size or length) - 1, length - 1, size or length), length - 1]
        expected[f"{name}.logits"] = whole.logits[ends]
        expected |= {k: v.clone() for k, v in state_arrays(f"{name}.", whole.state).items()}
    return expected


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two files hold the same numbers; they may be of different types."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor.float(), other.tensors[name].float()) for name, tensor in one.tensors.items()
    )


def tolerance(name: str) -> float:
    array = name.rpartition("/")[2]
    if array in ("greedy_tokens", SAME_LOGITS):
        return 0.0
    if array == "greedy_margin":
        return 2 * LOGIT_TOLERANCE
    return STATE_TOLERANCE if re.match("(mid_)?state_", array) else LOGIT_TOLERANCE


def compare_checkpoint(subject: Subject, golden: Arrays) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What one checkpoint gives, and what it should: the golden arrays and, for chunks, its own prefill."""
    tokens = golden["tokens"].long()
    whole = subject.prefill(tokens)
    expected = dict(golden) | unchunked_arrays(whole)
    if TOP_IDS in golden and TOP_LOGITS in golden:
        expected[TOP_IDS] = golden[TOP_LOGITS]
    found = position_arrays(whole, golden) | state_arrays("", whole.state) | chunked_arrays(subject, tokens)
    found = {name: array.clone() for name, array in found.items()}
    if "mid_len" in golden:
        middle = subject.prefill(tokens[: int(golden["mid_len"])])
        found |= state_arrays("mid_", middle.state)
    if "greedy_tokens" in golden and "greedy_margin" in golden:
        found |= greedy_arrays(subject, whole, golden)
    return found, expected


def checkpoint_files(directory: Path) -> list[Path]:
    """Every checkpoint in the directory, by name.

    Raises:
        ValueError: There is none.
    """
    files = [p for p in directory.iterdir() if p.suffix in CHECKPOINT_SUFFIXES and p.name != GOLDEN_FILE]
    if not files:
        raise ValueError(f"{directory}: has no checkpoint beside {GOLDEN_FILE}")
    return sorted(files)


@torch.inference_mode()
def compare(directory: Path) -> Report:
    """Compare every checkpoint of the directory; with several, array names begin with the file's name.

    Raises ValueError for a directory without a checkpoint, and what loading raises.
    """
    golden = load_file(directory / GOLDEN_FILE)
    files = checkpoint_files(directory)
    first, first_logits = load_checkpoint(files[0]), torch.empty(0)
    found: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    for path in files:
        checkpoint = load_checkpoint(path)
        ours, theirs = compare_checkpoint(Subject(checkpoint, golden), golden)
        if path == files[0]:
            first_logits = ours["logits"]
        else:
            same = SAME_LOGITS if same_weights(first, checkpoint) else CLOSE_LOGITS
            ours[same], theirs[same] = ours["logits"], first_logits
        prefix = f"{path.name}/" if len(files) > 1 else ""
        found |= {prefix + name: array for name, array in ours.items()}
        expected |= {prefix + name: array for name, array in theirs.items()}
    return make_report(found, expected, tolerance, INPUTS, {})
