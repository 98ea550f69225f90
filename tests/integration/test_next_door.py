"""Commands in the folder of a worker that has no Redis find it, and two workers share one server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from rq.worker import Worker

from commands import rwkv_tts, start
from rwkv_tts import TTSClient
from waiting import until
from worker.cli.address import next_door


@pytest.fixture(scope="module")
def folder(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where two workers run without a Redis."""
    here = tmp_path_factory.mktemp("next-door")
    workers = [start("worker", "--quiet", "--name", name, model=random_model, cwd=here) for name in ("one", "two")]
    until(lambda: (url := next_door(here / "redis-data")) and len(TTSClient(url).busyness().workers) == 2)
    yield here
    for worker in workers:
        worker.terminate()
    for worker in workers:
        assert worker.wait(30) == 0


def test_commands_find_the_workers_next_door(random_model: Path, folder: Path) -> None:
    before = spoken(folder)
    said = rwkv_tts("say", "hi", model=random_model, cwd=folder)
    assert said.returncode == 0, said.stderr
    until(lambda: spoken(folder) == before + 1)
    assert (folder / "speech.wav").exists()
    shown = rwkv_tts("top", "--once", model=random_model, cwd=folder)
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:]] == ["one", "two"]
    for command in (["load"], ["voices", "list"], ["tune"]):
        done = rwkv_tts(*command, model=random_model, cwd=folder)
        assert done.returncode == 0, done.stderr


def spoken(folder: Path) -> int:
    """How many jobs the workers have done."""
    url = next_door(folder / "redis-data")
    assert url is not None
    return sum(worker.successful_job_count for worker in Worker.all(connection=Redis.from_url(url)))


def test_a_job_of_many_is_done_once_by_one_of_the_workers(random_model: Path, folder: Path) -> None:
    """Two servers that append to one file did each other's jobs."""
    lines = [json.dumps({"text": f"line {number}"}) for number in range(20)]
    (folder / "jobs.jsonl").write_text("\n".join(lines))
    done = rwkv_tts("enqueue", "jobs.jsonl", model=random_model, cwd=folder)
    assert done.returncode == 0, done.stderr
    url = next_door(folder / "redis-data")
    assert url is not None
    client = TTSClient(url)
    speeches = [client.result(json.loads(line)["job_id"], 30) for line in done.stdout.splitlines()]
    assert {speech.worker for speech in speeches} <= {"one", "two"}
    assert len(speeches) == 20


def test_what_a_killed_worker_leaves_does_no_harm(random_model: Path, tmp_path: Path) -> None:
    first = start("worker", "--quiet", model=random_model, cwd=tmp_path)
    until(lambda: next_door(tmp_path / "redis-data"))
    left = (tmp_path / "redis-data" / "address").read_text()
    first.kill()
    first.wait()
    until(lambda: not Path(left.removeprefix("unix://")).exists())
    (tmp_path / "redis-data" / "address").write_text(left)  # as if the server had been killed as well
    assert next_door(tmp_path / "redis-data") is None
    refused = rwkv_tts("load", model=random_model, cwd=tmp_path)
    assert refused.returncode == 2
    assert "no worker runs in this folder" in refused.stderr
    second = rwkv_tts("worker", "--burst", "--quiet", model=random_model, cwd=tmp_path)
    assert second.returncode == 0, second.stderr


def test_a_folder_that_others_may_write_to_is_not_believed(tmp_path: Path, redis_url: str) -> None:
    folder = tmp_path / "redis-data"
    folder.mkdir(mode=0o700)
    (folder / "address").write_text(redis_url)
    (folder / "address").chmod(0o600)
    assert next_door(folder) == redis_url
    folder.chmod(0o777)
    assert next_door(folder) is None
    folder.chmod(0o700)
    (folder / "address").chmod(0o666)
    assert next_door(folder) is None


def test_a_folder_without_a_right_to_write_is_told_in_one_line(random_model: Path, tmp_path: Path) -> None:
    (tmp_path / "redis-data").write_text("a file")
    done = rwkv_tts("worker", "--burst", model=random_model, cwd=tmp_path)
    assert done.returncode == 1
    assert "redis-data" in done.stderr
    assert "Traceback" not in done.stderr
