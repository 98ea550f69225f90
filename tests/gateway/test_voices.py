"""Voices over HTTP: who is listed where, and cloning by those who may."""

import hashlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.settings import ALIASES
from gateways import serving
from recordings import recording
from rwkv_tts import TTSClient

SHORT: dict[str, Any] = {"input": "Hello.", "max_seconds": 0.2}


def form(**changes: str | None) -> dict[str, str]:
    fields = {"name": f"anna-{uuid4().hex}", "consent": "true", "transcript": "One two three.", **changes}
    return {name: value for name, value in fields.items() if value is not None}


FILES = {"recording": ("anna.flac", recording(1))}


def test_a_voice_is_cloned_spoken_with_listed_and_removed(http: httpx.Client, worker: TTSClient) -> None:
    fields = form()
    made = http.post("/v1/voices", data=fields, files=FILES)
    assert made.status_code == 201, made.text
    voice = made.json()
    assert (voice["id"], voice["transcript"]) == (fields["name"], "One two three.")
    assert voice in http.get("/v1/voices").json()["data"]
    assert {"id": voice["id"], "name": voice["id"]} in http.get("/audio/voices").json()["voices"]
    for spoken in (voice["id"], {"id": voice["id"]}):
        assert http.post("/v1/audio/speech", json={**SHORT, "voice": spoken}).status_code == 200
    assert http.delete(f"/v1/voices/{voice['id']}").json()["deleted"] is True
    assert http.delete(f"/v1/voices/{voice['id']}").status_code == 404
    assert voice["id"] not in worker.voices.ids()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"consent": None}, "consent"),
        ({"consent": "no"}, "consent"),
        ({"name": "alloy"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": None}, "name"),
        ({"transcript": " "}, "reference_text"),
        ({"nmae": "x"}, "nmae"),
    ],
)
def test_a_form_is_refused_in_a_line(http: httpx.Client, changes: dict[str, str | None], param: str) -> None:
    answer = http.post("/v1/voices", data=form(**changes), files=FILES)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in (param, "recording")
    assert "accepted" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--\r\n"])
def test_a_form_that_is_none_is_refused(http: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert http.post("/v1/voices", content=body, headers=headers).status_code == 400


def test_a_recording_that_is_none_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/voices", data=form(), files={"recording": b"not audio"})
    assert answer.status_code == 400
    assert "reference" in answer.json()["error"]["message"]


def test_a_key_without_the_right_may_speak_only(redis_url: str, worker: TTSClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    lines = [
        f"{name} {hashlib.sha256(name.encode()).hexdigest()}{right}"
        for name, right in (("shop", ""), ("studio", " voices"))
    ]
    keys.write_text("\n".join(lines))
    with serving(redis_url, queue=worker.queue, keys=keys) as url:
        statuses = {}
        for name in ("shop", "studio"):
            headers = {"authorization": f"Bearer {name}"}
            answer = httpx.post(f"{url}/v1/voices", data=form(), files=FILES, headers=headers, timeout=30)
            statuses[name] = answer.status_code
    assert statuses == {"shop": 403, "studio": 201}


def test_the_names_of_openai_and_the_models_own_are_listed(http: httpx.Client) -> None:
    listed = [voice["id"] for voice in http.get("/v1/audio/voices").json()["voices"]]
    assert listed[: len(ALIASES)] == list(ALIASES)
    answer = http.get("/v1/audio/models").json()
    assert answer["models"] == answer["data"]
    assert http.get("/v1/models/tts-1").json()["id"] == "tts-1"
    assert http.get("/v1/models/gpt-9").status_code == 404
