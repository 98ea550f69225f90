"""The compiled forward beside the reference: sizes that fill no panel, weights that do not fit, what is wrong."""

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compiled import COMPILED, compiled
from make_random_model import RandomModel, random_checkpoint
from model.checkpoint import HEAD_SIZE, Checkpoint
from model.native import selftest, structures
from model.native.forward import NativeRWKV7
from model.native.structures import panels
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from native import library
from native.library import UnavailableError

ODD = RandomModel(layers=3, width=192, ffn=100, ranks=(1, 33, 65, 64), tokenizer="bytes")
NARROW = RandomModel(layers=1, width=64, ffn=1, ranks=(7, 1, 1, 130), tokenizer="bytes")


def checkpoint(options: RandomModel) -> Checkpoint:
    raw = random_checkpoint(options.sizes(), seed=3)
    flat = {name: t.flatten() if t.ndim == 3 or name.endswith("r_k") else t for name, t in raw.items()}
    return Checkpoint({name: t.half().float() for name, t in flat.items()}, options.sizes())


def logits(model: RWKV7 | NativeRWKV7, batches: Sequence[Sequence[int]]) -> list[Tensor]:
    """Of rows of so many tokens, batch after batch."""
    state, all_logits = model.state(len(batches[0])), []
    for step, lengths in enumerate(batches):
        tokens = (torch.arange(sum(lengths)) + step) * 7919 % model.sizes.vocabulary
        residual = model.forward(tokens, Ragged.of(lengths, range(len(lengths))), state)
        all_logits.append(model.logits(residual, torch.empty(model.padded(len(lengths)), model.head_rows)))
    return all_logits


@pytest.mark.parametrize("vectors", COMPILED)
@pytest.mark.parametrize("options", [ODD, NARROW], ids=["odd", "narrow"])
def test_any_sizes(options: RandomModel, vectors: str) -> None:
    weights = checkpoint(options)
    batches = ((300, 1, 95, 96, 2, 97, 7), (1,) * 7, (2, 1, 1, 1, 1, 1, 3))
    for found, right in zip(
        logits(compiled(weights, vectors), batches), logits(RWKV7(weights), batches), strict=True
    ):
        torch.testing.assert_close(found, right, atol=2e-4, rtol=0)


@pytest.mark.parametrize("vectors", COMPILED)
def test_a_batch_of_any_size_is_its_rows(vectors: str) -> None:
    model = compiled(checkpoint(ODD), vectors)
    alone = [logits(model, [(n,)])[0][0] for n in range(1, 20)]
    for size in range(1, 20):
        together = torch.cat([torch.arange(n) * 7919 % model.sizes.vocabulary for n in range(1, size + 1)])
        residual = model.forward(together, Ragged.of(range(1, size + 1), range(size)), model.state(size))
        found = model.logits(residual, torch.empty(size, model.head_rows))
        assert torch.equal(found, torch.stack(alone[:size]))


def test_a_panel_is_columns_that_lie_together() -> None:
    matrix = torch.arange(3 * 70.0).view(3, 70)
    found = panels(matrix)
    assert found.shape == (2, 3, 64)
    assert torch.equal(found[0].float(), matrix[:, :64])
    assert torch.equal(found[1, :, :6].float(), matrix[:, 64:])
    assert not found[1, :, 6:].any()


def test_a_token_beyond_the_vocabulary_is_refused() -> None:
    model = compiled(checkpoint(NARROW))
    for token in (-1, model.sizes.vocabulary):
        with pytest.raises(IndexError, match=f"index {token} is out of bounds"):
            model.forward(torch.tensor([token]), Ragged.of([1], [0]), model.state(1))


def test_weights_that_16_bits_do_not_hold_are_refused() -> None:
    weights = checkpoint(NARROW)
    compiled(weights)
    fine = weights.tensors["blocks.0.ffn.key.weight"] + 1e-5
    with pytest.raises(UnavailableError, match="16 bits"):
        NativeRWKV7(replace(weights, tensors={**weights.tensors, "blocks.0.ffn.key.weight": fine}))


def test_the_structures_are_as_large_as_those_in_c() -> None:
    """All members are pointers or numbers of 8 bytes, and none is missing."""
    words = {
        structures.Layer: 14 + 6 * 3 + 4 * 6,
        structures.Model: 3 + 1 + 3 + 3,
        structures.Pools: 4,
        structures.Scratch: 13 + 1,
    }
    assert {structure: ctypes.sizeof(structure) // 8 for structure in words} == words


def test_python_and_c_speak_of_the_same_sizes() -> None:
    source = (Path(library.__file__).parent / "forward.c").read_text()
    said = {name: int(number) for name, number in re.findall(r"#define (\w+) (\d+) ", source)}
    assert (said["PANEL"], said["BLOCK"], said["HEAD"]) == (structures.PANEL, structures.BLOCK, HEAD_SIZE)


def test_the_self_test_takes_what_is_right_and_finds_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = checkpoint(ODD)
    compiled(weights)
    selftest.check(weights)
    wrong = weights.tensors["blocks.1.att.k_a"].roll(1)

    def other(part: Checkpoint, rows: int) -> NativeRWKV7:
        return NativeRWKV7(replace(part, tensors={**part.tensors, "blocks.1.att.k_a": wrong}), rows)

    monkeypatch.setattr(selftest, "NativeRWKV7", other)
    with pytest.raises(UnavailableError, match=r"off the reference on this machine$"):
        selftest.check(weights)


def test_weights_that_are_no_numbers_tell_nothing_against_the_machine() -> None:
    weights = checkpoint(ODD)
    compiled(weights)
    broken = torch.full_like(weights.tensors["blocks.0.ln1.weight"], torch.nan)
    selftest.check(replace(weights, tensors={**weights.tensors, "blocks.0.ln1.weight": broken}))


def test_a_processor_that_nothing_was_written_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(UnavailableError, match=r"for a processor like this one \(x86_64, DEFAULT\)"):
        library.supported()


def test_without_a_compiler_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "COMPILED", "nothing")
    with pytest.raises(UnavailableError, match="it was not compiled when this was installed"):
        NativeRWKV7(checkpoint(NARROW), vectors="avx2")


SHARED = RandomModel(layers=2, width=256, tokenizer="bytes")
"""Matrices that are large enough for a team."""


@pytest.mark.parametrize("vectors", COMPILED)
def test_any_number_of_threads_gives_the_same_bits(vectors: str) -> None:
    model = compiled(checkpoint(SHARED), vectors)
    for rows in range(1, 34):
        found = []
        for threads in (1, 2, 3):
            model.use(threads)
            found.append(torch.cat(logits(model, ((1,) * rows, (40, *[1] * (rows - 1)), (1,) * rows))))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])


def test_the_description_tells_of_threads() -> None:
    model = compiled(checkpoint(NARROW))
    assert "thread" not in model.description
    model.use(2)
    assert model.description.endswith(", 2 threads")
