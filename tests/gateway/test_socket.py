"""Texts in pieces over a WebSocket: spoken from the first sentence on, in one voice, and cancelled at any time."""

import asyncio
import hashlib
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bench.httpapi import ENDLESS, LONG, SHORT
from gateways import jobs, paced, serving
from rwkv_tts import TTSClient
from rwkv_tts.keys import AUDIO_PREFIX, CHUNKS_PREFIX
from waiting import until

PATH = "/v1/audio/speech/stream"
VOICE: dict[str, Any] = {"voice": "onyx", "max_seconds": 0.4, "seed": 5, "temperature": 5, "top_p": 1, "top_k": 0}
"""Practically never ends before its time, whatever the seed."""

BYTES = 2 * 24_000
"""Of a second."""


class Agent:
    """The client's end of a connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, kind: str, line: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": kind, "id": line, **fields}))

    def hear(self) -> bytes | dict[str, Any]:
        message = self.connection.recv(timeout=30)
        return message if isinstance(message, bytes) else dict(json.loads(message))

    def until(self, kind: str) -> tuple[dict[str, Any], bytes, list[dict[str, Any]]]:
        """The next message of a type, the audio before it, and the other messages."""
        audio, others = b"", list[dict[str, Any]]()
        while True:
            heard = self.hear()
            if isinstance(heard, bytes):
                audio += heard
            elif heard["type"] == kind:
                return heard, audio, others
            else:
                assert heard["type"] != "error", heard
                others.append(heard)

    def utter(
        self, line: str, pieces: list[str], **fields: Any
    ) -> tuple[dict[str, Any], bytes, list[dict[str, Any]]]:
        """Have a text spoken."""
        self.say("start", line, **{**VOICE, **fields})
        for piece in pieces:
            self.say("text", line, text=piece)
        self.say("end", line)
        return self.until("done")


@contextmanager
def agent(url: str, **options: Any) -> Iterator[Agent]:
    with connect(url.replace("http", "ws", 1) + PATH, **options) as connection:
        yield Agent(connection)


def test_it_speaks_the_first_sentence_before_the_second_has_come(url: str) -> None:
    with agent(url) as one:
        one.say("start", "a", **VOICE)
        for piece in ("Hello", " there. How", " are"):
            one.say("text", "a", text=piece)
        first, audio, (started, begun) = one.until("spoken")
        assert started == {
            "type": "started", "id": "a", "format": "pcm", "media_type": "audio/pcm", "sample_rate": 24_000,
            "seed": 5,
        }  # fmt: skip
        assert begun == {"type": "sentence", "id": "a", "text": [0, 12], "begin": 0}
        assert len(audio) == 0.4 * BYTES
        one.say("text", "a", text=" you?\n\nFine")
        second, more, (begun,) = one.until("spoken")
        assert (second["text"], begun["begin"]) == ([13, 25], 0.75)
        one.say("end", "a")
        done, rest, others = one.until("done")
        assert [other["text"] for other in others] == [[27, 31], [27, 31]]
    assert first["end"] <= 0.4 < 0.75 <= second["begin"] < second["end"] <= 1.15
    assert done["seconds"] * BYTES == len(audio + more + rest) == (3 * 0.4 + 0.35 + 0.7) * BYTES
    assert done["usage"]["input_tokens"] == 31


def test_all_sentences_have_the_voice_that_the_first_was_given(url: str, worker: TTSClient) -> None:
    with agent(url) as one:
        _, heard, _ = one.utter("a", ["One. Two."])
    fields: dict[str, Any] = {"gender": "male", "pitch": "low_pitch", "age": "elderly"}
    fields |= {name: value for name, value in VOICE.items() if name != "voice"} | {
        "format": "pcm",
        "sample_rate": 24_000,
    }
    first = worker.submit("One.", **fields)
    audio = worker.result(first).audio
    fields |= {"emotion": "neutral", "speed": "medium", "max_seconds": 0.75}
    second = worker.submit("[pause:0.35s] Two.", voice=f"job:{first}", **fields)
    assert alike(heard, audio + worker.result(second).audio)
    other = worker.submit("[pause:0.35s] Two.", **fields)
    assert not alike(heard, audio + worker.result(other).audio)


def alike(one: bytes, other: bytes) -> bool:
    """Whether audio is the same but for rounding."""
    samples, others = (np.frombuffer(content, "<i2").astype(int) for content in (one, other))
    return len(samples) == len(others) and abs(samples - others).max() < 20


@pytest.mark.parametrize("voice", ["onyx", "first"])
def test_a_text_sounds_the_same_however_it_comes(url: str, worker: TTSClient, voice: str) -> None:
    text = "Hello there. 你好。再见！ Bye."
    before = kept(worker.connection)
    with agent(url) as one:
        done, audio, told = one.utter("a", [text], voice=voice)
        again, letters, others = one.utter("a", list(text), voice=voice)
    assert (done, told) == (again, others)
    assert alike(audio, letters)
    until(lambda: kept(worker.connection) <= before)  # of which some may expire meanwhile


def kept(connection: Redis) -> set[Any]:
    """What is there of the audio of jobs."""
    return {key for prefix in (AUDIO_PREFIX, CHUNKS_PREFIX) for key in connection.scan_iter(f"{prefix}*")}


def test_other_formats_come_as_a_file_a_sentence(url: str) -> None:
    with agent(url) as one:
        one.say("start", "a", **VOICE, response_format="flac")
        one.say("text", "a", text="One. Two.")
        one.say("end", "a")
        files = [one.until("spoken")[1] for _ in range(2)]
    assert all(content.startswith(b"fLaC") for content in files)


def test_the_agent_of_the_page_speaks(url: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text(encoding="utf-8")
    code = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "websockets" in code)
    names, heard = dict[str, Any](), list[bytes]()

    async def words() -> AsyncIterator[str]:
        for word in ("One.", " Two.", " "):
            yield word

    exec(code.replace("ws://127.0.0.1:8000", url.replace("http", "ws", 1)), names)  # noqa: S102 - our own page
    asyncio.run(names["speak"](words(), heard.append))
    assert heard


def test_flush_ends_a_sentence(url: str) -> None:
    with agent(url) as one:
        one.say("start", "a", **VOICE)
        one.say("text", "a", text="Let me see", flush=True)
        assert one.until("spoken")[0]["text"] == [0, 10]
        one.say("text", "a", text=" the")
        one.say("end", "a")
        assert one.until("spoken")[0]["text"] == [11, 14]


def test_utterances_are_spoken_in_order_and_one_that_waits_can_be_cancelled(url: str) -> None:
    with agent(url) as one:
        for line in "abc":
            one.say("start", line, **VOICE)
            one.say("text", line, text=f"Number {line}.")
        one.say("cancel", "b")
        assert one.until("done")[0] == {"type": "done", "id": "b", "cancelled": True}
        one.say("end", "c")
        one.say("end", "a")
        assert [one.until("done")[0]["id"] for _ in range(2)] == ["a", "c"]


@pytest.mark.parametrize(
    ("message", "param", "told"),
    [
        ("{", None, "message: accepted: a text with a JSON object"),
        (b"{}", None, "message: accepted: a text with a JSON object"),
        ({"type": "stop", "id": "a"}, "type", "type: accepted: one of start, text, end, cancel"),
        ({"type": "start"}, "id", "id: accepted: a text of 1 to 64"),
        ({"type": "start", "id": "taken"}, "id", "id: there is an utterance 'taken'"),
        ({"type": "text", "id": "nobody", "text": "x"}, "id", "id: no utterance 'nobody'"),
        ({"type": "text", "id": "taken"}, "text", "text: accepted"),
        ({"type": "text", "id": "taken", "text": "x", "flush": 1}, "flush", "flush: accepted"),
        ({"type": "text", "id": "taken", "text": 100_001 * "x"}, "text", "text: too long; accepted: up to 100000"),
        ({"type": "start", "id": "a", "input": "x"}, "input", "input: not here"),
        ({"type": "start", "id": "a", "emotoin": "sad"}, "emotoin", "emotoin: unknown field; did you mean"),
        ({"type": "start", "id": "a", "response_format": "mp4"}, "response_format", "response_format: 'mp4'"),
    ],
)
def test_a_message_that_is_refused_is_told_in_a_line_and_changes_nothing(
    url: str, message: Any, param: str | None, told: str
) -> None:
    with agent(url) as one:
        one.say("start", "taken", **VOICE)
        one.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))
        error, _, _ = one.until("error")
        assert "id" not in error
        assert error["error"]["param"] == param
        assert error["error"]["message"].startswith(told)
        one.say("text", "taken", text="Hello.")
        one.say("end", "taken")
        assert one.until("done")[0]["seconds"] == 0.4


@pytest.mark.parametrize(("fields", "text"), [({"voice": "nobody"}, "Hello."), ({}, "Hello \ud800.")])
def test_an_utterance_that_fails_leaves_the_others(url: str, fields: dict[str, Any], text: str) -> None:
    with agent(url) as one:
        one.say("start", "a", **{**VOICE, **fields})
        one.say("text", "a", text=text)
        one.say("end", "a")
        error, _, _ = one.until("error")
        assert (error["id"], error["error"]["type"]) == ("a", "invalid_request_error")
        assert one.utter("a", ["Hello."])[0]["seconds"] == 0.4


def test_only_who_has_a_key_may_speak(redis_url: str, worker: TTSClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"shop {hashlib.sha256(b'rt-a-key').hexdigest()}\n")
    with serving(redis_url, queue=worker.queue, keys=keys) as url:
        for options in ({}, {"subprotocols": ["rwkv-tts", "key.rt-another"]}):
            with pytest.raises(InvalidStatus) as refused, agent(url, **options):
                pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"
        with agent(url, additional_headers={"authorization": "Bearer rt-a-key"}) as one:
            assert one.utter("a", ["Hello."])[0]["seconds"] == 0.4
        with agent(url, subprotocols=["rwkv-tts", "key.rt-a-key"]) as one:
            assert one.connection.subprotocol == "rwkv-tts"
            assert one.utter("a", ["Hello."])[0]["seconds"] == 0.4


def test_pages_of_other_sites_may_not(url: str) -> None:
    with pytest.raises(InvalidStatus) as refused, agent(url, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403


def test_without_a_worker_an_utterance_fails(redis_url: str, deserted: str) -> None:
    with serving(redis_url, queue=deserted) as url, agent(url) as one:
        one.say("start", "a")
        one.say("text", "a", text="Hello. ")
        one.say("end", "a")
        assert one.until("error")[0]["error"]["code"] == "no_worker"


def test_a_connection_has_limits(redis_url: str, worker: TTSClient) -> None:
    with serving(redis_url, queue=worker.queue, idle_timeout=0.5) as url, agent(url) as one:
        one.say("start", "a", **VOICE)
        closed(one, 1001)
    with serving(redis_url, queue=worker.queue, max_body_bytes=2048, max_concurrent=1) as url:
        with agent(url) as one:
            one.say("text", "a", text=4000 * "x")
            closed(one, 1009)
        with agent(url) as one, agent(url) as other:
            one.say("start", "a", **VOICE)
            one.until("started")
            other.say("start", "a", **VOICE)
            assert other.until("error")[0]["error"]["code"] == "rate_limit_exceeded"
            for number in range(17):
                one.say("start", str(number))
            assert one.until("error")[0]["error"]["code"] == "too_many_utterances"


def closed(one: Agent, code: int) -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionClosed) as raised:
        one.until("the end")
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == code
    assert time.monotonic() - begin < 10


@pytest.fixture(scope="module")
def queue(redis_url: str) -> Iterator[str]:
    with paced(redis_url) as queue:
        yield queue


def speak(one: Agent, line: str, text: str) -> None:
    one.say("start", line, response_format="pcm", voice="any")
    one.say("text", line, text=text)
    one.say("end", line)


def reset(one: Agent) -> None:
    """Break a connection off, as the end of a process does."""
    one.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.connection.socket.shutdown(socket.SHUT_RD)
    one.connection.socket.close()


@pytest.mark.parametrize("way", ["cancel", "close", "abort"])
def test_what_is_cancelled_leaves_no_job(redis_url: str, queue: str, connection: Redis, way: str) -> None:
    with serving(redis_url, queue=queue) as url, agent(url) as one:
        for line in "ab":
            speak(one, line, ENDLESS)
        assert isinstance([one.hear() for _ in range(3)][-1], bytes)
        if way == "cancel":
            for line in "ba":
                one.say("cancel", line)
            assert [one.until("done")[0]["id"] for _ in "ba"] == ["b", "a"]
        elif way == "close":
            one.connection.close()
        else:
            reset(one)
        until(lambda: not jobs(connection, queue), timeout=10)
        if way == "cancel":
            speak(one, "c", SHORT)
            assert len(one.until("done")[1]) == BYTES


def test_a_reader_that_takes_nothing_holds_little(redis_url: str, queue: str) -> None:
    with serving(redis_url, queue=queue) as url:
        agents = [agent(url, max_queue=1) for _ in range(10)]
        ends = [one.__enter__() for one in agents]
        process = psutil.Process()
        before = most = process.memory_info().rss
        for one in ends:
            speak(one, "a", LONG)
        for _ in range(20):
            time.sleep(0.1)
            most = max(most, process.memory_info().rss)
        for one in ends:
            reset(one)
        assert (most - before) / len(ends) < 1_000_000
