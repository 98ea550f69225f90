"""Recordings of phones and browsers: read as they sound, by a process that cannot do harm and may do anything."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soxr

from codec import media
from codec.clip import normalize_volume, trim_silence
from codec.recording import RecordingError, RecordingLimits, read_recording
from hostile_audio import speech
from media_files import KINDS, decode_media, encode_media
from mutations import ended, mutated

RATE = 16000
LIMITS = RecordingLimits(max_seconds=3.0)
M4A = encode_media(speech(1.0, 48000), 48000, "m4a")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_are_the_samples_of_the_file(kind: str) -> None:
    rate = 48000 if kind.startswith("webm") else 44100
    data = encode_media(speech(1.2, rate), rate, kind)
    samples, found = decode_media(data)
    assert found == rate
    assert len(samples) / rate == pytest.approx(1.2, abs=0.1)
    expected = trim_silence(normalize_volume(soxr.resample(samples.mean(axis=1), rate, RATE, quality="VHQ")))
    np.testing.assert_allclose(read_recording(data), expected, atol=1e-6)


def test_a_phone_may_record_in_stereo() -> None:
    audio = np.stack([speech(1.0, 48000), np.zeros(48000)], axis=1)
    data = encode_media(audio, 48000, "m4a")
    samples, _ = decode_media(data)
    assert samples.shape[1] == 2
    expected = trim_silence(normalize_volume(soxr.resample(samples.mean(axis=1), 48000, RATE, quality="VHQ")))
    np.testing.assert_allclose(read_recording(data), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["aac", "webm"])
def test_an_upload_that_was_cut_is_read_as_far_as_it_goes(kind: str) -> None:
    data = encode_media(speech(2.0, 48000), 48000, kind)
    assert 0.8 < len(read_recording(data[: len(data) // 2])) / RATE < 1.2


def test_what_is_too_long_is_refused_without_decoding_it_all() -> None:
    with pytest.raises(RecordingError, match=r"recording of at least \d\.\d+ s, expected at most 3 s"):
        read_recording(encode_media(np.tile(speech(1.0, 48000), 30), 48000, "m4a"), LIMITS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (M4A[:40], r"recording is no readable M4A \(.+\), expected WAV"),
        (M4A[:32] + bytes(2000), r"recording is no readable M4A \(.+\), expected WAV"),
        (b"\x1a\x45\xdf\xa3" + bytes(1000), r"recording is no readable WEBM \(.+\), expected WAV"),
        (b"#!AMR\n" + b"\xff" * 100, r"recording is no readable AMR \(.+\), expected WAV"),
    ],
)
def test_what_is_no_audio_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(RecordingError, match=message) as refused:
        read_recording(data)
    assert "\n" not in str(refused.value)


def test_without_the_extra_the_refusal_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec.media.find_spec", lambda _: None)
    with pytest.raises(RecordingError, match=r"recording is M4A, for which the worker lacks PyAV .*\[media\]"):
        read_recording(M4A)


def test_damaged_files_are_read_or_refused_within_seconds() -> None:
    """``python tests/support/mutations.py`` does so with as many as one likes."""
    ends, slowest = [], 0.0
    for _, data in mutated(48, seed=1):
        start = time.monotonic()
        ends.append(ended(data))
        slowest = max(slowest, time.monotonic() - start)
    assert set(ends) == {"read", "refused"}
    assert 8 < ends.count("read") < 40
    assert slowest < 10


# What the process may do, and what it may not


HEADER = 'print(\'{"rate": 16000, "channels": 1}\', flush=True)'
MISCHIEF = {
    "crashes": "import os; os.abort()",
    "crashes after a header": f"import os; {HEADER}; os.kill(os.getpid(), 11)",
    "says nothing": "pass",
    "hangs": "import time; time.sleep(60)",
    "hangs after a header": f"import time; {HEADER}; time.sleep(60)",
    "reads and hangs": "import sys, time; sys.stdin.buffer.read(); time.sleep(60)",
    "closes its output and hangs": f"import os, time; {HEADER}; os.close(1); time.sleep(60)",
    "never ends": f"import sys; {HEADER}\nwhile True: sys.stdout.buffer.write(bytes(1 << 20))",
    "never ends its first line": "import sys\nwhile True: sys.stdout.buffer.write(b'x' * (1 << 20))",
    "says what is no JSON": "import os; os.write(1, bytes(range(256)))",
    "says what is no object": "print([1, 2])",
    "has no channels": 'print(\'{"rate": 16000, "channels": 0}\')',
    "has too many": 'print(\'{"rate": 16000, "channels": 100000}\')',
    "has no rate": "print('{\"channels\": 1}')",
    "has an endless rate": 'print(\'{"rate": 1e999, "channels": 1}\')',
    "gives what are no numbers": f"import sys; {HEADER}; sys.stdout.buffer.write(b'\\xff' * 400_000)",
    "refuses in many lines": 'print(\'{"refused": "a\\\\nb\\\\u001b[31m"}\')',
}


@pytest.mark.parametrize("name", MISCHIEF)
def test_whatever_the_process_does_the_recording_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "child.py"
    program.write_text(MISCHIEF[name])
    monkeypatch.setattr(media, "CHILD", program)
    monkeypatch.setattr(media, "SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(RecordingError) as refused:
        read_recording(M4A + bytes(1 << 20), LIMITS)
    assert time.monotonic() - start < 10
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 700


FORBIDDEN = {
    "open a file": "open('/etc/passwd')",
    "make a file": "open('/tmp/left-behind', 'w')",
    "connect": "__import__('socket').socket()",
    "start a program": "__import__('os').execv('/bin/true', ['true'])",
    "start a process": "__import__('os').fork()",
    "end another process": "__import__('os').kill(__import__('os').getppid(), 0)",
    "take much memory": "bytearray(1 << 30)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel has no such filter")
@pytest.mark.parametrize("act", FORBIDDEN)
def test_the_process_can_do_nothing_but_decode(act: str) -> None:
    program = f"""
import os, socket, sys
sys.path.insert(0, {str(media.CHILD.parent)!r})
import media_child
media_child.give_up_rights()
try:
    {FORBIDDEN[act]}
except (OSError, MemoryError):
    os.write(1, b"refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == (b"refused", 0), done.stderr


def test_the_process_ends_when_it_computes_too_long() -> None:
    program = f"""
import resource, sys
sys.path.insert(0, {str(media.CHILD.parent)!r})
import media_child
media_child._LIMITS[resource.RLIMIT_CPU] = 1
media_child.give_up_rights()
while True: pass
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode < 0
