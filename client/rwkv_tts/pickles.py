"""Reads what RQ pickles by default, where it is made of the values that JSON has; nothing is unpickled.

``pickletools`` cuts the bytes into opcodes and executes none. Of these, the few are known here that make or fill
strings, numbers, lists, tuples and dicts; at any other the reading ends. So there is no opcode that could name,
import or call anything. What comes out is a tree, as of JSON: a list or dict that is in it twice is refused, and a
string counts for as often as it is in it.
"""

from collections.abc import Callable
from pickletools import genops
from typing import Any, Protocol

from rq.serializers import DefaultSerializer, JSONSerializer

ACCEPTED = "JSON, or a pickle (protocol 2 to 5) of plain values: None, bool, int, float, str, list, tuple, dict"

_FIRST = b"\x80"
"""What pickles of protocol 2 to 5 begin with, and UTF-8 never does."""

_DEEPEST = 100
_MOST_OF_A_RESULT = 1 << 17
_LARGEST_RESULT = 1 << 24

_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NOTHING = {"PROTO", "FRAME", "STOP"}


class PickleError(ValueError):
    """A pickle that is not read; the message says what it has that it may not have."""


class _Reader:
    """The stack of a pickle.

    Args:
        room: Characters that strings may have that are in it more than once.
    """

    def __init__(self, room: int) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._room = room

    def take(self, name: str, argument: Any) -> None:
        """Do what an opcode says."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _NOTHING:
            raise PickleError(self._more_than_values(name, argument))

    def value(self) -> Any:
        """What the pickle holds."""
        [value] = self.stack
        if self._below:
            raise ValueError("a mark is left")
        return value

    def _more_than_values(self, name: str, argument: Any) -> str:
        if "GLOBAL" in name:
            on_top = [one for one in self.stack[-2:] if isinstance(one, str)]
            names = on_top if argument is None else argument.split()
            return f"the object {'.'.join(names)[:80]!r}"
        return "bytes" if "BYTE" in name else f"something else (opcode {name})"

    def mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _top(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("the stack is empty")
        del self.stack[-count:]
        return items

    def wrap(self, count: int) -> None:
        self.stack.append(self._top(count))

    def wrap_marked(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("not a list")
        self.stack[-1] += items

    def update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise PickleError(f"a key that is {type(key).__name__}")
            self.stack[-1][key] = value

    def remember(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def recall(self, index: int) -> None:
        value = self._memo[index]
        if not isinstance(value, str):
            raise PickleError("one list, tuple or dict twice")
        self._room -= len(value)
        if self._room < 0:
            raise PickleError("strings so often that they are too large")
        self.stack.append(value)


_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "MARK": _Reader.mark,
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append([]),
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "TUPLE": _Reader.wrap_marked,
    "TUPLE1": lambda reader, _: reader.wrap(1),
    "TUPLE2": lambda reader, _: reader.wrap(2),
    "TUPLE3": lambda reader, _: reader.wrap(3),
    "APPEND": lambda reader, _: reader.extend(reader._top(1)),
    "APPENDS": lambda reader, _: reader.extend(reader._since_mark()),
    "SETITEM": lambda reader, _: reader.update(reader._top(2)),
    "SETITEMS": lambda reader, _: reader.update(reader._since_mark()),
    "MEMOIZE": _Reader.remember,
    "BINPUT": _Reader.remember,
    "LONG_BINPUT": _Reader.remember,
    "BINGET": _Reader.recall,
    "LONG_BINGET": _Reader.recall,
}


def is_pickled(data: bytes) -> bool:
    """Whether bytes, or their beginning, are a pickle of protocol 2 to 5 if they are anything."""
    return data[:1] == _FIRST


def read_pickle(data: bytes, limit: int, most: int) -> Any:
    """The value of a pickle, as JSON would have it: tuples are lists.

    Args:
        data: The pickle, inflated.
        limit: Bytes that it would take with each string written out.
        most: Opcodes that it may have, which is about three for each value.

    Raises:
        PickleError: It is not one of plain values, or too large, or not well-formed.
    """
    reader = _Reader(limit - len(data))
    try:
        for number, (opcode, argument, _) in enumerate(genops(data)):
            if number >= most:
                raise PickleError(f"more than {most} steps")
            reader.take(opcode.name, argument)
        value = reader.value()
    except PickleError:
        raise
    except (ValueError, LookupError) as error:
        raise PickleError(f"no end or no sense ({type(error).__name__})") from error
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for one in level for child in _children(one)]
    if level:
        raise PickleError(f"more than {_DEEPEST} levels")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class Serializer(Protocol):
    """What RQ takes for one."""

    def dumps(self, obj: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...


class PlainPickleSerializer:
    """RQ's default for producers that use it, but that it reads plain values only."""

    dumps = staticmethod(DefaultSerializer.dumps)

    @staticmethod
    def loads(data: bytes) -> Any:
        return read_pickle(data, _LARGEST_RESULT, _MOST_OF_A_RESULT)


class EitherSerializer:
    """Reads what was written by a job's own serializer, whichever that is; writes JSON."""

    dumps = staticmethod(JSONSerializer.dumps)

    @staticmethod
    def loads(data: bytes) -> Any:
        return serializer_of(data).loads(data)


def serializer_of(data: bytes) -> Serializer:
    """The serializer that has written bytes of which these are the beginning."""
    return PlainPickleSerializer if is_pickled(data) else JSONSerializer
