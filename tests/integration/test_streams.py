"""Streams through real workers of the demo voice: what is heard is the file, also when workers are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from rwkv_tts import TTSClient
from rwkv_tts.keys import KEPT_PREFIX
from waiting import until
from worker.cli.local import LocalWorker, local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

TEXT = "The old harbour lay quiet under a pale morning sky. She counted 42 boats, and none was hers.\n\nWhy?"
LONG_TEXT = "\n\n".join(16 * [TEXT])
"""Minutes, which are not made before anybody is killed."""

DEMO_VOICE = Path(__file__).parents[2] / "assets" / "demo-voice"
QUEUE = "streams"


@pytest.fixture(scope="module")
def client(redis_url: str) -> TTSClient:
    return TTSClient(redis_url, QUEUE)


@pytest.fixture
def worker(redis_url: str) -> Iterator[LocalWorker]:
    settings = Settings(queue=(QUEUE,), model=DEMO_VOICE, lease_timeout=2, log_level="WARNING")
    with local_worker(settings, redis_url) as one:
        one.wait_until_ready()
        yield one


def samples(content: bytes) -> npt.NDArray[np.int64]:
    return np.frombuffer(content, "<i2").astype(np.int64)


@pytest.mark.usefixtures("worker")
def test_kills_in_mid_stream_leave_every_sample_once(client: TTSClient, redis_url: str, connection: Redis) -> None:
    request: dict[str, Any] = {
        "text": LONG_TEXT,
        "seed": 4,
        "format": "pcm",
        "gender": "male",
        "sample_rate": 24_000,
    }
    whole = client.result(client.submit(**request), timeout=120)
    settings = Settings(queue=(QUEUE,), model=DEMO_VOICE, lease_timeout=2, log_level="WARNING")
    kills = Random(1)  # noqa: S311 - no secret
    for _ in range(2):
        with local_worker(settings, redis_url) as spare:
            spare.wait_until_ready()
            heard, kill_after = [], kills.randint(1, 4)
            with client.stream(**request) as speech:
                for number, piece in enumerate(speech, start=1):
                    heard.append(piece)
                    if number == kill_after:
                        kill_who_speaks(connection, speech.job_id, spare)
            assert speech.result is not None
            assert speech.result.trace_sha256 == whole.result.trace_sha256
            audio = samples(b"".join(heard))
            assert len(audio) == len(samples(whole.audio))
            assert np.abs(audio - samples(whole.audio)).max() <= 2
    assert not connection.keys(KEPT_PREFIX + "*")


def kill_who_speaks(connection: Redis, job_id: str, spare: LocalWorker) -> None:
    """Kill the worker of a job, unless it is the only one: then it is stopped for longer than its lease."""
    name = Job.fetch(job_id, connection=connection, serializer=JSONSerializer).worker_name
    pid = int(connection.hget(f"rq:worker:{name}", "pid") or 0)
    if pid == spare.pid:
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: Job.fetch(job_id, connection=connection, serializer=JSONSerializer).worker_name != name, 60)
        os.kill(pid, signal.SIGCONT)


def test_say_writes_a_stream_to_standard_output_and_subtitles(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "worker.cli", "say", TEXT, "-o", "-", "--format", "mp3"]
    subtitles = tmp_path / "speech.srt"
    done = subprocess.run(
        [*command, "--subtitles", str(subtitles), "--seed", "1"], capture_output=True, check=True, cwd=tmp_path
    )
    assert done.stdout[:3] == b"ID3" or done.stdout[0] == 0xFF
    assert b"audio-s/s" in done.stderr
    cues = subtitles.read_text().strip().split("\n\n")
    assert [cue.splitlines()[2] for cue in cues][-1] == "Why?"
