"""The engine's thread formats no string and writes nothing at WARNING, however long it decodes."""

import dis
import json
import linecache
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from loguru import logger

from batching.row import Row
from rwkv_tts.schema import parse_request
from worker.compute.local import LocalEngine
from worker.speech.loading import open_model
from worker.speech.model import LocalModel
from worker.speech.pipeline import Pipeline
from worker.speech.preparation import make_utterance
from worker.speech.utterance import Utterance

REPOSITORY = Path(__file__).parents[3]
OURS = tuple(str(REPOSITORY / package) for package in ("batching", "sampler", "model", "worker", "tests"))
F_STRING = {"FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "BUILD_STRING"}
WRITES = {"format", "print", "write", "writelines", "open", "dumps"}
STEPS = 300


class Audit:
    """Notes what one thread formats and writes, by kind, from the block's first statement to its last.

    f-strings and ``%`` leave no call behind: they are seen as the instructions that they are, in our own modules.
    Everything else is seen as the call that it is, in any module.
    """

    def __init__(self, thread: str) -> None:
        self._thread = thread
        self.found: Counter[str] = Counter()
        self.calls = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch the thread, which must start inside the block."""
        threading.setprofile(self._called)
        threading.settrace(self._entered)
        try:
            yield
        finally:
            threading.setprofile(None)
            threading.settrace(None)

    @property
    def _watched(self) -> bool:
        return threading.current_thread().name == self._thread

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._watched:
            return
        self.calls += 1
        if event == "c_call" and argument.__name__ in WRITES:
            self.found[argument.__name__] += 1
        elif event == "call" and "loguru" in frame.f_code.co_filename:
            self.found["loguru"] += 1
        elif event == "call" and f"{json.__name__}/" in frame.f_code.co_filename:
            self.found["json"] += 1

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if not self._watched or not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        return self._executed

    def _executed(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            kind = _formats(frame.f_code, frame.f_lasti)
            if kind is not None:
                self.found[kind] += 1
        return self._executed


def _formats(code: CodeType, offset: int) -> str | None:
    """Whether the instruction formats a string: an f-string, or ``%`` after a string literal."""
    name = dis.opname[code.co_code[offset]]
    if name in F_STRING:
        return "f-string"
    if name == "BINARY_OP":
        line, _, column, _ = list(code.co_positions())[offset // 2]
        source = linecache.getline(code.co_filename, line or 0).encode()[column:]
        return "%" if source.startswith((b"'", b'"')) else None
    return None


class Chatty(LocalEngine):
    """The control: an engine that does what the other must not."""

    def step(self) -> list[Row]:
        """As the engine's, with words."""
        number = len(self.scheduler)
        logger.debug("{} rows", number)
        said = [f"{number} rows", "%d rows" % number, "{} rows".format(number), json.dumps(number)]  # noqa: UP031, UP032
        with Path(sys.executable).with_name("activate").open() as file:
            file.readline(len(said))
        return super().step()


@pytest.fixture(scope="module")
def speech(random_model: Path) -> LocalModel:
    return open_model(random_model)


@pytest.fixture
def shown() -> Iterator[list[str]]:
    """What a sink at WARNING receives, and no other sink is there."""
    lines: list[str] = []
    logger.remove()
    sink = logger.add(lines.append, level="WARNING")
    yield lines
    logger.remove(sink)


def decode(speech: LocalModel, audit: Audit, most: int) -> int:
    """Speak some utterances together in a pipeline whose engine's thread is watched; the engine's steps."""
    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()
    with audit.on():
        pipeline = Pipeline(speech, max_rows=4, token_chunk_size=16, done=ended.put)
    flat: dict[str, Any] = {"text": "A text that is long enough. " * 8, "temperature": 5, "top_p": 1, "top_k": 0}
    for seed in range(6):  # with a flat distribution EOS is one of 8193: they run to their limit
        request = parse_request({**flat, "seed": seed, "max_seconds": most / 50})
        pipeline.submit(make_utterance(speech, str(seed), request))
    assert [ended.get(timeout=60).refusal for _ in range(6)] == [None] * 6
    pipeline.close()
    return pipeline.engine.stats.steps


def test_the_hot_loop_formats_nothing_and_writes_nothing(speech: LocalModel, shown: list[str]) -> None:
    audit = Audit("engine")
    assert decode(speech, audit, most=STEPS) > STEPS
    assert audit.calls > 50 * STEPS, "the thread was watched"
    assert audit.found == {}
    assert shown == []


def test_the_audit_would_notice(speech: LocalModel, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.compute.local.LocalEngine", Chatty)
    audit = Audit("engine")
    steps = decode(speech, audit, most=10)
    assert audit.found.keys() == {"f-string", "%", "format", "loguru", "json", "open"}
    assert min(audit.found.values()) >= steps
    assert shown == [], "even what no sink shows is noticed"
