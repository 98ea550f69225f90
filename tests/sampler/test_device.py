"""The sampler's kernel draws what the reference draws."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fast_model import DEVICE, needs_triton
from sampler.randomness import uniform
from sampler.sampling import SamplingRows, sample_

pytestmark = [needs_triton, pytest.mark.slow]

COLUMNS = 24
U64 = st.integers(0, 2**64 - 1)


def drawn(logits: torch.Tensor, rows: list[tuple[int, float, float, int, int, int, int]]) -> torch.Tensor:
    """Ids for rows of (allowed, temperature, top_p, top_k, seed, phase, step)."""
    from sampler.device import DrawRows, draw
    from sampler.draws import DRAW_FIELDS

    parameters = DrawRows.of(torch.zeros(DRAW_FIELDS * len(rows), dtype=torch.int32), len(rows))
    for i, (allowed, temperature, top_p, top_k, seed, phase, step) in enumerate(rows):
        low, high = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32).view(np.int32).tolist()
        parameters.allowed[i], parameters.top_k[i] = allowed, top_k
        parameters.temperatures[i], parameters.top_ps[i] = temperature, top_p
        parameters.phases[i], parameters.steps[i] = phase, step
        parameters.seeds_low[i], parameters.seeds_high[i] = low, high
    moved = DrawRows(*(field.to(DEVICE) for field in vars(parameters).values()))
    ids = torch.full((len(rows),), -7, dtype=torch.int32, device=DEVICE)
    slots = torch.arange(len(rows), dtype=torch.int32, device=DEVICE)
    by_slot = torch.zeros_like(ids)
    draw(logits.to(DEVICE), logits.shape[1], moved, slots, ids, by_slot)
    assert torch.equal(by_slot, torch.where(slots_that_draw(rows), ids.clamp(min=0), 0))
    return ids.cpu()


def slots_that_draw(rows: list[tuple[int, float, float, int, int, int, int]]) -> torch.Tensor:
    return torch.tensor([row[0] > 0 for row in rows], device=DEVICE)


@pytest.mark.timeout(600)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    logits=st.lists(st.integers(-4, 4), min_size=COLUMNS, max_size=COLUMNS),
    scale=st.sampled_from([1.0, 0.37]),
    allowed=st.integers(1, COLUMNS),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_p=st.sampled_from([0.1, 0.6, 0.95, 1.0]),
    top_k=st.integers(1, COLUMNS + 2),
    seed=U64,
    phase=st.integers(0, 2),
    step=st.integers(0, 2048),
)
def test_ids_are_those_of_the_reference_on_logits_full_of_ties(
    logits: list[int],
    scale: float,
    allowed: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    phase: int,
    step: int,
) -> None:
    row = torch.tensor([logits]) * scale
    rows = SamplingRows(
        COLUMNS, torch.tensor([allowed]), torch.tensor([temperature]), torch.tensor([top_p]), torch.tensor([top_k])
    )
    expected = sample_(row.clone(), rows, torch.from_numpy(uniform([seed], [phase], [step])))
    assert drawn(row, [(allowed, temperature, top_p, top_k, seed, phase, step)]).tolist() == expected.tolist()


def test_draws_follow_the_host_s_random_numbers() -> None:
    """Equal weights: the id is the random number, to within one of 256 columns."""
    seeds = [0, 1, 2**32 - 1, 2**32, 2**64 - 1, 12345678901234567890]
    rows = [(256, 1.0, 1.0, 256, seed, phase, 9) for seed in seeds for phase in (1, 2)]
    expected = [int(uniform([seed], [phase], [step])[0] * 256) for *_, seed, phase, step in rows]
    assert drawn(torch.zeros(len(rows), 256), rows).tolist() == expected


def test_rows_that_draw_nothing_or_are_not_finite() -> None:
    logits = torch.zeros(4, COLUMNS)
    logits[1, 3], logits[2, 3] = torch.nan, torch.inf
    logits[3] = -torch.inf
    full = (COLUMNS, 1.0, 0.9, 5, 1, 1, 1)
    assert drawn(logits, [(0, *full[1:]), full, full, full]).tolist() == [-1, -1, -1, -1]
    beyond = torch.zeros(1, COLUMNS)
    beyond[0, 20] = torch.nan
    assert drawn(beyond, [(5, *full[1:])]).item() in range(5), "what is closed is not looked at"
