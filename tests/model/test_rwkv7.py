"""The forward against the equations written out, and that a row depends on its own tokens and state only."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compiled import COMPILED, compiled
from model.checkpoint import load_checkpoint
from model.native.forward import NativeRWKV7
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from model.state import State
from parity import rwkv7 as parity_rwkv7
from worker.speech.config import checkpoint_path

Floats = npt.NDArray[np.float64]
LENGTHS = (1, 7, 64, 1, 33, 2)
HEAD = 64


Model = RWKV7 | NativeRWKV7


@pytest.fixture(scope="module", params=["reference", *COMPILED])
def model(request: pytest.FixtureRequest, random_model: Path) -> Model:
    checkpoint = load_checkpoint(checkpoint_path(random_model))
    return RWKV7(checkpoint) if request.param == "reference" else compiled(checkpoint, request.param)


@pytest.fixture
def plain(random_model: Path) -> RWKV7:
    return RWKV7(load_checkpoint(checkpoint_path(random_model)))


def sequence(model: Model, length: int, seed: int) -> Tensor:
    return torch.randint(model.sizes.vocabulary, (length,), generator=torch.Generator().manual_seed(seed))


def feed(model: Model, state: State, slots: Sequence[int], rows: Sequence[Tensor]) -> Tensor:
    """Logits after the last token of each row, [R, head rows]."""
    ragged = Ragged.of([len(row) for row in rows], slots)
    residual = model.forward(torch.cat(list(rows)), ragged, state)
    return model.logits(residual, torch.full((model.padded(len(rows)), model.sizes.head_rows), torch.nan))


def alone(model: Model, row: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits [head rows] and final state of one row fed at once."""
    state = model.state(1)
    return feed(model, state, [0], [row])[0], [pool[:, 0] for pool in state.tensors()]


def layer_norm(x: Floats, weight: Floats, bias: Floats, eps: float) -> Floats:
    result: Floats = (x - x.mean()) / np.sqrt(x.var() + eps) * weight + bias
    return result


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


class Equations:
    """RWKV-7 token by token and head by head, as in the paper, in float64."""

    def __init__(self, tensors: Mapping[str, Tensor], layers: int) -> None:
        self._w = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        self._layers = layers
        width = self._w["ln_out.bias"].shape[0]
        self._heads = width // HEAD
        self._last = np.zeros((layers, 2, width))
        self.wkv = np.zeros((layers, self._heads, HEAD, HEAD))

    def _norm(self, name: str, x: Floats) -> Floats:
        return layer_norm(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"], 1e-5)

    def _shifted(self, layer: int, part: int, x: Floats) -> Floats:
        """The difference to the previous token."""
        difference: Floats = self._last[layer, part] - x
        self._last[layer, part] = x
        return difference

    def __call__(self, token: int) -> Floats:
        """Logits after one more token."""
        x = self._norm("blocks.0.ln0", self._w["emb.weight"][token])
        values: list[Floats] = []
        for layer in range(self._layers):
            x = x + self._time_mix(layer, self._norm(f"blocks.{layer}.ln1", x), values)
            x = x + self._channel_mix(layer, self._norm(f"blocks.{layer}.ln2", x))
        logits: Floats = self._w["head.weight"] @ self._norm("ln_out", x)
        return logits

    def _channel_mix(self, layer: int, x: Floats) -> Floats:
        w = {name: self._w[f"blocks.{layer}.ffn.{name}"] for name in ("x_k", "key.weight", "value.weight")}
        k = w["key.weight"] @ (x + self._shifted(layer, 1, x) * w["x_k"])
        result: Floats = w["value.weight"] @ np.maximum(k, 0) ** 2
        return result

    def _time_mix(self, layer: int, x: Floats, values: list[Floats]) -> Floats:
        stem = f"blocks.{layer}.att."
        w = {name.removeprefix(stem): t for name, t in self._w.items() if name.startswith(stem)}
        difference = self._shifted(layer, 0, x)
        xr, xw, xk, xv, xa, xg = (x + difference * w[f"x_{letter}"] for letter in "rwkvag")
        r, k, v = w["receptance.weight"] @ xr, w["key.weight"] @ xk, w["value.weight"] @ xv
        decay = np.exp(-np.exp(-0.5) * sigmoid(w["w0"] + np.tanh(xw @ w["w1"]) @ w["w2"]))
        a = sigmoid(w["a0"] + xa @ w["a1"] @ w["a2"])
        g = sigmoid(xg @ w["g1"]) @ w["g2"]
        if layer:
            v = v + (values[0] - v) * sigmoid(w["v0"] + xv @ w["v1"] @ w["v2"])
        values.append(v)
        kk, k = k * w["k_k"], k * (1 + (a - 1) * w["k_a"])
        out = np.zeros_like(x)
        for head in range(self._heads):
            at = slice(head * HEAD, (head + 1) * HEAD)
            removal = kk[at] / max(float(np.linalg.norm(kk[at])), 1e-12)
            s = self.wkv[layer, head]
            s = s * decay[at] - np.outer(s @ removal, removal * a[at]) + np.outer(v[at], k[at])
            self.wkv[layer, head] = s
            out[at] = layer_norm(s @ r[at], w["ln_x.weight"][at], w["ln_x.bias"][at], HEAD * 1e-5)
            out[at] += (r[at] * k[at] * w["r_k"][at]).sum() * v[at]
        result: Floats = w["output.weight"] @ (out * g)
        return result


def test_the_equations(random_model: Path, model: RWKV7) -> None:
    checkpoint = load_checkpoint(checkpoint_path(random_model))
    equations = Equations(checkpoint.tensors, checkpoint.sizes.layers)
    tokens, state = sequence(model, 40, seed=0), model.state(1)
    for token in tokens:
        expected = equations(int(token))
        found = feed(model, state, [0], [token.view(1)])[0]
        np.testing.assert_allclose(found, expected, atol=3e-4)
    np.testing.assert_allclose(state.wkv[:, 0], equations.wkv, atol=1e-4)
    assert np.std(expected) > 2


def test_golden_vectors(golden: Path) -> None:
    report = parity_rwkv7.compare(golden / "rwkv7_shape_c")
    assert report.ok, {array: error for array, error in report.arrays.items() if not error.ok}
    assert not report.not_compared


def test_a_ragged_batch_is_its_rows(model: Model) -> None:
    rows = [sequence(model, length, seed) for seed, length in enumerate(LENGTHS)]
    state, slots = model.state(len(rows)), [4, 0, 5, 2, 1, 3]
    found = feed(model, state, slots, rows)
    for row, slot, logits in zip(rows, slots, found, strict=True):
        expected, pools = alone(model, row)
        assert torch.equal(logits, expected)
        assert all(torch.equal(pool[:, slot], mine) for pool, mine in zip(state.tensors(), pools, strict=True))


@pytest.mark.parametrize("cuts", [[0, 1, 100], [0, 7, 14, 78, 100], list(range(101)), [0, 64, 99, 100]])
def test_any_chunks_are_the_whole(model: Model, cuts: list[int]) -> None:
    row = sequence(model, 100, seed=9)
    expected, pools = alone(model, row)
    state = model.state(1)
    for start, end in pairwise(cuts):
        logits = feed(model, state, [0], [row[start:end]])[0]
    assert torch.equal(logits, expected)
    assert all(torch.equal(pool[:, 0], mine) for pool, mine in zip(state.tensors(), pools, strict=True))


def test_steps_in_changing_company(model: Model) -> None:
    """Rows of unequal lengths, fed in chunks that differ from step to step, with others coming and going."""
    rows = [sequence(model, 30 + 5 * seed, seed) for seed in range(5)]
    state, fed, found = model.state(5), [0] * 5, [torch.empty(0)] * 5
    sizes = torch.Generator().manual_seed(4)
    while any(fed[i] < len(rows[i]) for i in range(5)):
        chunk = torch.randint(0, 12, (5,), generator=sizes).tolist()
        due = [i for i in range(5) if chunk[i] and fed[i] < len(rows[i])]
        if not due:
            continue
        logits = feed(model, state, due, [rows[i][fed[i] : fed[i] + chunk[i]] for i in due])
        for i, row in zip(due, logits, strict=True):
            fed[i], found[i] = fed[i] + chunk[i], row
    assert all(torch.equal(found[i], alone(model, rows[i])[0]) for i in range(5))


def test_idle_slots_are_not_touched(model: Model) -> None:
    state = model.state(3)
    for pool in state.tensors():
        pool.copy_(torch.randn(pool.shape, generator=torch.Generator().manual_seed(1)))
    before = [pool.clone() for pool in state.tensors()]
    feed(model, state, [1], [sequence(model, 9, seed=1)])
    for pool, old in zip(state.tensors(), before, strict=True):
        assert torch.equal(pool[:, [0, 2]], old[:, [0, 2]])
        assert not torch.equal(pool[:, 1], old[:, 1])


def test_reset(model: Model) -> None:
    row, state = sequence(model, 20, seed=2), model.state(2)
    feed(model, state, [0, 1], [sequence(model, 11, seed=3), sequence(model, 5, seed=4)])
    kept = [pool[:, 1].clone() for pool in state.tensors()]
    state.wkv[:, 0] = torch.nan
    state.reset(0)
    assert torch.equal(feed(model, state, [0], [row])[0], alone(model, row)[0])
    assert all(torch.equal(pool[:, 1], old) for pool, old in zip(state.tensors(), kept, strict=True))


def test_a_row_that_is_not_finite_stays_alone(model: Model) -> None:
    rows, state = [sequence(model, 6, seed) for seed in range(3)], model.state(3)
    state.wkv[:, 1] = torch.nan
    found = feed(model, state, [0, 1, 2], rows)
    assert found[1].isnan().any()
    assert torch.equal(found[0], alone(model, rows[0])[0])
    assert torch.equal(found[2], alone(model, rows[2])[0])


def test_a_buffer_of_the_rows_that_it_asks_for(model: Model) -> None:
    x = torch.randn(70, model.sizes.width, generator=torch.Generator().manual_seed(0))
    whole = model.logits(x, torch.empty(model.padded(70), model.sizes.head_rows))
    for n in range(1, 70):
        assert torch.equal(model.logits(x[:n], torch.empty(model.padded(n), model.sizes.head_rows)), whole[:n])


def test_it_says_how_it_multiplies(plain: RWKV7) -> None:
    assert plain.products.description.startswith(("16 bits", "32 bits"))
    assert f"{plain.products.rows}" in plain.products.description


def test_state_bytes(model: Model) -> None:
    """Layers times (heads of 64 x 64, and two vectors of the width), float32."""
    sizes = model.sizes
    floats = sizes.layers * (sizes.heads * 64 * 64 + 2 * sizes.width)
    assert model.state(3).nbytes() == 3 * 4 * floats
