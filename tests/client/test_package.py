"""The package as a producer imports it: light, and still to be found where it was."""

import subprocess
import sys

import pytest

import rwkv_tts
import worker.client
import worker.schema
from worker.text.speakable import TextConfig, speakable

HEAVY = ("torch", "numpy", "soundfile", "soxr", "worker", "sampler", "codec", "model", "batching")
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise AssertionError(f"imports {{name}}")

sys.meta_path.insert(0, Blocked())
import pytest

import rwkv_tts

rwkv_tts.TTSClient("redis://localhost"), rwkv_tts.AsyncTTSClient("redis://localhost")
"""


def test_it_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_client_is_still_where_it_was() -> None:
    names = (
        "JobFailedError NoWorkerError QueueFullError QueueLoad Speech TTSClient Tuned Voice VoiceError VoiceStore"
    )
    for name in names.split():
        assert getattr(worker.client, name) is getattr(rwkv_tts, name)


def test_what_caught_a_refused_request_still_does() -> None:
    with pytest.raises(worker.schema.RequestError):
        worker.schema.parse_request({"text": ""})
    with pytest.raises(worker.schema.RequestError):
        speakable("Привет", TextConfig(normalizer="english"))
