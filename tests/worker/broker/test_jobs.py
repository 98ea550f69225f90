"""Job hashes: bounded JSON with one function name; whatever else lies there is refused and touches nothing."""

import json
import os
import pickle
import sys
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer, PickleSerializer

from rwkv_tts.refusal import RequestError
from rwkv_tts.schema import SynthesisRequest, parse_request
from worker.broker.jobs import HeldJob, read_request, restore_job

LIMIT = 1 << 20
FUNCTION = "worker.tasks.synthesize"
REQUEST = {"text": "你好", "seed": 2**64 - 1, "metadata": {"a": [1, None]}}
CALL: list[Any] = [FUNCTION, None, [], {"request": REQUEST}]
RAW = {b"data": json.dumps(CALL).encode(), b"origin": b"tts", b"created_at": b"2026-01-01T00:00:00.000000Z"}
NOWHERE = Redis(host="127.0.0.1", port=1)
"""A connection that fails at once if anything uses it."""


def packed(value: Any) -> bytes:
    return json.dumps(value).encode()


def read(data: bytes, limit: int = LIMIT) -> SynthesisRequest:
    return parse_request(read_request({b"data": data}, limit))


def refusal(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(RequestError) as caught:
        read(data, limit)
    message = str(caught.value)
    assert message.isprintable()
    assert "accepted" in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize(
    "encode", [packed, lambda call: zlib.compress(packed(call)), lambda c: zlib.compress(packed(c), 0)]
)
def test_good_call_is_read(encode: Any) -> None:
    assert read(encode(CALL)) == parse_request(REQUEST)


def test_what_rq_itself_writes_is_read() -> None:
    job = Job.create(FUNCTION, kwargs={"request": REQUEST}, connection=NOWHERE, serializer=JSONSerializer)
    raw = {str(key).encode(): value for key, value in job.to_dict().items()}
    assert zlib.decompress(raw[b"data"]).startswith(b"[")
    assert read_request(raw, LIMIT) == REQUEST


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_rq_pickles_is_read_if_it_is_plain(protocol: int) -> None:
    data = pickle.dumps((FUNCTION, None, (), {"request": REQUEST}), protocol)
    for form in (data, zlib.compress(data)):
        assert read(form, len(data) + 100) == parse_request(REQUEST)
        assert f"larger than {len(data) - 1} bytes" in refusal(form, len(data) - 1)


def test_a_job_keeps_the_serializer_of_its_producer() -> None:
    for serializer in (PickleSerializer, JSONSerializer):
        stock = Job.create(
            FUNCTION, kwargs={"request": REQUEST}, meta={"order": 7}, connection=NOWHERE, serializer=serializer
        )
        raw = {str(key).encode(): value for key, value in stock.to_dict().items() if key in ("data", "meta")}
        job = restore_job("id", raw, NOWHERE, "tts")
        assert job.meta == {"order": 7}
        for value in ({"a": [1, None, "b"]}, [1.5, True]):
            assert serializer.loads(job.serializer.dumps(value)) == value
            assert job.serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        zlib.compress(b"\xff\xfe"),
        packed(CALL)[:-1],
        zlib.compress(packed(CALL))[:-30],
        zlib.compress(b"not json"),
        b"\x80\x04N.",
        b"[" * 100_000,
        zlib.compress(b"[" * 500_000 + b"]" * 500_000),
        b'{"a":' * 100_000,
        b"9" * 5000,
    ],
)
def test_data_that_is_no_json_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("data: ")


def test_hash_without_data_is_refused() -> None:
    with pytest.raises(RequestError, match=r"^data: "):
        read_request({}, LIMIT)


@pytest.mark.parametrize("call", [None, {}, "text", 1, [], CALL[:3], [*CALL, None], {"request": REQUEST}])
def test_json_that_is_no_call_is_refused(call: Any) -> None:
    assert refusal(packed(call)).startswith("data: ")


@pytest.mark.parametrize(
    "function",
    ["os.system", "worker.tasks", FUNCTION + " ", FUNCTION.upper(), "", None, 1, True, [FUNCTION], {}, "\ud800\n"],
)
def test_other_function_is_refused(function: Any) -> None:
    message = refusal(packed([function, *CALL[1:]]))
    assert message.startswith("function: ")
    assert message.endswith(f"accepted: {FUNCTION}")


def test_deeply_nested_function_name_is_refused() -> None:
    for depth in (300, 900):
        function = b"[" * depth + b"]" * depth
        refusal(b"[" + function + b",null,[],{}]")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([REQUEST], {}),
        ([1], {"request": REQUEST}),
        ({"a": 1}, {"request": REQUEST}),
        ([], {}),
        ([], {"request": REQUEST, "other": 1}),
        ([], {"text": "a"}),
        ([], [["request", REQUEST]]),
        ([], None),
    ],
)
def test_other_arguments_are_refused(args: Any, kwargs: Any) -> None:
    assert refusal(packed([FUNCTION, None, args, kwargs])).startswith("arguments: ")


def test_bad_request_inside_a_good_call_names_its_field() -> None:
    for request, field in (({"text": ""}, "text"), ({"text": "a", "seed": -1}, "seed"), ("text", "request")):
        assert refusal(packed([FUNCTION, None, [], {"request": request}])).startswith(f"{field}: ")


def test_limit_is_exact() -> None:
    plain = packed(CALL)
    for data in (plain, zlib.compress(plain)):
        assert read(data, len(plain)) == parse_request(REQUEST)
        assert f"larger than {len(plain) - 1} bytes" in refusal(data, len(plain) - 1)


@pytest.mark.parametrize("filler", [b"\0", b" ", b"["])
def test_bomb_is_refused_in_little_memory_and_time(filler: bytes) -> None:
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(filler * 1_000_000) for _ in range(100)) + packer.flush()
    assert len(zlib.decompressobj().decompress(bomb, LIMIT + 1)) > LIMIT
    tracemalloc.start()
    start = time.process_time()
    message = refusal(bomb)
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"larger than {LIMIT} bytes" in message
    assert peak < 8 * LIMIT
    assert seconds < 3


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trap_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``trap_on_import`` that can be imported, and the folder that it makes when it is."""
    trace = tmp_path / "imported"
    (tmp_path / "trap_on_import.py").write_text(f"import os\nos.mkdir({str(trace)!r})\ndef speak(**_): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    return trace


def test_traps_do_snap(tmp_path: Path, trap_module: Path) -> None:
    """The two tests below would notice."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "unpickled")))  # noqa: S301 - our own bytes
    assert (tmp_path / "unpickled").is_dir()
    job = Job.create("trap_on_import.speak", connection=NOWHERE, serializer=JSONSerializer)
    assert callable(job.func)
    sys.modules.pop("trap_on_import")
    assert trap_module.is_dir()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_not_executed(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps(("worker.tasks.synthesize", None, (), {"request": Trap(tmp_path / "run")}), protocol)
    for form in (data, zlib.compress(data)):
        assert refusal(form).startswith("data: ")
        restore_job("id", {**RAW, b"data": form, b"meta": form, b"result": data}, NOWHERE, "tts")
    assert not (tmp_path / "run").exists()


def test_named_module_is_not_imported(trap_module: Path) -> None:
    for name in ("trap_on_import.speak", "trap_on_import"):
        refusal(packed([name, None, [], {"request": REQUEST}]))
        refusal(packed([FUNCTION, "trap_on_import.speak", [], {"request": {"text": "a", name: 1}}]))
    assert not trap_module.exists()
    assert "trap_on_import" not in sys.modules


def test_callbacks_are_never_looked_up(trap_module: Path) -> None:
    names = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
    raw = {name.encode(): b"trap_on_import.speak" for name in names}
    raw |= RAW
    job = restore_job("id", raw, NOWHERE, "tts")
    assert isinstance(job, HeldJob)
    assert set(job.callback_names.values()) == {"trap_on_import.speak"}
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    assert not trap_module.exists()
    stock = Job("id", connection=NOWHERE, serializer=JSONSerializer)
    stock.restore(dict(raw))
    assert callable(stock.success_callback)
    assert trap_module.exists()
    sys.modules.pop("trap_on_import")


def test_bomb_in_any_field_is_not_inflated() -> None:
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(b"a" * 1_000_000) for _ in range(50)) + packer.flush()
    tracemalloc.start()
    for field in (b"exc_info", b"data", b"meta", b"result"):
        restore_job("id", {**RAW, field: bomb}, NOWHERE, "tts")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * LIMIT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"created_at", b"yesterday"),
        (b"enqueued_at", b"\xff"),
        (b"timeout", b"soon"),
        (b"timeout", b"1\n2"),
        (b"status", b"a\nb" * 10_000),
        (b"created_at", b"a\nb\x1b" * 10_000),
        (b"result_ttl", b"\n1\n1" * 1000),
        (b"dependency_ids", b"a\nb"),
        (b"origin", b"\xff"),
        (b"allow_dependency_failures", b"x"),
        (b"timeout", b"9" * 400),
        (b"failure_callback_timeout", b"9" * 400),
        (b"result_ttl", b"9" * 400),
        (b"repeat_intervals", b"[null]"),
        (b"repeat_intervals", b"[99999999999999999]"),
        (b"repeat_intervals", b"[NaN]"),
        (b"retry_intervals", b'{"0": 1}'),
        (b"retry_intervals", b"[" * 100_000),
        (b"dependency_ids", b"{}"),
        (b"dependency_ids", b"[5]"),
        (b"dependency_ids", b'["\\ud800"]'),
        (b"webhooks", b"[{}]"),
        (b"webhooks", b'[{"url": "http://[", "job_status": "failed"}]'),
    ],
)
def test_unreadable_hash_fields_are_told_in_one_line(field: bytes, value: bytes) -> None:
    raw = {**RAW, field: value}
    job = restore_job("id", raw, NOWHERE, "tts")
    assert job.unreadable is not None
    assert job.unreadable.isprintable()
    assert len(job.unreadable) < 1000
    assert (job.id, job.origin) == ("id", "tts")


def test_saving_leaves_the_producers_fields_alone() -> None:
    stock = Job.create(FUNCTION, kwargs={"request": REQUEST}, connection=NOWHERE, serializer=JSONSerializer)
    raw = {name.encode(): str(value).encode() for name, value in stock.to_dict().items() if name != "data"}
    job = restore_job("id", {**raw, b"data": b"[]", b"meta": b"{}"}, NOWHERE, "tts")
    changed = set(job.to_dict())
    assert {"status", "worker_name", "origin"} <= changed
    assert not changed & {"data", "meta", "created_at", "description", "success_callback_name", "result_ttl"}


@pytest.mark.parametrize(
    ("meta", "seen"),
    [
        (b'{"order": 7}', {"order": 7}),
        (b'"' + b"a" * (1 << 16) + b'"', {}),
        (b"\xff", {"unserialized": b"\xff"}),
        (b"[" * 60_000, {"unserialized": b"[" * 60_000}),
    ],
)
def test_callbacks_see_meta_of_ordinary_size(meta: bytes, seen: dict[str, Any]) -> None:
    job = restore_job("id", {**RAW, b"meta": meta}, NOWHERE, "tts")
    assert (job.meta, job.unreadable) == (seen, None)
    assert "meta" not in job.to_dict()


def test_a_hash_without_a_status_is_a_job_too() -> None:
    assert restore_job("id", {}, NOWHERE, "tts").origin == "tts"


NEAR_CALLS = st.tuples(
    st.sampled_from([FUNCTION, "os.system", None]),
    st.none() | st.text(),
    st.just([]) | st.lists(st.integers(), max_size=2),
    st.dictionaries(
        st.sampled_from(["request", "other"]),
        st.fixed_dictionaries({"text": st.text(max_size=3)}) | st.integers(),
        max_size=2,
    ),
).map(packed)
ANY_BYTES = st.binary() | NEAR_CALLS | st.text().map(str.encode) | st.integers(0, 2000).map(lambda n: b"[" * n)


@settings(max_examples=300, deadline=None)
@given(ANY_BYTES | ANY_BYTES.map(zlib.compress))
def test_any_bytes_are_a_request_or_one_printable_line(data: bytes) -> None:
    try:
        request = read(data)
    except RequestError as error:
        message = str(error)
    else:
        message = ""
        assert parse_request(request.model_dump(mode="json", exclude_unset=True)) == request
    assert message.isprintable()
