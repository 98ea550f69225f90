"""Wyoming as Home Assistant speaks it, by the client of its own library."""

import asyncio
import json
import socket
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psutil
import pytest
from redis import Redis
from wyoming.audio import AudioChunk, AudioStart
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from bench.httpapi import ENDLESS, LONG, TALK
from gateways import jobs, paced, serving
from rwkv_tts import TTSClient
from waiting import until

FLAT = {"flat": {"max_seconds": 0.4, "seed": 5, "temperature": 5, "top_p": 1, "top_k": 0, "gender": "male"}}
"""Practically never ends before its time."""

VOICE = SynthesizeVoice(name="flat")


@contextmanager
def talking(redis_url: str, queue: str, **settings: Any) -> Iterator[int]:
    """A gateway that speaks Wyoming; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with serving(redis_url, queue=queue, wyoming=f"tcp://127.0.0.1:{port}", **settings):
        yield port


@pytest.fixture(scope="module")
def port(redis_url: str, worker: TTSClient) -> Iterator[int]:
    with talking(redis_url, worker.queue, aliases=FLAT) as port:
        yield port


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


async def heard(client: AsyncTcpClient, last: str) -> list[Event]:
    """The events up to the last one of a type, or to the end."""
    events = []
    while (event := await client.read_event()) is not None:
        events.append(event)
        if event.type == last:
            break
    return events


def audio(events: list[Event]) -> bytes:
    return b"".join(event.payload or b"" for event in events if AudioChunk.is_type(event.type))


def test_it_describes_its_voices_and_their_languages(port: int) -> None:
    async def ask() -> Info:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            return Info.from_event(event)

    info = run(ask())
    (program,) = info.tts
    assert program.supports_synthesize_streaming
    assert [voice.name for voice in program.voices][:2] == ["flat", "first"]
    assert all(voice.languages == ["en", "zh"] for voice in program.voices)


def test_a_text_is_spoken_whole_or_as_it_comes_and_both_are_one(port: int) -> None:
    async def speak() -> tuple[list[Event], list[Event]]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Synthesize("Hello there. 你好。", voice=VOICE).event())
            whole = await heard(client, "audio-stop")
            await client.write_event(SynthesizeStart(voice=VOICE).event())
            for piece in ("Hello", " there", ". ", "你好"):
                await client.write_event(SynthesizeChunk(piece).event())
            begun = [await client.read_event() for _ in range(2)]  # before the end of the text has come
            await client.write_event(SynthesizeChunk("。").event())
            await client.write_event(Synthesize("Hello there. 你好。", voice=VOICE).event())  # for older servers
            await client.write_event(SynthesizeStop().event())
            return whole, [one for one in begun if one] + await heard(client, "synthesize-stopped")

    whole, streamed = run(speak())
    kinds = [event.type for event in streamed]
    assert (kinds[0], kinds[-2:]) == ("audio-start", ["audio-stop", "synthesize-stopped"])
    assert set(kinds[1:-2]) == {"audio-chunk"}
    assert AudioStart.from_event(streamed[0]) == AudioStart(24_000, 2, 1, timestamp=0)
    assert AudioChunk.from_event(streamed[-3]).timestamp == pytest.approx(1150, abs=400)
    assert len(audio(whole)) == len(audio(streamed)) == 55_200  # 1.15 s


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (Synthesize("Hello.", voice=SynthesizeVoice(name="nobody")).event(), "voice: unknown voice 'nobody'"),
        (Event("synthesize", {"text": 1}), "text: accepted"),
        (Event("synthesize", {"text": "x", "voice": {"name": 3}}), "voice: accepted"),
        (Event("synthesize", {"text": 100_001 * "x"}), "text: too long"),
    ],
)
def test_what_is_wrong_is_an_event_and_the_end(port: int, sent: Event, text: str) -> None:
    async def ask() -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(sent)
            return await heard(client, "never")

    error = run(ask())[-1]
    assert error.type == "error"
    assert error.data["text"].startswith(text)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b"{" * 60_000 + b"\n",
        70_000 * b"x",
        b'{"type": "describe", "data_length": 10000000000}\n',
        b'{"type": "describe", "payload_length": "x"}\n',
        b'{"type": "describe", "data_length": 2}\n[]',
    ],
)
def test_what_is_no_event_is_refused_and_takes_no_memory(port: int, sent: bytes) -> None:
    before = psutil.Process().memory_info().rss
    with closing(socket.create_connection(("127.0.0.1", port))) as raw:
        raw.settimeout(30)
        raw.sendall(sent)
        told = b""
        while piece := raw.recv(65536):
            told += piece
    assert b'"event: ' in told
    assert psutil.Process().memory_info().rss - before < 20 << 20


def test_a_connection_that_says_nothing_is_closed(redis_url: str, worker: TTSClient) -> None:
    with (
        talking(redis_url, worker.queue, idle_timeout=0.3) as port,
        closing(socket.create_connection(("127.0.0.1", port))) as raw,
    ):
        raw.settimeout(30)
        assert raw.recv(1) == b""


def test_whoever_is_spoken_to_is_not_idle(redis_url: str) -> None:
    async def listen(port: int) -> list[Event]:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Synthesize(TALK).event())
            return await heard(client, "audio-stop")

    with paced(redis_url) as queue, talking(redis_url, queue, idle_timeout=2.8) as port:
        begin = time.monotonic()
        assert run(listen(port))[-1].type == "audio-stop"
        assert time.monotonic() - begin > 2.8


@pytest.mark.slow
def test_whoever_goes_away_or_reads_nothing_leaves_no_job_and_holds_little(
    redis_url: str, connection: Redis
) -> None:
    with paced(redis_url) as queue, talking(redis_url, queue) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(json.dumps({"type": "synthesize", "data": {"text": ENDLESS}}).encode() + b"\n")
        assert client.recv(100)
        until(lambda: jobs(connection, queue))
        client.close()
        until(lambda: not jobs(connection, queue), timeout=10)
        before = most = psutil.Process().memory_info().rss
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for one in idle:
            one.sendall(json.dumps({"type": "synthesize", "data": {"text": LONG}}).encode() + b"\n")
        for _ in range(15):
            time.sleep(0.1)
            most = max(most, psutil.Process().memory_info().rss)
        for one in idle:
            one.close()
        assert (most - before) / len(idle) < 1_000_000
