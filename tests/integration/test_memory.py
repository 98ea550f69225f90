"""A worker that has spoken many utterances of different lengths is no larger than one that has spoken a few."""

import psutil
import pytest

from rwkv_tts.client import TTSClient
from worker.cli.local import local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

MEGABYTES = 120


def test_lengths_that_were_spoken_take_no_memory(redis_url: str) -> None:
    """oneDNN's cache of shapes would take some 10 MB for each of these."""
    client = TTSClient(redis_url, "lengths")
    with local_worker(Settings(queue=("lengths",), max_rows=8), redis_url) as local:

        def speak(lengths: range) -> int:
            jobs = [
                client.submit("word " * 60, voice="slt", seed=n, max_seconds=n / 50, format="pcm") for n in lengths
            ]
            for job in jobs:
                client.result(job, timeout=100)
            return int(psutil.Process(local.pid).memory_info().rss)

        before = speak(range(150, 166))
        assert speak(range(166, 206)) - before < MEGABYTES * 10**6
