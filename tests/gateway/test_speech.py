"""Speech over HTTP, as OpenAI's own client asks for it."""

import base64
import io
import json
import wave
from typing import Any

import httpx
import pytest
from openai import OpenAI

from rwkv_tts import TTSClient

SHORT: dict[str, Any] = {"max_seconds": 0.4, "seed": 5, "temperature": 5, "top_p": 1, "top_k": 0}
"""Practically never ends before its time, whatever the seed."""


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
    left = {key for key in set(worker.connection.keys()) - before if b":lease:" not in key}
    assert not [key for key in left if b"chunks" in key or b"audio" in key or b":job:" in key]
