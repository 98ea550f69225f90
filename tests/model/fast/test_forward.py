"""The fast forward against the reference: prefill, single steps, company, padding."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fast_model import DEVICE, LAYOUT, batch_of, needs_triton, small_checkpoint
from model.checkpoint import Checkpoint
from model.fast.batch import Shape
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from model.state import State

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(600)]

Rows = Sequence[tuple[int, Sequence[int], bool]]
SLOTS = 6
STEPS: list[tuple[Shape, Rows]] = [
    (Shape(16, 4, single=False), [(3, [1, 2, 3, 4, 5], True), (5, [9], True), (0, [4, 5, 6], True)]),
    (Shape(4, 4, single=True), [(3, [5], False), (0, [6], False)]),
    (Shape(8, 8, single=False), [(5, [5, 5, 3], False), (1, [6], True)]),
    (Shape(2, 2, single=True), [(3, [7], True), (5, [8], False)]),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return small_checkpoint()


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint) -> RWKV7:
    return RWKV7(checkpoint, DEVICE)


def expected_logits(reference: RWKV7, state: State, rows: Rows) -> Tensor:
    for slot, _, fresh in rows:
        if fresh:
            state.reset(slot)
    ragged = Ragged.of([len(tokens) for _, tokens, _ in rows], [slot for slot, *_ in rows], DEVICE)
    tokens = torch.tensor([token for _, tokens, _ in rows for token in tokens], device=DEVICE)
    residual = reference.forward(tokens, ragged, state)
    return reference.logits(residual, torch.empty(reference.padded(len(rows)), LAYOUT.head_size, device=DEVICE))


@pytest.mark.parametrize(
    ("dtype", "logits", "states"), [(torch.float32, 2e-4, 1e-4), (torch.float16, 0.1, 0.02)], ids=["fp32", "fp16"]
)
def test_rows_that_come_and_go(
    checkpoint: Checkpoint, reference: RWKV7, dtype: torch.dtype, logits: float, states: float
) -> None:
    from model.fast.forward import FastRWKV7

    fast = FastRWKV7(checkpoint, DEVICE, dtype=dtype)
    ours, theirs = fast.state(SLOTS), reference.state(SLOTS)
    for shape, rows in STEPS:
        found = fast.forward(batch_of(shape, rows, SLOTS), ours)[: len(rows), : LAYOUT.head_size]
        torch.testing.assert_close(found, expected_logits(reference, theirs, rows), atol=logits, rtol=0)
        for mine, wanted in zip(ours.tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(mine[:, :SLOTS].float(), wanted, atol=states, rtol=0)


def test_company_and_padding_change_no_bit(checkpoint: Checkpoint) -> None:
    """In one tile, that is; the row stands elsewhere, beside others, in another shape."""
    from model.fast.forward import FastRWKV7

    fast = FastRWKV7(checkpoint, DEVICE)
    prompt = (2, [7, 70, 17, 71], True)
    alone, among = fast.state(SLOTS), fast.state(SLOTS)
    among.wkv.fill_(3.0)
    fast.forward(batch_of(Shape(4, 1, single=False), [prompt], SLOTS), alone)
    others = [(0, [1, 2], True), prompt, (4, [3], True)]
    fast.forward(batch_of(Shape(16, 4, single=False), others, SLOTS), among)
    for mine, crowded in zip(alone.tensors(), among.tensors(), strict=True):
        assert torch.equal(mine[:, 2], crowded[:, 2])
    assert (among.wkv[:, [1, 3, 5]] == 3.0).all(), "slots of no row"
    step = (2, [9], False)
    single = fast.forward(batch_of(Shape(1, 1, single=True), [step], SLOTS), alone)
    crowd = fast.forward(batch_of(Shape(8, 8, single=True), [(0, [5], False), step], SLOTS), among)
    assert torch.equal(single[0], crowd[1])


def test_a_token_that_only_the_device_knows(checkpoint: Checkpoint) -> None:
    from model.fast.forward import FastRWKV7

    fast = FastRWKV7(checkpoint, DEVICE, dtype=torch.float32)
    state = fast.state(2)
    state.drawn[1] = 7
    shape = Shape(2, 2, single=True)
    x = fast.embed(batch_of(shape, [(1, [-1], True), (1, [-1 - 100], True)], 2), state)
    assert torch.equal(x, fast.weights.embedding[[7, 107]])


def test_the_self_test_tells_right_from_wrong(checkpoint: Checkpoint, reference: RWKV7) -> None:
    from model.fast.forward import FastRWKV7
    from model.fast.selftest import SelfTestError, check

    fast = FastRWKV7(checkpoint, DEVICE)
    check(fast, reference)
    fast.weights.layers[1].k_a.mul_(0.9)
    with pytest.raises(SelfTestError, match=r"differs from the reference by .* at the layer 1"):
        check(fast, reference)
    fast.weights.layers[1].k_a.fill_(torch.nan)
    with pytest.raises(SelfTestError, match="nan"):
        check(fast, reference)
