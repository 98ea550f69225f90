"""What RQ pickles by default: plain values come out as JSON has them, anything else is refused, at little cost."""

import json
import os
import pickle
import pickletools
import time
import tracemalloc
from collections import OrderedDict
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rwkv_tts.pickles import PickleError, read_pickle
from rwkv_tts.schema import SynthesisRequest

LIMIT, MOST = 12 << 20, 1 << 15
CALL = ("worker.tasks.synthesize", None, (), {"request": {"text": "Hello.", "seed": 7}})
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)

CODES = [ord(opcode.code) for opcode in pickletools.opcodes]

numbers = st.integers(-(2**2000), 2**2000) | st.floats(allow_nan=False)
leaves = st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(st.text("abé"), inner)
    ),
    max_leaves=40,
)


def read(data: bytes, limit: int = LIMIT) -> Any:
    return read_pickle(data, limit, MOST)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@settings(max_examples=25, deadline=None)
@given(values, st.sampled_from(PROTOCOLS))
@example(CALL, 5)
@example(["many"] * 3000, 4)
@example({str(n): n for n in range(3000)}, 2)
@example([0, 255, 256, 65_535, 65_536, 2**31, -1, "a" * 300, "a" * 70_000], 5)
def test_plain_values_are_read_as_json_has_them(value: Any, protocol: int) -> None:
    for pickler in (pickle.dumps, pickle._dumps):  # type: ignore[attr-defined]
        assert read(pickler(value, protocol)) == as_json(value)


@pytest.mark.filterwarnings("ignore:invalid escape")  # of texts of opcodes that are refused
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_read_of_a_broken_pickle_is_what_python_reads(data: st.DataObject) -> None:
    """Whatever is accepted has no object in it, so that it is safe to have Python read it as well."""
    random = Random(data.draw(st.integers(0, 2**32)))  # noqa: S311 - not for secrets
    whole = pickle.dumps(data.draw(values), data.draw(st.sampled_from(PROTOCOLS)))
    for _ in range(100):
        broken = break_it(whole, random)
        try:
            mine = read(broken)
        except PickleError:
            continue
        try:
            theirs = pickle.loads(broken)  # noqa: S301
        except Exception:  # noqa: BLE001, S112 - Python is stricter about frames and tuples
            continue
        assert repr(mine) == repr(as_json(theirs))  # there are numbers that are not equal to themselves


def break_it(data: bytes, random: Random) -> bytes:
    """Some bytes replaced, taken out or put in, most of them opcodes."""
    raw = bytearray(data)
    for _ in range(random.randint(1, 4)):
        position = random.randrange(2, len(raw) + 1)
        raw[position : position + random.randint(0, 2)] = bytes([random.choice(CODES)])
    return bytes(raw)


KNOWN = {
    *("MARK", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND"),
    *(
        "APPENDS",
        "SETITEM",
        "SETITEMS",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "NONE",
        "NEWTRUE",
    ),
    *("NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"),
    *("PROTO", "FRAME", "STOP"),
}
STRANGE = [opcode for opcode in pickletools.opcodes if opcode.name not in KNOWN]


@pytest.mark.parametrize("opcode", STRANGE, ids=lambda opcode: opcode.name)
def test_every_other_opcode_ends_the_reading(opcode: pickletools.OpcodeInfo) -> None:
    """On a stack that has everything that such an opcode might take."""
    stack = b"\x80\x05]\x94(\x8c\x02os\x8c\x06system\x8c\x04true\x85"
    for argument in (b"", b"os\nsystem\n", b"1\n", b"'a'\n", b"\0" * 8, b"\x01\0\0\0\0\0\0\0a"):
        with pytest.raises(PickleError):
            read(stack + opcode.code.encode("latin-1") + argument + b".")


class Executed:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


HOSTILE = {
    "reduce": b"cos\nsystem\n(S'true'\ntR.",
    "reduce 2": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "inst": b"\x80\x02(X\x04\0\0\0trueios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\nX\x04\0\0\0trueo.",
    "newobj": b"\x80\x02cos\nsystem\n)\x81.",
    "newobj_ex": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "build": b"\x80\x02}}b.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"\x80\x02X\x01\0\0\0aQ.",
    "buffer": b"\x80\x05\x97.",
    "hidden after a pop": b"\x80\x02cos\nsystem\n0N.",
    "hidden in a key": b"\x80\x02}cos\nsystem\nNs.",
    "hidden behind the memo": b"\x80\x02cos\nsystem\nq\x000h\0X\x04\0\0\0true\x85R.",
    "a protocol that is none": b"\x80\xffcos\nsystem\n(S'true'\ntR.",
    "a frame that lies": b"\x80\x04\x95\x01\0\0\0\0\0\0\0cos\nsystem\n)R.",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_known_exploits_are_refused(data: bytes) -> None:
    with pytest.raises(PickleError):
        read(data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_object_is_built(protocol: int, tmp_path: Any) -> None:
    trap = Executed(str(tmp_path / "made"))
    for value in (trap, [trap], {"request": trap}, (1, (2, trap))):
        with pytest.raises(PickleError):
            read(pickle.dumps(value, protocol))
    assert not (tmp_path / "made").exists()
    pickle.loads(pickle.dumps(trap, protocol))  # noqa: S301 - it would have worked
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (SynthesisRequest(text="a"), "the object 'rwkv_tts.schema.SynthesisRequest'"),
        ({"at": datetime.now(UTC)}, "the object 'datetime.datetime'"),
        (OrderedDict(a=1), "the object 'collections.OrderedDict'"),
        (b"RIFF", "bytes"),
        ({1: "one"}, "a key that is int"),
        ({"a"}, "something else (opcode EMPTY_SET)"),
        ([[]] * 2, "one list, tuple or dict twice"),
        (2**3000, "something else (opcode LONG4)"),
        (partial(json.loads), "the object 'functools.partial'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_refusal_says_what_is_too_much(value: Any, named: str) -> None:
    with pytest.raises(PickleError) as refusal:
        read(pickle.dumps(value))
    assert str(refusal.value) == named


def framed(body: bytes) -> bytes:
    return b"\x80\x05" + body + b"."


BOMBS = {
    "lists in lists": framed(b"]" * (6 << 20) + b"a" * (6 << 20)),
    "deep": framed(b"]" * 10_000 + b"a" * 9_999),
    "dicts": framed(b"(" + b"}" * (12 << 20) + b"t"),
    "marks": framed(b"(" * (12 << 20)),
    "memo": framed(b"]" + b"\x94" * (12 << 20)),
    "far in the memo": framed(b"]r\xff\xff\xff\xff" * 2_000_000),
    "a string often": framed(b"X\0\0\x10\0" + b"a" * (1 << 20) + b"\x94(" + b"h\0" * 30_000 + b"t"),
    "laughs": framed(b"]\x94" + b"(" + b"h\0" * 10 + b"e" + b"\x94(h\x01h\x01e" * 1000),
    "a list in itself": framed(b"]\x94h\0a"),
    "an int of megabytes": framed(b"\x8b\0\0\xb0\0" + b"\x7f" * (11 << 20)),
    "an int of digits": framed(b"L" + b"9" * (12 << 20) + b"L\n"),
    "a length that lies": framed(b"X\xff\xff\xff\x7fabc"),
    "a longer length": framed(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc"),
    "a negative length": framed(b"\x8b\xff\xff\xff\xffabc"),
    "a frame that lies": framed(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff(")[:-1],
    "an object on a deep stack": framed(b"]" * 10_000 + b"a" * 9_999 + b"\x8c\x01a\x93"),
    "no end": b"\x80\x05]" * 1000,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_in_little_memory_and_time(data: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(PickleError):
        read(data)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) + (32 << 20)
    assert seconds < 10


def test_strings_count_as_often_as_they_are_there() -> None:
    text = "a" * 1000
    data = pickle.dumps([text] * 10)
    assert read(data, 20_000) == [text] * 10
    with pytest.raises(PickleError, match="too large"):
        read(data, 9000)
