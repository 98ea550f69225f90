"""The networks in a process of their own: nothing is otherwise, and neither process outlives the other."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from batching.row import Row
from recordings import reference
from rwkv_tts.schema import parse_request
from sampler.decoding import Decoding
from sampler.prompt import voice_prompt
from waiting import until
from worker.compute.contract import ComputeLostError
from worker.compute.remote import RemoteCompute
from worker.speech.apart import open_apart
from worker.speech.config import ModelError
from worker.speech.loading import open_model
from worker.speech.model import LocalModel, SpeechModel
from worker.speech.pipeline import Pipeline, StageBrokenError
from worker.speech.preparation import make_utterance
from worker.speech.utterance import Part, Step, Utterance

TOLD: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "clone": True,
    "engine": "auto",
    "log_level": "INFO",
    "log_json": False,
}
LONG: dict[str, Any] = {
    "text": "A text that is long enough. " * 20,
    "temperature": 5,
    "top_p": 1,
    "top_k": 0,
    "max_seconds": 40,
}


@pytest.fixture(scope="module")
def here(random_model: Path) -> LocalModel:
    return open_model(random_model)


@pytest.fixture
def apart(random_model: Path) -> SpeechModel:
    return open_apart(random_model, TOLD)


def computes(parent: int | None = None) -> list[psutil.Process]:
    """Processes that compute, children of one."""
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.Error):  # it has just ended
            if "worker.computing" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    for process in computes():
        process.kill()
        process.wait()


class Speaker:
    """Speaks in a pipeline of its own."""

    def __init__(self, speech: SpeechModel, max_rows: int = 4) -> None:
        self.speech = speech
        self.ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
        self.steps: list[Step] = []
        self.pipeline = Pipeline(
            speech, max_rows=max_rows, token_chunk_size=64, done=self.ended.put, made=self.steps.append
        )

    def submit(self, key: str, **fields: Any) -> Utterance:
        request = parse_request({"text": "Hello.", "max_seconds": 0.6, **fields})
        utterance = make_utterance(self.speech, key, request)
        self.pipeline.submit(utterance)
        return utterance

    def collect(self, count: int) -> dict[str, Utterance]:
        found = [self.ended.get(timeout=60) for _ in range(count)]
        return {utterance.id: utterance for utterance in found}

    def heard(self, key: str) -> bytes:
        return b"".join(step.audio for step in self.steps if step.utterance.id == key)


def requests() -> dict[str, dict[str, Any]]:
    return {
        "attributes": {"seed": 1, "emotion": "HAPPY"},
        "voice": {"seed": 2, "voice": "first", "format": "flac", "text": "Another voice. " * 6},
        "cloned": {"seed": 3, "reference": reference(1), "reference_text": "Hm."},
        "stream": {"seed": 4, "stream": True, "max_seconds": 2},
        "long": {"seed": 5, "stream": True, "text": "One sentence here. " * 60, "max_seconds": 4},
        "book": {"seed": 6, "text": "One sentence here. " * 60, "max_seconds": 4},
        "greedy": {"seed": 2**64 - 1, "temperature": 0, "max_seconds": 0.3},
    }


def speak(speech: SpeechModel) -> dict[str, tuple[Any, ...]]:
    """All files together, then all streams: while somebody listens, files are cut otherwise."""
    one = Speaker(speech)
    found: dict[str, Utterance] = {}
    for stream in (False, True):
        some = {key: fields for key, fields in requests().items() if fields.get("stream", False) == stream}
        for key, fields in some.items():
            one.submit(key, **fields)
        found |= one.collect(len(some))
    one.pipeline.close()
    told = {}
    for key, utterance in found.items():
        assert utterance.refusal is None
        assert utterance.account is not None
        told[key] = (utterance.account.trace, utterance.account.finish, utterance.audio, one.heard(key))
    return told


def test_speech_is_the_same_bit_for_bit(here: LocalModel, apart: SpeechModel) -> None:
    assert speak(apart) == speak(here)


def test_what_rows_have_cost_is_told(apart: SpeechModel) -> None:
    one = Speaker(apart)
    start = time.monotonic()
    flat = LONG | {"text": "Hello.", "voice": "first", "max_seconds": 1}
    found = [one.submit(str(seed), seed=seed, **flat) for seed in range(4)]
    one.collect(4)
    rows = [utterance.parts[0].row for utterance in found]
    for row in rows:
        assert start < row.added_at <= row.started_at < row.prefilled_at < row.finished_at < time.monotonic()
        assert 1 < row.mean_batch <= 4
        assert row.steps >= len(row.decoding.semantic) > 0
    stats = one.pipeline.engine.stats
    until(lambda: stats.row_steps == sum(row.steps for row in rows))
    assert stats.drawn == sum(len(row.decoding.semantic) for row in rows) <= stats.row_steps
    assert stats.busy_seconds > 0
    assert one.pipeline.engine.phases().total() == 0
    one.pipeline.forget_stats()
    until(lambda: stats.steps == 0)
    one.pipeline.close()


def test_what_runs_and_what_waits_is_cancelled(apart: SpeechModel) -> None:
    one = Speaker(apart, max_rows=1)
    first = one.submit("first", **LONG)
    waiting = one.submit("waiting", **LONG)
    until(lambda: one.pipeline.engine.phases().total() == 1)
    for key in ("waiting", "first"):
        one.pipeline.cancel(key)
        assert one.collect(1).keys() == {key}
    assert [str(utterance.refusal) for utterance in (first, waiting)] == ["cancelled on request"] * 2
    assert waiting.parts[0].row.steps == 0
    one.submit("next", seed=1)
    assert one.collect(1)["next"].refusal is None
    one.pipeline.close()


def test_limits_reach_the_rows(apart: SpeechModel) -> None:
    one, done = Speaker(apart, max_rows=4), queue.SimpleQueue[int]()
    one.pipeline.limit(1, 7, lambda: done.put(1))
    done.get(timeout=10)
    waiting = [one.submit(str(seed), seed=seed) for seed in range(3)]
    one.collect(3)
    assert {utterance.parts[0].row.mean_batch for utterance in waiting} == {1.0}
    one.pipeline.close()


def test_what_the_codec_refuses_fails_alone(apart: SpeechModel) -> None:
    one = Speaker(apart)
    one.submit("good", seed=1)
    request = parse_request({"text": "Hello.", "max_seconds": 0.2})
    voice = apart.voices.get("first").global_tokens
    prompt = voice_prompt(apart.layout, apart.encode_text(request.text), voice)
    row = Row("bad", Decoding(apart.layout, prompt, [4096] * 32, seed=1, limit=10))
    one.pipeline.submit(Utterance("bad", request, [Part(row)]))
    found = one.collect(2)
    assert found["good"].refusal is None
    assert "vocoder: " in str(found["bad"].refusal)
    assert "ValueError" in str(found["bad"].refusal)
    one.submit("after", seed=1)
    assert one.collect(1)["after"].refusal is None
    one.pipeline.close()


def test_models_that_cannot_be_loaded_are_refused_alike(tmp_path: Path, random_model: Path) -> None:
    for directory, told in (
        (tmp_path, {}),
        (random_model, {"device": "nonsense"}),
        (random_model, {"engine": "cuda"}),
    ):
        with pytest.raises(ModelError) as far:
            open_apart(directory, {**TOLD, **told})
        with pytest.raises(ModelError) as near:
            open_model(directory, **{k: v for k, v in (TOLD | told).items() if not k.startswith("log_")})
        assert str(far.value) == str(near.value)
    until(lambda: not computes())


@pytest.mark.parametrize("busy", [False, True])
def test_without_it_nothing_goes_on(apart: SpeechModel, busy: bool) -> None:
    one = Speaker(apart)
    if busy:
        one.submit("lost", **LONG | {"text": LONG["text"] * 50})
        until(lambda: one.pipeline.engine.phases().total() > 0)
    assert (one.pipeline.progress() is not None) == busy
    (process,) = computes()
    process.kill()

    def broken() -> bool:
        try:
            one.pipeline.progress()
        except StageBrokenError as error:
            return "the process that computes has ended" in str(error)
        return False

    until(broken, timeout=5)
    assert isinstance(apart.compute, RemoteCompute)
    with pytest.raises(ComputeLostError, match="the process that computes has ended"):
        apart.compute.vocoder([[1]], [[0] * 32], [], 0, True)


ALONE = """
import sys
from pathlib import Path
from worker.speech.apart import open_apart
speech = open_apart(Path(sys.argv[1]), {told})
engine = speech.compute.engine(2, 64, lambda: None)
print("ready", flush=True)
sys.stdin.read()
"""


def test_it_does_not_outlive_who_started_it_and_signals_are_not_its_affair(random_model: Path) -> None:
    script = ALONE.format(told=TOLD)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(random_model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (process,) = computes(parent.pid)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)
        time.sleep(0.3)
        assert process.is_running()
        parent.kill()
        process.wait(10)


def test_no_code_of_the_present_folder_is_run(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert open_apart(random_model, TOLD).compute.sample_rate == 16_000
