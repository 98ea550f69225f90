"""Each error is the exception of OpenAI's client that its users know, with one line that says what is accepted."""

import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI

from gateways import serving
from rwkv_tts import TTSClient

SPEECH = "/v1/audio/speech"
HELLO: dict[str, Any] = {"input": "Hello.", "max_seconds": 0.2, "seed": 1}
KEY = "rt-a-key-of-a-test"


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"input": " "}, "input", "input: nothing but blanks; accepted: text to speak"),
        ({"input": None}, "input", "input: missing; accepted"),
        ({"response_format": "mp4"}, "response_format", "response_format: 'mp4'; accepted: one of wav,"),
        ({"speed": 5}, "speed", "speed: accepted: a number from 0.25 to 4, or one of very_slow,"),
        ({"speed": True}, "speed", "speed: accepted"),
        ({"voice": 3}, "voice", "voice: accepted"),
        ({"voice": "nobody"}, "voice", "voice: unknown voice 'nobody'; accepted: "),
        (
            {"stream_format": "websocket"},
            "stream_format",
            "stream_format: 'websocket'; accepted: one of audio, sse",
        ),
        ({"seed": -1}, "seed", "seed: .*accepted: an integer from 0"),
        ({"emotoin": "happy"}, "emotoin", "emotoin: unknown field; did you mean emotion?"),
        ({"text": "Hello."}, "text", "text: unknown field; did you mean input?"),
        ({"reference": "!"}, "reference", "reference: not base64; accepted"),
        ({"instructions": 1}, "instructions", "instructions: accepted: text"),
        ({"instructions": "whisper", "response_format": "wav", "voice": "nobody"}, "voice", "voice: unknown"),
    ],
)
def test_a_bad_request_is_told_in_a_line(
    http: httpx.Client, more: dict[str, Any], param: str, message: str
) -> None:
    answer = http.post(SPEECH, json={**HELLO, **more})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert re.match(message.replace("?", r"\?"), error["message"])
    assert "\n" not in error["message"]
    assert answer.headers["x-request-id"]


def test_other_clients_fields_are_ignored(http: httpx.Client) -> None:
    assert (
        http.post(SPEECH, json={**HELLO, "user": "x", "lang_code": "a", "volume_multiplier": 1}).status_code == 200
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"input": NaN}'])
def test_what_is_no_json_object_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post(SPEECH, content=body)
    assert answer.status_code == 400
    assert "accepted" in answer.json()["error"]["message"]


def test_paths_and_methods_that_there_are_not(openai: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(sdk.NotFoundError):
        openai.chat.completions.create(model="x", messages=[])
    answer = http.get(SPEECH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_openais_client_raises_a_bad_request(openai: OpenAI) -> None:
    with pytest.raises(sdk.BadRequestError) as raised:
        openai.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
    assert raised.value.param == "voice"
    assert raised.value.request_id


def test_only_who_has_a_key_may_speak(redis_url: str, worker: TTSClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# of the test\nshop {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    request: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "extra_body": HELLO}
    with serving(redis_url, queue=worker.queue, keys=keys) as url:
        with (
            OpenAI(base_url=f"{url}/v1", api_key="rt-another", max_retries=0) as client,
            pytest.raises(sdk.AuthenticationError, match="wrong API key"),
        ):
            client.audio.speech.create(**request)
        assert httpx.post(f"{url}{SPEECH}", json=HELLO).headers["www-authenticate"] == "Bearer"
        with OpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            assert client.audio.speech.create(**request).content
        assert httpx.get(f"{url}/v1/audio/voices").status_code == 200  # as Open WebUI asks
        assert httpx.get(f"{url}/v1/status").status_code == 401


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"host": "evil.example", "origin": "http://evil.example"}]
)
def test_without_keys_pages_of_other_sites_may_not(http: httpx.Client, headers: dict[str, str]) -> None:
    answer = http.post(SPEECH, json=HELLO, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_without_a_worker_it_is_unavailable(redis_url: str, deserted: str) -> None:
    with (
        serving(redis_url, queue=deserted) as url,
        OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        with pytest.raises(sdk.InternalServerError, match="no worker") as raised:
            client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.")
        assert raised.value.status_code == 503
        assert raised.value.code == "no_worker"
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_without_redis_it_is_unavailable_and_says_nothing_of_it(tmp_path: Path) -> None:
    with serving(f"unix://{tmp_path}/nowhere.sock") as url:
        answer = httpx.post(f"{url}{SPEECH}", json=HELLO)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_unavailable")
    assert str(tmp_path) not in answer.text
