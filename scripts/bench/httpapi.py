"""Measure what the gateway adds to streams, and what clients that are slow or go away cost it.

    python scripts/bench httpapi [--lone 100] [--together 200] [--slow 50] [--dropped 1000]

Everything but the model is real: Redis, a worker process and a gateway process. The worker's rows make a piece of
audio at once and others at the pace of speech. Lone streams go in turn through ``TTSClient.stream`` and
through HTTP, and the time runs from the request to the first audio. Then many are open at once, through
``AsyncTTSClient`` and through HTTP, in turn: they begin within two seconds, and then all in one moment.

Slow readers take nothing of a long stream that is made at once: the figure is by how much the gateway's memory
grows, divided by their number. Dropped connections close at random moments; the figure is how long after the last
one a job still ran. The last line is JSON.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
from redis import Redis

from bench.arguments import at_least, command_line
from bench.figures import percentiles
from bench.machine import machine, told
from bench.overhead import start
from bench.timing import there_and_back
from rwkv_tts import AsyncTTSClient, TTSClient
from rwkv_tts.keys import chunks_key
from rwkv_tts.refusal import Refusal
from worker.broker.backend import Backend, Ended, Made
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import worker_connection
from worker.broker.rules import Rules
from worker.cli.embedded import embedded_redis

QUEUE = "gateway"
ROWS = 1024
PIECE = bytes(9_600)
"""0.2 s of PCM at 24 kHz."""

PIECE_SECONDS = 0.2
SHORT, TALK, LONG, ENDLESS = "short", "talk", "long", "endless"
"""Texts: a second of speech at its own pace, three in pieces that grow, minutes at once, and what nobody hears
to its end."""

PAUSES: dict[str, Sequence[float]] = {
    SHORT: 5 * [PIECE_SECONDS],
    TALK: [PIECE_SECONDS * 2**number for number in range(4)],
    LONG: 1_000 * [0.0],
    ENDLESS: 100_000 * [PIECE_SECONDS],
}
"""Seconds after each piece of a text."""
WARM_UP = 10


class SpeakingBackend(Backend):
    """Rows that make silence."""

    def __init__(self, post: Callable[[Ended | Made], None], rows: int) -> None:
        self._post, self._free = post, rows
        self._cancelled: set[str] = set()
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes]) -> None:  # noqa: ARG002
        self._free -= 1
        asyncio.run_coroutine_threadsafe(self._speak(job_id, PAUSES[request["text"]]), self._loop)

    async def _speak(self, job_id: str, pauses: Sequence[float]) -> None:
        for number, pause in enumerate(pauses, start=1):
            if job_id in self._cancelled:
                return
            self._post(Made(job_id, number, {"audio": PIECE}))
            await asyncio.sleep(pause)
        self._end(Ended(job_id, _result(job_id, len(pauses))))

    def cancel(self, job_id: str, refusal: Refusal) -> None:
        self._cancelled.add(job_id)
        self._end(Ended(job_id, refusal=refusal))

    def _end(self, ended: Ended) -> None:
        self._free += 1
        self._post(ended)

    def room(self) -> int:
        return self._free

    def progress(self) -> int | None:
        return None

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


def _result(job_id: str, pieces: int) -> dict[str, Any]:
    tokens, timings = (
        {"globals": 32, "semantic": 10 * pieces},
        dict.fromkeys(("queued", "prefill", "decode", "vocode", "encode", "first_audio", "total"), 0.0),
    )
    return {
        "job_id": job_id, "audio_key": chunks_key(job_id), "format": "pcm", "mode": "attributes", "seed": 0,
        "sample_rate": 24_000, "seconds": PIECE_SECONDS * pieces, "finish_reason": "eos", "tokens": tokens,
        "trace_sha256": "", "timings": timings, "mean_batch": 1.0, "rtf": 0.0, "warnings": [], "metadata": {},
    }  # fmt: skip


def speak(pipe: Connection, url: str, queue: str, rows: int, max_queue: int | None) -> None:
    """The worker's process; it ends by a signal."""
    rules = Rules(queue=(queue,), max_queue=max_queue)
    worker = BatchWorker(
        worker_connection(url), lambda post, _: SpeakingBackend(post, rows), rules, max_jobs=2 * rows
    )
    pipe.send(None)
    worker.work(logging_level="ERROR")


@contextmanager
def gateway(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """A gateway's process and its URL."""
    options = ["--queue", QUEUE, "--redis", url, "--port", "0", "--max-concurrent", "100000"]
    command = [sys.executable, "-m", "gateway", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        Thread(target=process.stderr.read, daemon=True).start()
        while urlopen(f"{address}/readyz").status != 200:  # noqa: S310 - our own
            time.sleep(0.05)
        yield address, psutil.Process(process.pid)
        process.terminate()


async def ask(address: str, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request for speech over a connection of its own."""
    host = urlsplit(address).netloc
    reader, writer = await asyncio.open_connection(*host.split(":"), limit=4096)
    body = json.dumps({"input": text, "response_format": "pcm"}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def over_http(address: str, text: str = SHORT, *, whole: bool = True) -> tuple[float, int]:
    """Hear a stream, or its beginning; seconds until its first audio, and bytes of all of it."""
    begin = time.perf_counter()
    reader, writer = await ask(address, text)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode())
    first, size = 0.0, 0
    while length := int(await reader.readline(), 16):
        await reader.readexactly(length + 2)
        first, size = first or time.perf_counter() - begin, size + length
        if not whole:
            break
    writer.close()
    return first, size


async def through(client: AsyncTTSClient, text: str) -> tuple[float, int]:
    """As ``over_http``, without the gateway."""
    begin, first, size = time.perf_counter(), 0.0, 0
    async with await client.stream(text, format="pcm") as pieces:
        async for piece in pieces:
            first, size = first or time.perf_counter() - begin, size + len(piece)
    return first, size


def alone(client: TTSClient) -> float:
    """Seconds until the first audio of a stream."""
    begin = time.perf_counter()
    with client.stream(SHORT, format="pcm") as pieces:
        next(pieces)
        return time.perf_counter() - begin


def lone(url: str, address: str, count: int) -> dict[str, Any]:
    """Milliseconds to the first audio of lone streams, both ways in turn."""
    client = TTSClient(url, QUEUE)
    found: dict[str, list[float]] = {"client": [], "http": []}
    for way in there_and_back(("client", "http"), WARM_UP + count):
        time.sleep(0.02)  # let what was cancelled end
        found[way].append(alone(client) if way == "client" else asyncio.run(over_http(address, whole=False))[0])
    return {way: percentiles([1000 * one for one in times[WARM_UP:]]) for way, times in found.items()}


async def crowd(url: str, address: str, count: int, within: float) -> dict[str, Any]:
    """Milliseconds to the first audio of streams that begin within so many seconds, both ways in turn."""
    found: dict[str, list[float]] = {"client": [], "http": []}
    async with AsyncTTSClient(url, QUEUE) as client:
        ways: dict[str, Callable[[], Awaitable[tuple[float, int]]]] = {
            "client": lambda: through(client, TALK),
            "http": lambda: over_http(address, TALK),
        }

        async def begin(way: str, number: int) -> tuple[float, int]:
            await asyncio.sleep(within * number / count)
            return await ways[way]()

        for way in there_and_back(("client", "http"), 4):
            heard = await asyncio.gather(*(begin(way, number) for number in range(count)))
            lost = sum(size != len(PAUSES[TALK]) * len(PIECE) for _, size in heard)
            if lost:
                raise RuntimeError(f"{lost} of {count} streams are not whole")
            found[way] += [first for first, _ in heard]
            await asyncio.sleep(1)
    return {way: percentiles([1000 * one for one in times]) for way, times in found.items()}


async def slow(address: str, process: psutil.Process, count: int) -> dict[str, float]:
    """Megabytes by which each reader that takes nothing makes the gateway grow."""
    before, most = process.memory_info().rss, 0
    asked = [await ask(address, LONG) for _ in range(count)]
    for _ in range(50):
        await asyncio.sleep(0.1)
        most = max(most, process.memory_info().rss)
    for _, writer in asked:
        writer.transport.abort()
    return {
        "readers": count,
        "mb_each": (most - before) / count / 1e6,
        "mb_of_stream": len(PAUSES[LONG]) * len(PIECE) / 1e6,
    }


async def dropped(url: str, address: str, count: int) -> dict[str, float]:
    """Seconds until no job of a client that has gone runs or waits any more."""
    chance, connection = random.Random(0), Redis.from_url(url)  # noqa: S311 - moments

    async def drop() -> None:
        _, writer = await ask(address, SHORT)
        await asyncio.sleep(chance.uniform(0, 0.9))
        writer.transport.abort()

    for _ in range(0, count, 50):
        await asyncio.gather(*(drop() for _ in range(50)))
    begin = time.perf_counter()
    while jobs := connection.zcard(f"rq:wip:{QUEUE}") + connection.llen(f"rq:queue:{QUEUE}"):
        if time.perf_counter() - begin > 30:
            raise RuntimeError(f"{jobs} jobs still run")
        await asyncio.sleep(0.01)
    return {"connections": count, "until_none_runs_s": time.perf_counter() - begin}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("httpapi", __doc__)
    add, whole = parser.add_argument, at_least(1)
    add("--lone", type=whole, default=50, help="streams one after another, each way")
    add("--together", type=whole, default=200, help="streams that begin at once")
    add("--slow", type=whole, default=50, help="readers that take nothing")
    add("--dropped", type=whole, default=1000, help="connections that are dropped")
    options = parser.parse_args(arguments)
    about = machine()
    print(told(about))
    with embedded_redis() as url:
        worker, pipe = start(speak, url, QUEUE, ROWS, None)
        pipe.recv()
        with gateway(url) as (address, process):
            found: dict[str, Any] = {"lone": lone(url, address, options.lone)}
            print(f"lone, first audio in ms: {found['lone']}")
            found["slow"] = asyncio.run(slow(address, process, options.slow))
            print(f"slow readers: {found['slow']}")
            for name, within in (("open", 2.0), ("together", 0.0)):
                found[name] = asyncio.run(crowd(url, address, options.together, within))
                print(f"{options.together} within {within:g} s, first audio in ms: {found[name]}")
            found["dropped"] = asyncio.run(dropped(url, address, options.dropped))
            print(f"dropped: {found['dropped']}")
        worker.kill()
        worker.join()
    print(json.dumps({**vars(options), "machine": about, **found}))
    return 0
