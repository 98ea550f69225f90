"""Audio on its way to a store that comes and goes: it waits, says so, and gets there."""

import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rwkv_tts.audio_store import AudioStore, StoreError, new_name
from waiting import until
from worker.delivery.uploads import Upload, Uploads, wait_for_store


class Folder:
    """A store whose disk can be taken away: a file is in its place then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.store = AudioStore(f"file://{path}")

    def take_away(self) -> None:
        self.path.rename(self.path.with_suffix(".away"))
        self.path.touch()

    def bring_back(self) -> None:
        self.path.unlink()
        self.path.with_suffix(".away").rename(self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "audio")


@pytest.fixture
def uploads(folder: Folder) -> Iterator[Uploads]:
    uploads = Uploads(folder.store)
    yield uploads
    uploads.close()


def test_it_is_stored_before_the_job_is_told_of(folder: Folder, uploads: Uploads) -> None:
    found: dict[str, bytes] = {}

    def fetch(address: str) -> None:
        found[address] = folder.store.get(address)

    for i in range(30):
        name = new_name(f"job-{i}", "wav")
        uploads.put(Upload(f"job-{i}", name, name.encode(), partial(fetch, folder.store.address(name))))
    until(lambda: len(found) == 30)
    assert all(address.endswith(content.decode()) for address, content in found.items())
    assert uploads.waiting == 0
    assert uploads.trouble is None


def test_results_wait_for_a_store_that_is_away(folder: Folder, uploads: Uploads) -> None:
    folder.take_away()
    done: list[str] = []
    for i in range(20):
        uploads.put(Upload(f"job-{i}", new_name(f"job-{i}", "wav"), b"x", partial(done.append, f"job-{i}")))
    until(lambda: uploads.failures >= 16)
    assert (done, uploads.waiting) == ([], 20)
    assert uploads.trouble is not None
    assert uploads.trouble.startswith(f"results: file://{folder.path}: put: ")

    folder.bring_back()
    until(lambda: len(done) == 20)
    assert sorted(done) == sorted(f"job-{i}" for i in range(20))
    assert uploads.trouble is None
    assert len(list(folder.path.iterdir())) == 20


def test_a_cancelled_job_waits_no_longer(folder: Folder, uploads: Uploads) -> None:
    folder.take_away()
    done = threading.Event()
    uploads.put(Upload("job", new_name("job", "wav"), b"x", done.set))
    until(lambda: uploads.failures >= 2)
    uploads.cancel("another")
    assert not done.wait(0.3)
    uploads.cancel("job")
    assert done.wait(30)
    assert uploads.waiting == 0


def test_a_store_that_is_back_with_nothing_waiting_is_noticed(folder: Folder, uploads: Uploads) -> None:
    """Its jobs were cancelled, and no other is claimed while it is away."""
    folder.take_away()
    uploads.put(Upload("job", new_name("job", "wav"), b"x", lambda: None))
    until(lambda: uploads.failures >= 2)
    uploads.cancel("job")
    until(lambda: uploads.waiting == 0)
    time.sleep(0.3)
    assert uploads.trouble is not None

    folder.bring_back()
    until(lambda: uploads.trouble is None)
    assert list(folder.path.iterdir()) == []


def test_a_store_that_keeps_silent_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.delivery.uploads.STALLED_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {"ENDPOINT": endpoint, "ALLOW_HTTP": "true", "TIMEOUT": "30s", "REGION": "here"}
        for name, value in {**variables, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        uploads, done = Uploads(AudioStore("s3://bucket")), threading.Event()
        uploads.put(Upload("job", new_name("job", "wav"), b"x", done.set))
        uploads.look()
        assert uploads.trouble is None
        time.sleep(1.1)
        uploads.look()
        assert uploads.trouble == "results: s3://bucket: has taken nothing for 1 s"
        assert not done.is_set()
        uploads.cancel("job")
        assert done.is_set()
        uploads.close()


def test_a_start_waits_for_a_store_for_so_long(folder: Folder) -> None:
    folder.take_away()
    with pytest.raises(StoreError, match="put: GenericError"):
        wait_for_store(folder.store, 0.3)
    threading.Timer(0.3, folder.bring_back).start()
    wait_for_store(folder.store, 60)
    assert list(folder.path.iterdir()) == []
