"""What a hostile or broken producer may leave in Redis, as commands: thousands of cases from one seed."""

import contextlib
import json
import pickle
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rq.defaults import RQ_KEY_PREFIX

from rwkv_tts.keys import ARGUMENT, FUNCTION, audio_key

Command = tuple[Any, ...]

TRAP = "trap_on_import"
"""A module that can be imported, and that nobody may import."""

SHORT = 0.04
"""Seconds of audio of a request that may turn out to be good."""

GOOD: dict[str, Any] = {"text": "good", "seed": 7, "max_seconds": SHORT}


@dataclass
class Case:
    """One malformed payload.

    Attributes:
        commands: What its producer sends, besides the queueing.
        fields: The job's hash, if it is one.
        queued: Whether the id goes onto the queue.
        waits: Whether it may stay deferred, because it depends on something that fails.
    """

    kind: str
    id: bytes
    commands: list[Command] = field(default_factory=list)
    fields: dict[bytes, bytes] | None = None
    queued: bool = True
    waits: bool = False


def job_key(job_id: bytes, part: bytes = b"") -> bytes:
    return f"{RQ_KEY_PREFIX}:job:".encode() + job_id + part


def call(request: Any = GOOD, function: Any = FUNCTION, args: Any = (), **others: Any) -> bytes:
    return json.dumps([function, None, args, {ARGUMENT: request, **others}]).encode()


def job_fields(queue: str, **fields: bytes) -> dict[bytes, bytes]:
    """The hash that RQ writes for a good job, with other or more fields."""
    moment = b"2026-01-01T00:00:00.000000Z"
    plain = {
        "data": zlib.compress(call()),
        "created_at": moment,
        "enqueued_at": moment,
        "origin": queue.encode(),
        "description": b"speech",
        "status": b"queued",
        "timeout": b"180",
        "started_at": b"",
        "ended_at": b"",
        "last_heartbeat": b"",
        "worker_name": b"",
    }
    return {name.encode(): value for name, value in (plain | fields).items()}


def bomb(megabytes: int, filler: bytes = b"[") -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(filler * (1 << 20)) for _ in range(megabytes)) + packer.flush()


# Requests: JSON of any shape.

_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXT
    | st.sampled_from(
        [10**400, -(10**30), 2**64, 1e308, -0.0, "x" * 20_001, " ", "os.system", "__class__", "../etc"]
    )
)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=6
)
_FIELDS = ["text", "voice", "age", "gender", "emotion", "pitch", "speed", "seed", "format", "sample_rate"]
_FIELDS += ["temperature", "top_p", "top_k", "max_seconds", "metadata", "request", "func"]


def _bounded(request: dict[str, Any]) -> dict[str, Any]:
    """Should it be good after all, it is short."""
    seconds = request["max_seconds"]
    endless = seconds is None or (isinstance(seconds, int | float) and SHORT < seconds <= 3600)
    return request | {"max_seconds": SHORT} if endless else request


_NEAR = st.dictionaries(st.sampled_from(_FIELDS) | _TEXT, _JSON, min_size=1, max_size=3).map(
    lambda changes: _bounded(GOOD | changes)
)


class _EnoughError(Exception):
    """There are as many different examples as wanted."""


def json_requests(count: int) -> list[bytes]:
    """Encoded calls with any JSON as the request, most of them near good ones; always the same."""
    found: dict[bytes, None] = {}

    @settings(
        max_examples=2 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_NEAR | _NEAR | _JSON)
    def collect(request: Any) -> None:
        found[call(request)] = None
        if len(found) >= count:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        collect()
    return list(found)


def nested_requests() -> Iterator[bytes]:
    """Levels that a parser, a validator or an encoder may run out of."""
    for depth in (50, 100, 126, 127, 128, 200, 254, 255, 256, 500, 900, 990, 1000, 5000, 100_000, 400_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            deep = opening * depth + b"1" + closing * depth
            for place in (b'{"text":"a","max_seconds":0.04,"metadata":{"a":%s}}', b'{"text":%s}', b"%s"):
                yield b'["%s",null,[],{"request":%s}]' % (FUNCTION.encode(), place % deep)
        yield b'["%s",null,%s,{}]' % (FUNCTION.encode(), b"[" * depth + b"]" * depth)
        yield b"[" * depth


# Calls: other functions, other arguments.


def calls(random: Random) -> Iterator[bytes]:
    names = ["os.system", "builtins.exec", "subprocess.Popen", "worker.tasks", "", ".", "a..b", "pickle.loads"]
    names += ["torch.load", "rq.job.Job"]
    names += [f"{FUNCTION} ", f"{FUNCTION}\0", f"{TRAP}.speak", TRAP, "importlib.import_module"]
    odd: list[Any] = [None, 1, True, [], {}, [FUNCTION], {"a": 1}, "\ud800", "x" * 100_000, 1e400, "\n\x1b[31m"]
    while True:
        function = random.choice([*names, *odd, FUNCTION])
        instance = random.choice([None, f"{TRAP}.speak", {"__class__": TRAP}])
        args = random.choice([[], [], ["id"], [GOOD], {"a": 1}, "x", 5, None])
        kwargs = random.choice([{ARGUMENT: GOOD}, {}, {ARGUMENT: GOOD, "x": 1}, [[ARGUMENT, GOOD]], None, {"": 1}])
        whole = random.choice([[function, instance, args, kwargs]] * 6 + [[function], {"f": function}, function])
        if whole != [FUNCTION, None, [], {ARGUMENT: GOOD}]:
            data = json.dumps(whole).encode()
            yield random.choice([zlib.compress(data), data])


# Data: raw bytes.


class _Snap:
    """Imports the trap when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, (TRAP,)


def raw_data(random: Random) -> Iterator[bytes]:
    good = call()
    pickles = [
        pickle.dumps(value, protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        for value in ((FUNCTION, None, (), {ARGUMENT: {**GOOD, "metadata": {"a": _Snap()}}}), _Snap(), [_Snap()])
    ]
    pickles += [pickle.dumps((FUNCTION, None, (), {ARGUMENT: GOOD}), protocol) for protocol in (0, 1)]
    pickles += [b"c%s\nspeak\n." % TRAP.encode(), b"cos\nsystem\n(S'true'\ntR.", b"\x80\x04\x95" + b"\xff" * 5]
    yield from pickles
    yield from map(zlib.compress, pickles)

    def flipped() -> bytes:
        data = bytearray(random.choice([good, zlib.compress(good)]))
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        return bytes(data)

    packed = zlib.compress(good)
    makers: list[Callable[[], bytes]] = [
        lambda: random.randbytes(random.randint(0, 300)),
        lambda: zlib.compress(random.randbytes(random.randint(0, 300))),
        lambda: good[: random.randrange(len(good))],
        lambda: packed[: random.randrange(len(packed))],
        lambda: packed[random.randrange(1, len(packed)) :],
        lambda: flipped().replace(b'"max', b'"min'),
        lambda: good.decode().encode(random.choice(["utf-16", "utf-32", "utf-7", "utf-8-sig"])),
        lambda: good.replace(b"good", random.randbytes(5)),
        lambda: zlib.compress(packed),
        lambda: random.choice(pickles)[: random.randint(1, 60)],
        lambda: good + random.randbytes(random.randint(1, 5)),
        lambda: b"\xef\xbb\xbf" + packed,
    ]
    while True:
        yield random.choice(makers)()


def bombs() -> Iterator[bytes]:
    """Small where they lie, 10 to 100 MB when inflated."""
    yield from (bomb(10, filler) for filler in (b"[", b" ", b"\0", b"9", b'"'))
    largest = bomb(100)
    yield from (bomb(40), largest, zlib.compress(largest), largest + b"x")


# The other fields of a job's hash.

NUMBERS = (
    *("timeout", "result_ttl", "failure_ttl", "ttl", "number_of_retries", "retries_left", "repeats_left"),
    *("success_callback_timeout", "failure_callback_timeout", "stopped_callback_timeout"),
    *("rate_limit_concurrency", "abandoned", "enqueue_at_front", "enqueue_at_front_on_retry"),
    "allow_dependency_failures",
)
DATES = ("created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat")
LISTS = ("retry_intervals", "repeat_intervals", "dependency_ids", "webhooks")
WORDS = (
    *("status", "origin", "description", "worker_name", "group_id", "rate_limit_key", "dependency_id", "meta"),
    *("exc_info", "result", "success_callback_name", "failure_callback_name", "stopped_callback_name"),
)

_NUMBERS = [
    *b"|-1|0|1|2|007| 1 |+1|1_0|0x10|1.5|1e3|nan|inf|-inf|None|null|true|True|1h|1d|-5m|h|1\n2|\xff|-2".split(
        b"|"
    ),
    *b"9223372036854775807|9223372036854775808|-9223372036854775809|99999999999|4000000000".split(b"|"),
    *(b"9" * 18, b"9" * 18 + b"d", b"9" * 400, b"9" * 5000, b"-" + b"9" * 400, "\u0661".encode()),
]
_DATES = [
    *b"|yesterday|0001-01-01T00:00:00.000000Z|9999-12-31T23:59:59.999999Z|2026-01-01|Z|1e9|\xff\xfe".split(b"|"),
    *b"2026-01-01T00:00:00|2026-01-01T00:00:00+23:59|0001-01-01T00:00:00+14:00|2026-13-01T00:00:00Z".split(b"|"),
    *b"9999-12-31T23:59:59-14:00|2026-01-01T00:00:00Z\n|2026-02-30T00:00:00.0Z".split(b"|"),
]
_LISTS = [
    *b'[]|{}|null|0|1|"x"|[null]|["x"]|[[]]|[{}]|[1]|[-1]|[0]|[NaN]|[Infinity]|[1e400]|[99999999999999999]'.split(
        b"|"
    ),
    *b'true|[true]|["\\ud800"]|["a b"]|[""]|{"a":1}|[1.5]|["1"]|{"0":1}'.split(b"|"),
    *(b"[" + b"9" * 400 + b"]", b"[" * 1000, b"[" * 100_000),
]
_URLS: list[Any] = [
    *("http://127.0.0.1:1/x", "http://[::1", "http://[", "https://a b/", "file:///etc/passwd"),
    "http://x@127.0.0.1:99999/",
    *("http://127.0.0.1:port/", "http://\n", "http://[v1.x]/", "http://e\u2100/", "http://\ud800/", None, [], 5),
]
_WEBHOOKS = [
    json.dumps([{"url": url, "job_status": status, **more}]).encode()
    for url in _URLS
    for status in ("finished", "failed")
    for more in ({}, {"headers": {"a": "\n"}, "timeout": 10**400, "method": "POST"})
]
_WORDS = [
    *b"|queued|started|finished|failed|canceled|scheduled|deferred|stopped|rate_limited|ready_to_enqueue".split(
        b"|"
    ),
    *b"Status.QUEUED|QUEUED|queued |os.system|trap_on_import.speak|\xff\xfe|a\nb|\x1b[31m|\0|../../x|{}".split(
        b"|"
    ),
    *b"a:b|%s%n|{0.__class__}|%d".split(b"|"),
    *(b"x" * 100_000, "\u2028\u202e".encode(), zlib.compress(b"\xff"), pickle.dumps(_Snap())),
]
_ENDLESS = 20
"""Repeats beyond this number are not malformed: they only never end."""


def _acceptable(name: str, value: bytes) -> bool:
    """Whether a value keeps the test from ending: a job may ask to run again many times."""
    if name != "repeats_left":
        return True
    try:
        return int(value) < _ENDLESS
    except ValueError:
        return True


def _values(name: str) -> list[bytes]:
    if name == "webhooks":
        return _WEBHOOKS + _LISTS + _WORDS
    first = _NUMBERS if name in NUMBERS else _DATES if name in DATES else _LISTS if name in LISTS else _WORDS
    every = first + [value for value in _NUMBERS + _DATES + _LISTS + _WORDS if value not in first][::5]
    return [value for value in every if _acceptable(name, value)]


def single_fields() -> Iterator[dict[str, bytes]]:
    """Every field of a hash with every value that its reader may trip over."""
    for name in (*NUMBERS, *DATES, *LISTS, *WORDS):
        for value in _values(name):
            more = {"rate_limit_concurrency": b"1"} if name == "rate_limit_key" else {}
            more |= {"rate_limit_key": b"limit"} if name == "rate_limit_concurrency" else {}
            more |= {"repeats_left": b"1"} if name == "repeat_intervals" else {}
            more |= {"retries_left": b"1"} if name == "retry_intervals" else {}
            yield {name: value, **more}


def mixed_fields(random: Random) -> Iterator[dict[str, bytes]]:
    """Several fields at once."""
    names = (*NUMBERS, *DATES, *LISTS, *WORDS)
    while True:
        chosen = random.sample(names, random.randint(2, 6))
        fields = {name: random.choice(_values(name)) for name in chosen}
        if random.random() < 0.3:
            name = random.choice([name for name in names if name != "repeats_left"])
            fields[name] = random.randbytes(random.randint(0, 60))
        yield fields


# Keys of the wrong type.


def _wrong(key: bytes, kind: int) -> Command:
    return [
        ("SET", key, b"\xff"),
        ("RPUSH", key, b"a", b"\xff"),
        ("SADD", key, b"a", b"\xff\xfe"),
        ("ZADD", key, 1, b"a", 2, b"\xff"),
        ("HSET", key, b"a", b"\xff"),
        ("XADD", key, "*", b"a", b"b"),
    ][kind]


def wrong_types(queue: str) -> Iterator[Case]:
    parts: list[Callable[[bytes], bytes]] = [
        lambda job_id: f"{RQ_KEY_PREFIX}:executions:".encode() + job_id,
        lambda job_id: job_key(job_id, b":executions"),
        lambda job_id: f"{RQ_KEY_PREFIX}:results:".encode() + job_id,
        lambda job_id: audio_key(job_id.decode()).encode(),
        lambda job_id: job_key(job_id, b":dependents"),
        lambda job_id: job_key(job_id, b":dependencies"),
        lambda job_id: f"{RQ_KEY_PREFIX}:rl:".encode() + job_id,
        lambda job_id: f"{RQ_KEY_PREFIX}:rl:".encode() + job_id + b":allowed",
        lambda job_id: f"{RQ_KEY_PREFIX}:rl:".encode() + job_id + b":rate_limited",
    ]
    for kind in range(6):
        for number in range(3):
            job_id = b"type-%d-%d" % (kind, number)
            yield Case("type", job_id, [_wrong(job_key(job_id), kind)])
        for good in (True, False):
            for number, part in enumerate(parts):
                job_id = b"types-%d-%d-%d" % (kind, number, good)
                limit = {"rate_limit_key": job_id, "rate_limit_concurrency": b"1"} if number >= 6 else {}
                data = {} if good else {"data": b"x"}
                yield Case("types", job_id, [_wrong(part(job_id), kind)], job_fields(queue, **data, **limit))


# Ids.


def impossible_ids(random: Random, queue: str) -> Iterator[Case]:
    words = b"| |\0|a b|a:b|:|../x|\xff|\xff:\xfe|a\nb|*|%s|{x}|a:dependents|[|-|__class__|\x1b[0m".split(b"|")
    words += ["\u00e9".encode(), "\u0661".encode(), b"x" * 100_000]
    while True:
        job_id = random.choice([*words, random.randbytes(random.randint(1, 30))])
        yield Case("id", job_id, [], job_fields(queue) if random.random() < 0.5 and len(job_id) < 99 else None)


# Dependencies.


def dependents(random: Random, queue: str) -> Iterator[Case]:
    """Malformed jobs and good dependents of theirs; good jobs and malformed dependents of theirs."""
    mixes, number = mixed_fields(random), 0
    shapes: list[dict[str, bytes]] = [
        {"dependency_ids": b"[]"},
        {"dependency_ids": b"[5]"},
        {"dependency_ids": b"[null]"},
        {"dependency_ids": b'["\\ud800"]'},
        {"origin": b"\xff"},
        {"origin": b""},
        {"data": b"x"},
        {"allow_dependency_failures": b"x"},
        {"status": b"garbage"},
    ]
    while True:
        number += 1
        parent, child = b"parent-%d" % number, b"child-%d" % number
        if number % 2:
            fields = {"data": random.choice([b"x", call({"text": 1})])}
            allowed = {"allow_dependency_failures": random.choice([b"0", b"1"])}
            own = {"status": b"deferred", "dependency_ids": json.dumps([parent.decode()]).encode(), **allowed}
        else:
            fields = {}
            own = random.choice(shapes) if number % 4 else next(mixes)
            own = {"status": b"deferred", "dependency_ids": json.dumps([parent.decode()]).encode(), **own}
        members = [child, *([random.randbytes(5), b"nobody"] if number % 3 == 0 else [])]
        commands: list[Command] = [("SADD", job_key(parent, b":dependents"), *members)]
        if number % 5 == 0:
            commands.append(_wrong(job_key(child, b":dependencies"), random.randrange(6)))
        else:
            commands.append(("SADD", job_key(child, b":dependencies"), parent))
        if number % 7 == 0:
            yield Case("child", child, [_wrong(job_key(child), random.choice([0, 1, 2, 3, 5]))], queued=False)
        else:
            commands.append(("ZADD", f"{RQ_KEY_PREFIX}:deferred:{queue}", 1, child))
            yield Case("child", child, [], job_fields(queue, **own), queued=False, waits=True)
        yield Case("parent", parent, commands, job_fields(queue, **fields))


# Registries and messages.


def scheduled(random: Random, queue: str) -> Iterator[Case]:
    key, mixes, number = f"{RQ_KEY_PREFIX}:scheduled:{queue}", mixed_fields(random), 0
    while True:
        number += 1
        job_id = random.choice([b"late-%d", b"late-%d", b"late\xff%d", b"a b:%d"]) % number
        limit = {"rate_limit_key": b"late-limit-%d" % number, "rate_limit_concurrency": b"5"}
        fields = random.choice([next(mixes), {}, limit, limit | next(mixes)])
        commands: list[Command] = [("ZADD", key, random.choice([1, 0, -5, "-inf"]), job_id)]
        if number % 6 == 0:
            yield Case("scheduled", job_id, [*commands, _wrong(job_key(job_id), number // 6 % 6)], queued=False)
        elif number % 6 == 1:
            yield Case("scheduled", job_id, commands, queued=False)
        else:
            if number % 6 == 2:
                part = random.choice(["", ":allowed", ":rate_limited"])
                name = f"{RQ_KEY_PREFIX}:rl:late-limit-{number}{part}".encode()
                commands.append(_wrong(name, random.randrange(6)))
                fields = limit
            yield Case("scheduled", job_id, commands, job_fields(queue, **fields), queued=False)


def started(random: Random, queue: str) -> Iterator[Case]:
    key, number = f"{RQ_KEY_PREFIX}:wip:{queue}", 0
    while True:
        number += 1
        job_id = random.choice([b"run-%d" % number, b"\xff%d" % number, b"a:b-%d" % number, random.randbytes(6)])
        member = job_id + random.choice([b":e%d" % number, b":\xff%d" % number, b"", b":", b":a b"])
        commands: list[Command] = [("ZADD", key, random.choice([1, 0, -1, "-inf"]), member)]
        execution = f"{RQ_KEY_PREFIX}:execution:".encode() + member
        if number % 3 == 0:
            commands.append(_wrong(execution, random.randrange(6)))
        elif number % 3 == 1:
            lease = random.choice([b"nobody", b"\xff", b"", key.encode()])
            worker = random.choice([b"w", b"\xff", b"%s", b"x\0y"])
            commands.append(("HSET", execution, b"lease", lease, b"worker_name", worker))
            if number % 2:
                commands.append(("SET", b"rq:worker:" + worker + b":executions", b"x"))
        abandoned = {"abandoned": random.choice([b"0", b"2", b"x", b"9" * 400, b"-1", b"nan"])}
        data = random.choice([{}, {"data": b"x"}, {"origin": b"\xff"}])
        if number % 5 == 0:
            yield Case("started", job_id, [*commands, _wrong(job_key(job_id), number // 5 % 6)], queued=False)
        else:
            fields = job_fields(queue, **({"status": b"started"} | abandoned | data))
            yield Case("started", job_id, commands, fields, queued=False)


def messages(random: Random) -> Iterator[bytes]:
    """For the worker's channel."""
    yield from (b"", b"{}", b"[]", b"null", b"5", b"NaN", b'"x"', b"\xff", b"[" * 200_000, b'{"command":' * 50_000)
    values: list[Any] = [None, 5, [], {}, "x", "\ud800", 10**400, float("nan"), [["x"]], "a" * 10_000, "{}", "%s"]
    while True:
        name = random.choice(["stop-job", "stop-execution", "kill-horse", "nothing", random.choice(values)])
        message = {"command": name, "job_id": random.choice(values), "execution_id": random.choice(values)}
        data = json.dumps(message).encode()
        yield random.choice([data, data, data[: random.randrange(len(data))], random.randbytes(20)])


def queued_cases(seed: int, queue: str) -> Iterator[Case]:
    """All kinds but messages, in a mixed order."""
    random = Random(seed)  # noqa: S311 - not for secrets
    plain: list[tuple[str, bytes]] = [
        *(("request", data) for data in json_requests(1400)),
        *(("nested", data) for data in nested_requests()),
        *(("call", data) for data in islice(calls(random), 400)),
        *(("data", data) for data in islice(raw_data(random), 900)),
        *(("bomb", data) for data in bombs()),
    ]
    hashes = [*single_fields(), *islice(mixed_fields(random), 700)]
    largest = bomb(100, b"a")
    hashes += [{name: largest} for name in (*LISTS, *WORDS, *NUMBERS, *DATES)]
    cases = [
        *(
            Case(kind, b"%s-%d" % (kind.encode(), i), [], job_fields(queue, data=data))
            for i, (kind, data) in enumerate(plain)
        ),
        *(Case("fields", b"fields-%d" % i, [], job_fields(queue, **fields)) for i, fields in enumerate(hashes)),
        *wrong_types(queue),
        *islice(impossible_ids(random, queue), 200),
        *islice(scheduled(random, queue), 150),
        *islice(started(random, queue), 150),
    ]
    random.shuffle(cases)
    yield from cases
    yield from islice(dependents(random, queue), 200)
