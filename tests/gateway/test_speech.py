"""Speech over HTTP, as OpenAI's own client asks for it."""

import base64
import io
import json
import wave
from typing import Any

import httpx
import pytest
from openai import OpenAI

from gateway.orders import MEDIA_TYPES, parse_order
from gateway.settings import ALIASES
from rwkv_tts import TTSClient
from rwkv_tts.attributes import Attributes
from rwkv_tts.schema import FORMATS
from waiting import until

SHORT: dict[str, Any] = {"max_seconds": 0.4, "seed": 5, "temperature": 5, "top_p": 1, "top_k": 0}
"""Practically never ends before its time, whatever the seed."""

STARTS = {
    "mp3": (b"\xff", b"ID3"),
    "opus": b"OggS",
    "ogg": b"OggS",
    "aac": b"\xff",
    "flac": b"fLaC",
    "wav": b"RIFF",
    "pcm": None,
}


def test_whole_streamed_and_by_events_are_one_file(openai: OpenAI, http: httpx.Client) -> None:
    request: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "flac"}
    whole = openai.audio.speech.create(**request, extra_body=SHORT).content
    with openai.audio.speech.with_streaming_response.create(**request, extra_body=SHORT) as answer:
        assert answer.headers["content-type"] == "audio/flac"
        assert answer.headers["transfer-encoding"] == "chunked"
        streamed = b"".join(answer.iter_bytes())
    told = http.post("/v1/audio/speech", json={**request, **SHORT, "stream_format": "sse"}).text
    events = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line]
    assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:-1]) == streamed == whole
    assert events[-1]["type"] == "speech.audio.done"
    usage = events[-1]["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]


def test_a_wav_knows_its_length_unless_it_is_sent_while_it_is_made(openai: OpenAI) -> None:
    request: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "wav"}
    whole = openai.audio.speech.create(**request, extra_body=SHORT).content
    with wave.open(io.BytesIO(whole)) as audio:
        assert audio.getnframes() == 0.4 * audio.getframerate()
    streamed = openai.audio.speech.create(**request, stream_format="audio", extra_body=SHORT).content
    assert streamed[4:8] == b"\xff\xff\xff\xff"
    assert len(streamed) == len(whole)


@pytest.mark.usefixtures("openai")
def test_nothing_of_a_request_stays(http: httpx.Client, worker: TTSClient) -> None:
    before = set(worker.connection.keys())
    for more in ({}, {"response_format": "wav"}):
        assert http.post("/v1/audio/speech", json={"input": "Hello.", **SHORT, **more}).status_code == 200

    def left() -> list[Any]:
        more = set(worker.connection.keys()) - before
        return [key for key in more if b"chunks" in key or b"audio" in key or b":job:" in key]

    until(lambda: not left())


@pytest.mark.parametrize("audio_format", FORMATS)
def test_every_format_has_openais_type_and_is_one_of_it(openai: OpenAI, audio_format: Any) -> None:
    request: dict[str, Any] = {"model": "tts-1", "voice": "nova", "input": "Hello.", "extra_body": SHORT}
    answer = openai.audio.speech.create(**request, response_format=audio_format)
    content = answer.content
    assert answer.response.headers["content-type"] == MEDIA_TYPES[audio_format]
    assert STARTS[audio_format] is None or content.startswith(STARTS[audio_format] or ())
    if audio_format == "pcm":
        assert len(content) == 2 * 0.4 * 24_000


def test_fields_of_openai_become_those_of_a_request(http: httpx.Client) -> None:
    body: dict[str, Any] = {
        "input": "Hello.",
        "voice": "onyx",
        "speed": 1.5,
        "instructions": "In a whisper, please.",
    }
    order = parse_order(body, ALIASES)
    assert order.request.attributes() == Attributes("elderly", "male", "whisper", "low_pitch", "fast")
    assert (order.request.format, order.stream_format, order.request.text) == ("mp3", "audio", "Hello.")
    stored = parse_order({"input": "Hello.", "voice": {"id": "anna"}, "speed": 1.0}, ALIASES).request
    assert (stored.voice, stored.attributes()) == ("anna", None)
    whole = parse_order({"input": "Hello.", "stream": False, "emotion": "sad", "instructions": "happy"}, {})
    assert (whole.stream_format, whole.request.emotion) == (None, "sad")


@pytest.mark.parametrize(
    ("speed", "level"),
    [(0.25, "very_slow"), (0.61, "very_slow"), (0.62, "slow"), (0.86, "slow"), (0.87, "medium"), (1.22, "medium"),
     (1.23, "fast"), (1.73, "fast"), (1.74, "very_fast"), (4, "very_fast"), ("slow", "slow")],
)  # fmt: skip
def test_a_speed_becomes_the_nearest_level(speed: Any, level: str) -> None:
    assert parse_order({"input": "Hello.", "speed": speed}, {}).request.speed == level


def test_less_than_a_token_of_audio_is_a_little_audio(http: httpx.Client) -> None:
    answer = http.post("/v1/audio/speech", json={"input": "Hello.", "max_seconds": 1e-9, "response_format": "wav"})
    assert answer.status_code == 200
