"""The engine's numbers: exact where they count, within the time that passed where they measure."""

import time
from pathlib import Path

import pytest

from batching.engine import Engine
from batching.row import Row
from batching.stats import STEP_SECONDS, StepStats
from rwkv_tts.attributes import Attributes
from sampler.decoding import Decoding, FinishReason, Phase
from sampler.prompt import attribute_prompt, voice_prompt
from worker.speech.loading import open_model
from worker.speech.model import LocalModel


@pytest.fixture(scope="module")
def speech(random_model: Path) -> LocalModel:
    return open_model(random_model)


def rows(speech: LocalModel) -> list[Row]:
    """Two that make their voice and one that has it, of equal length."""
    text = speech.encode_text("Some words.")
    voice = speech.voices.get("first").global_tokens
    prompts = [
        (attribute_prompt(speech.layout, text, Attributes()), ()),
        (attribute_prompt(speech.layout, text, Attributes()), ()),
        (voice_prompt(speech.layout, text, voice), voice),
    ]
    return [
        Row(str(i), Decoding(speech.layout, prompt, given, seed=i, limit=5, first_eos=5))
        for i, (prompt, given) in enumerate(prompts)
    ]


def test_every_step_and_token_is_counted_once(speech: LocalModel) -> None:
    engine = Engine(speech.model, speech.layout, max_rows=4, token_chunk_size=16)
    jobs = rows(speech)
    start = time.perf_counter()
    for row in jobs:
        engine.add(row)
    sizes: list[int] = []
    while len(engine.scheduler):
        engine.step()
        sizes.append(sum(row.steps for row in jobs) - sum(sizes))
    elapsed = time.perf_counter() - start
    engine.step()  # of no row: it is none

    stats = engine.stats
    assert {row.finished for row in jobs} == {FinishReason.LENGTH}
    assert stats.sizes == [sizes.count(rows) for rows in range(5)]
    assert sum(stats.durations) == len(sizes)
    assert stats.tokens[Phase.PREFILL] == sum(len(row.decoding.prompt) for row in jobs)
    assert stats.tokens[Phase.GLOBAL] == 2 * 32
    assert stats.tokens[Phase.SEMANTIC] == 3 * 5
    assert 0 < stats.sampling_seconds < stats.busy_seconds < elapsed
    assert stats.idle_seconds == 0


def test_durations_are_classed_as_prometheus_does() -> None:
    stats = StepStats(slots=2)
    for seconds in (0.0, STEP_SECONDS[0], STEP_SECONDS[0] * 1.01, STEP_SECONDS[-1], STEP_SECONDS[-1] + 1):
        stats.count(1, seconds)
    assert stats.durations == [2, 1, *[0] * (len(STEP_SECONDS) - 3), 1, 1]  # a bound is part of its class
    stats.reset()
    assert stats == StepStats(slots=2)
