"""Audio outside Redis, in a folder: what goes in comes out, and nothing else is ever touched."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import JobStatus
from rq.queue import Queue
from rq.results import Result

from rwkv_tts.audio_store import AudioStore, NotStoredError, StoreError, check_results, new_name
from rwkv_tts.client import TTSClient
from rwkv_tts.results import fetch_job


def test_audio_comes_back_until_it_is_deleted(tmp_path: Path) -> None:
    store = AudioStore(f"file://{tmp_path}/")
    names = [new_name("a-job", "wav"), new_name("a-job", "mp3")]
    for name in names:
        store.put(name, name.encode())
    addresses = [store.address(name) for name in names]

    assert [store.get(address) for address in addresses] == [name.encode() for name in names]
    assert {(stored.name, stored.job_id) for page in store.pages() for stored in page} == {
        (name, "a-job") for name in names
    }
    store.delete([addresses[0], store.address(new_name("gone", "wav")), addresses[1]])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotStoredError):
        store.get(addresses[0])


HOSTILE = (
    "file:///etc/passwd",
    "{url}/../secret-0123456789abcdef0123456789abcdef.wav",
    "{url}/%2e%2e/secret-0123456789abcdef0123456789abcdef.wav",
    "{url}/..%2fsecret-0123456789abcdef0123456789abcdef.wav",
    "{url}/deeper/secret-0123456789abcdef0123456789abcdef.wav",
    "{url}/secret",
    "{url}",
    "s3://bucket/secret-0123456789abcdef0123456789abcdef.wav",
    "secret-0123456789abcdef0123456789abcdef.wav",
    "",
)


@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_leads_nowhere_else(address: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    secrets = [tmp_path / where / "secret-0123456789abcdef0123456789abcdef.wav" for where in (".", "in/deeper")]
    for secret in [*secrets, tmp_path / "in" / "secret"]:
        secret.write_text("secret")
    store = AudioStore(f"file://{tmp_path}/in")
    for act in (store.get, lambda one: store.delete([one]), lambda one: store.sign(one, 60)):
        with pytest.raises(StoreError, match="is not in this store; accepted: file://"):
            act(address.format(url=store.url))
    assert all(secret.exists() for secret in secrets)


@pytest.mark.parametrize(
    "url", ["redis", "s3://bucket", "s3://bucket/a/b", "gs://b/c", "az://box/x", "file:///var/audio"]
)
def test_places_for_results(url: str) -> None:
    assert check_results(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "Redis", "http://x/y", "s3://", "s3:///a", "file://host/a", "file:///", "/var/audio"),
        *("s3://b/../c", "file:///a/%2e%2e/b", "s3://key:secret@bucket/a", "s3://bucket/a?endpoint=x", "s3://b#c"),
    ],
)
def test_no_places_for_results(url: str) -> None:
    with pytest.raises(ValueError, match="accepted: redis, s3://bucket/prefix"):
        check_results(url)


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder") as raised:
        AudioStore(f"file://{tmp_path}/mount")
    assert raised.value.permanent
    assert not (tmp_path / "mount").exists()


@pytest.mark.parametrize("job_id", ["../up", "a/b", "", ".", "a.b", "日本", "x" * 129])
def test_no_job_id_leads_out_of_a_folder(job_id: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="is no name of audio; accepted: JOB-EXECUTION"):
        AudioStore(f"file://{tmp_path}/in").put(new_name(job_id, "wav"), b"audio")
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_what_is_missing_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"^results: .*: obstore is missing: pip install"):
        AudioStore(f"file://{tmp_path}")


class MayNotDelete(BaseHTTPRequestHandler):
    """An S3 whose policy lets us put objects only."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_POST(self) -> None:
        self._answer(403)

    do_DELETE = do_POST  # noqa: N815 - as http.server calls it

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep silent."""


def test_a_store_that_lets_us_put_only_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), MayNotDelete) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {"ENDPOINT": f"http://127.0.0.1:{server.server_port}", "ALLOW_HTTP": "true", "REGION": "here"}
        for name, value in {**variables, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        store = AudioStore("s3://bucket")
        store.check()
        with pytest.raises(StoreError, match="results: s3://bucket: delete: "):
            store.delete([store.address(new_name("job", "wav"))])
        server.shutdown()


def test_a_folder_cannot_sign(tmp_path: Path) -> None:
    store = AudioStore(f"file://{tmp_path}")
    with pytest.raises(StoreError, match="a folder cannot sign URLs; accepted: a store at s3://, gs:// or az://"):
        store.sign(store.address(new_name("a", "wav")), 60)


def submitted(queue: Queue) -> str:
    return TTSClient(queue.connection, queue.name).submit("Hello.")


def finish(queue: Queue, job_id: str, address: str | None) -> None:
    """As a worker that says to have put the audio there."""
    times = dict.fromkeys(("queued", "prefill", "decode", "vocode", "encode", "first_audio", "total"), 0)
    result: dict[str, Any] = {
        "job_id": job_id,
        "audio_key": "",
        "address": address,
        "format": "wav",
        "mode": "voice",
        "sample_rate": 16000,
        "finish_reason": "eos",
        "trace_sha256": "",
        "tokens": {"globals": 0, "semantic": 0},
        "timings": times,
        "warnings": [],
        "metadata": {},
        **dict.fromkeys(("seconds", "seed", "mean_batch", "rtf"), 1),
    }
    job = fetch_job(queue.connection, job_id)
    job.set_status(JobStatus.FINISHED)
    Result.create(job, Result.Type.SUCCESSFUL, 60, return_value=result)


def put(store: AudioStore, job_id: str) -> str:
    name = new_name(job_id, "wav")
    store.put(name, b"audio")
    return store.address(name)


def test_a_client_opens_only_what_it_was_given(queue: Queue, connection: Redis, tmp_path: Path) -> None:
    store = AudioStore(f"file://{tmp_path}")
    there, elsewhere, of_another = (submitted(queue) for _ in range(3))
    finish(queue, there, put(store, there))
    finish(queue, elsewhere, f"file:///etc/{new_name(elsewhere, 'wav')}")
    finish(queue, of_another, put(store, "another"))
    client = TTSClient(connection, queue.name, results=store.url)

    assert client.result(there, timeout=1).audio == b"audio"
    with pytest.raises(StoreError, match=r"'file:///etc/.*' is not in this store"):
        client.result(elsewhere, timeout=1)
    with pytest.raises(StoreError, match="is not audio of job"):
        client.result(of_another, timeout=1, keep=False)
    with pytest.raises(StoreError, match="a client that was given results=URL"):
        TTSClient(connection, queue.name).result(there, timeout=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_not_kept_goes_with_its_audio(queue: Queue, connection: Redis, tmp_path: Path) -> None:
    store = AudioStore(f"file://{tmp_path}")
    client = TTSClient(connection, queue.name, results=store.url)
    job_id = submitted(queue)
    finish(queue, job_id, put(store, job_id))
    assert client.result(job_id, timeout=1, keep=False).audio == b"audio"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NoSuchJobError):
        client.result(job_id, timeout=1)


def test_what_has_no_url_says_so(queue: Queue, connection: Redis, tmp_path: Path) -> None:
    client = TTSClient(connection, queue.name, results=f"file://{tmp_path}")
    job_id = submitted(queue)
    with pytest.raises(StoreError, match="has not ended"):
        client.audio_url(job_id)
    finish(queue, job_id, None)
    with pytest.raises(StoreError, match="has its audio in Redis, which has no URLs"):
        client.audio_url(job_id)
