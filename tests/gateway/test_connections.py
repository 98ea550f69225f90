"""What clients may hold, and for how long: those that go away, that are slow, that send too much."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import httpx
import openai as sdk
import psutil
import pytest
from openai import OpenAI
from redis import Redis

from bench.httpapi import ENDLESS, LONG, SHORT, ask
from gateways import jobs, paced, serving
from waiting import until

SPEECH = "/v1/audio/speech"


@pytest.fixture(scope="module")
def queue(redis_url: str) -> Iterator[str]:
    with paced(redis_url) as queue:
        yield queue


@pytest.fixture(scope="module")
def address(redis_url: str, queue: str) -> Iterator[str]:
    with serving(redis_url, queue=queue, read_timeout=1.0, request_timeout=3.0, max_body_bytes=1 << 20) as url:
        yield url


@pytest.mark.parametrize("audio_format", ["pcm", "wav"])
@pytest.mark.parametrize("after", [0.0, 0.02, 0.5])
def test_a_client_that_goes_away_takes_its_job_along(
    address: str, queue: str, connection: Redis, audio_format: str, after: float
) -> None:
    request = {"input": ENDLESS, "response_format": audio_format}
    with httpx.Client(base_url=address) as client, closing(socket.create_connection(place(address))) as raw:
        raw.sendall(post(json.dumps(request).encode()))
        time.sleep(after)
        assert client.get("/healthz").status_code == 200
    until(lambda: gone_for_good(connection, queue), timeout=20)


def gone_for_good(connection: Redis, queue: str) -> bool:
    """Whether there is no job, nor one that was only about to be queued."""
    before = jobs(connection, queue)
    time.sleep(0.3)
    return not before + jobs(connection, queue)


def place(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def post(body: bytes, *more: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"POST {SPEECH} HTTP/1.1", "host: 127.0.0.1", f"content-length: {size}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def test_many_that_go_away_leave_nothing(address: str, queue: str, connection: Redis) -> None:
    async def drop(number: int) -> None:
        _, writer = await ask(address, ENDLESS)
        await asyncio.sleep(0.005 * number)
        writer.transport.abort()

    async def all_of_them() -> None:
        await asyncio.gather(*(drop(number) for number in range(60)))

    asyncio.run(all_of_them())
    until(lambda: gone_for_good(connection, queue), timeout=20)


@pytest.mark.slow
def test_what_takes_too_long_ends(address: str, queue: str, connection: Redis) -> None:
    begin = time.monotonic()
    answer = httpx.post(f"{address}{SPEECH}", json={"input": ENDLESS, "response_format": "wav"}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{address}{SPEECH}", json={"input": ENDLESS, "response_format": "pcm"}, timeout=30)
    told = httpx.post(f"{address}{SPEECH}", json={"input": ENDLESS, "stream_format": "sse"}, timeout=30).text
    assert json.loads(told.strip().splitlines()[-1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert 9 < time.monotonic() - begin < 45
    until(lambda: not jobs(connection, queue), timeout=15)


def test_one_key_has_so_many_turns_and_openais_client_waits_for_one(redis_url: str, queue: str) -> None:
    request = {"input": SHORT, "response_format": "pcm"}
    with serving(redis_url, queue=queue, max_concurrent=1) as url, httpx.Client(base_url=url) as client:
        with client.stream("POST", SPEECH, json={**request, "input": ENDLESS}) as first:
            pieces = first.iter_raw()
            assert next(pieces)
            refused = httpx.post(f"{url}{SPEECH}", json=request)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            with (
                OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as once,
                pytest.raises(sdk.RateLimitError),
            ):
                once.audio.speech.create(model="tts-1", voice="alloy", input=SHORT)
        with ExitStack() as stack:
            answers: list[httpx.Response] = []

            def has_a_turn() -> bool:
                answers.append(stack.enter_context(client.stream("POST", SPEECH, json=request)))
                return answers[-1].status_code == 200

            until(has_a_turn)  # once the gateway has seen that the first has gone
            pieces = answers[-1].iter_raw()
            assert next(pieces)
            with OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=5) as patient:
                assert patient.audio.speech.create(model="tts-1", voice="alloy", input=SHORT).content


@pytest.mark.slow
def test_a_full_queue_says_when_to_come_again(redis_url: str) -> None:
    request = {"input": ENDLESS, "response_format": "pcm"}
    with paced(redis_url, rows=1, max_queue=1) as queue, serving(redis_url, queue=queue) as url:
        answers: list[httpx.Response] = []

        async def crowd() -> None:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                tasks = [asyncio.create_task(client.post(SPEECH, json=request)) for _ in range(6)]
                await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
                done, waiting = await asyncio.wait(tasks, timeout=1)
                answers.extend(task.result() for task in done)
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

        asyncio.run(crowd())
    assert answers
    assert {answer.status_code for answer in answers} == {429}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nhost: x",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /heal",
        post(b'{"input": "Hel', length=100),
    ],
    ids=["nothing", "half a head", "half a second head", "half a body"],
)
def test_what_does_not_come_in_time_is_not_waited_for(address: str, sent: bytes) -> None:
    with closing(socket.create_connection(place(address))) as raw:
        raw.settimeout(30)
        begin = time.monotonic()
        raw.sendall(sent)
        while raw.recv(65536):
            pass
        assert 0.5 < time.monotonic() - begin < 20


def test_drops_of_a_head_do_not_gain_time(address: str) -> None:
    def drip(raw: socket.socket) -> None:
        for letter in "GET /" + 1_000 * "x":
            raw.sendall(letter.encode())
            time.sleep(0.05)

    with closing(socket.create_connection(place(address))) as raw:
        begin = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe
            drip(raw)
        assert time.monotonic() - begin < 20


def test_a_head_has_a_limit(address: str) -> None:
    with closing(socket.create_connection(place(address))) as raw:
        raw.settimeout(10)
        raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + 100_000 * b"x")
        assert raw.recv(65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_hundred_megabytes_are_refused_at_once(address: str, kind: str) -> None:
    block, count = bytes(1 << 20), 100
    before, begin = psutil.Process().memory_info().rss, time.monotonic()
    headers = {"content-length": str(count * len(block))} if kind == "length" else {}
    answer = httpx.post(f"{address}{SPEECH}", content=(block for _ in range(count)), headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_long")
    assert time.monotonic() - begin < 15
    assert psutil.Process().memory_info().rss - before < 20 << 20


def test_a_reader_that_takes_nothing_holds_little(address: str, connection: Redis) -> None:
    async def measure() -> int:
        process, before = psutil.Process(), psutil.Process().memory_info().rss
        asked = [await ask(address, LONG) for _ in range(10)]
        most = 0
        for _ in range(20):
            await asyncio.sleep(0.1)
            most = max(most, process.memory_info().rss - before)
        for _, writer in asked:
            writer.transport.abort()
        return most // len(asked)

    assert asyncio.run(measure()) < 1_000_000
