"""Voices in Redis through a real worker: made, kept, used, and changed by the command."""

import base64
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from raf import raf
from recordings import recording
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import VOICES_KEY, audio_key, tokens_key
from rwkv_tts.results import JobFailedError
from rwkv_tts.voice_store import VoiceTokens
from rwkv_tts.voices import VoiceError, load_raf
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TEXT = "a sentence of ordinary length"
QUEUE = "voices"


@pytest.fixture(scope="module")
def url(redis_url: str) -> str:
    """A database of this module's own: its voices are nobody else's."""
    return f"{redis_url}?db=12"


@pytest.fixture(scope="module")
def worker(url: str, random_model: Path) -> Iterator[None]:
    with local_worker(Settings(model=random_model, queue=(QUEUE,), max_rows=4), url) as local:
        local.wait_until_ready()
        yield


@pytest.fixture
def client(url: str) -> TTSClient:
    client = TTSClient(url, QUEUE)
    client.connection.delete(VOICES_KEY)
    return client


def speak(client: TTSClient, **fields: Any) -> str:
    """The job id of a finished job."""
    job_id = client.submit(**{"text": TEXT, "seed": 1, "max_seconds": 2, **fields})
    client.result(job_id, timeout=60)
    return job_id


def trace(client: TTSClient, job_id: str) -> str:
    return client.result(job_id, timeout=60).result.trace_sha256


def tokens(client: TTSClient, job_id: str) -> VoiceTokens:
    data = client.connection.get(tokens_key(job_id))
    assert isinstance(data, bytes)
    return VoiceTokens.model_validate_json(data)


def rwkv_tts(*arguments: str, cwd: Path, redis: str | None = None) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "RWKV_TTS_REDIS")}
    redis_variable = {} if redis is None else {"REDIS_URL": redis}
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments],
        env={**clean, "PYTHONPATH": str(REPOSITORY), "RWKV_TTS_QUEUE": QUEUE, **redis_variable},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


# Keep.


@pytest.mark.usefixtures("worker")
def test_a_voice_made_from_attributes_is_kept_and_speaks_again(client: TTSClient) -> None:
    liked = speak(client, gender="female", seed=7)
    made = tokens(client, liked)
    result = client.result(liked).result
    assert (len(made.globals), len(made.semantic)) == (result.tokens.globals, result.tokens.semantic)
    assert (made.seconds, made.sample_rate) == (result.seconds, result.sample_rate)

    voice = client.voices.keep(liked, "anna")
    assert (voice.id, voice.name, voice.global_tokens) == ("anna", "anna", made.globals)
    again = speak(client, text="other words", voice="anna")
    assert tokens(client, again).globals == made.globals
    assert trace(client, again) != trace(client, speak(client, text="other words", voice="first"))


@pytest.mark.usefixtures("worker")
def test_a_job_speaks_in_the_voice_of_another_that_is_not_kept(client: TTSClient) -> None:
    first = speak(client, gender="male", seed=7)
    again = speak(client, text="other words", voice=f"job:{first}", gender="male")
    assert tokens(client, again).globals == tokens(client, first).globals
    assert client.voices.ids() == []
    cloned = speak(client, reference=base64.b64encode(recording(3, 2.0)).decode(), reference_text="hum hum")
    on = speak(client, voice=f"job:{cloned}", use_transcript=True, seed=3)
    assert tokens(client, on).globals == tokens(client, cloned).globals
    assert trace(client, on) != trace(client, speak(client, voice=f"job:{cloned}", seed=3))
    with pytest.raises(
        JobFailedError, match=r"voice: job 'nowhere': its voice is not there; accepted: a finished"
    ):
        speak(client, voice="job:nowhere")


@pytest.mark.usefixtures("worker")
def test_the_running_worker_sees_each_change_at_once(client: TTSClient) -> None:
    def refused(voice: str) -> str:
        with pytest.raises(JobFailedError) as caught:
            speak(client, voice=voice)
        return str(caught.value)

    assert "voice: unknown voice 'anna'; accepted: first, second" in refused("anna")
    client.voices.add(raf())
    first = trace(client, speak(client, voice="anna"))
    client.voices.rename("anna", "berta")
    assert "unknown voice 'anna'; accepted: first, second, berta" in refused("anna")
    assert trace(client, speak(client, voice="berta")) == first
    client.voices.remove("berta")
    client.voices.add(raf("berta", global_tokens=[*range(100, 132)]))
    assert trace(client, speak(client, voice="berta")) != first
    client.voices.remove("berta")
    assert "unknown voice 'berta'" in refused("berta")


@pytest.mark.usefixtures("worker")
def test_a_voice_of_another_model_fails_its_job_with_the_reason(client: TTSClient) -> None:
    client.voices.add(raf(global_tokens=[4096] * 32))
    bad = client.submit(TEXT, voice="anna")
    good = speak(client, voice="first")
    with pytest.raises(JobFailedError, match=r"voice: kept voice 'anna': .*global_tokens must be 32 values"):
        client.result(bad, timeout=60)
    assert client.result(good).audio


@pytest.mark.usefixtures("worker")
def test_tokens_live_as_long_as_the_audio(client: TTSClient) -> None:
    job_id = client.submit(TEXT, seed=1, max_seconds=1, result_ttl=90)
    client.result(job_id, timeout=60)
    lives = [client.connection.ttl(key(job_id)) for key in (audio_key, tokens_key)]
    assert 60 <= lives[0] == lives[1] <= 90
    forgotten = client.submit(TEXT, seed=2, max_seconds=1, result_ttl=4)
    client.result(forgotten, timeout=60)
    until(lambda: not client.connection.exists(tokens_key(forgotten)))
    with pytest.raises(VoiceError, match=r"its voice is not there; .*a finished job whose result has not expired"):
        client.voices.keep(forgotten, "anna")


@pytest.mark.usefixtures("worker")
def test_a_failed_job_leaves_nothing_to_keep(client: TTSClient) -> None:
    job_id = client.submit(TEXT, voice="nobody")
    with pytest.raises(JobFailedError):
        client.result(job_id, timeout=60)
    with pytest.raises(VoiceError, match="its voice is not there"):
        client.voices.keep(job_id, "anna")


# Recordings.


@pytest.mark.usefixtures("worker")
def test_a_recording_becomes_a_voice_that_speaks_as_the_recording_does(client: TTSClient) -> None:
    clip = recording(3, 2.0)
    voice = client.add_voice("anna", clip, timeout=60)
    assert client.voices.get("anna") == voice
    assert voice.audio_duration == pytest.approx(2.0, abs=0.1)
    direct = client.submit_voice("other", clip, preview=TEXT, seed=5, max_seconds=2)
    assert trace(client, direct) == trace(client, speak(client, voice="anna", seed=5))
    assert voice.global_tokens != client.add_voice("berta", recording(9, 2.0), timeout=60).global_tokens


@pytest.mark.usefixtures("worker")
def test_a_transcript_is_kept_with_the_recordings_speech(client: TTSClient) -> None:
    voice = client.add_voice("anna", recording(3, 2.0), "hum hum", timeout=60)
    assert voice.prompt_text == "hum hum"
    assert len(voice.semantic_tokens) == pytest.approx(voice.audio_duration * 50, abs=1)
    with_it, without = (speak(client, voice="anna", use_transcript=use) for use in (True, False))
    assert trace(client, with_it) != trace(client, without)
    same = client.submit_voice("other", recording(3, 2.0), "hum hum", preview=TEXT, seed=1, max_seconds=2)
    assert trace(client, same) == trace(client, with_it)


@pytest.mark.usefixtures("worker")
def test_a_recording_that_cannot_be_used_makes_no_voice(client: TTSClient) -> None:
    with pytest.raises(JobFailedError, match=r"^reference: "):
        client.add_voice("anna", b"RIFF, but not really", timeout=60)
    assert client.voices.ids() == []


def test_a_name_that_cannot_be_had_queues_nothing(url: str) -> None:
    client = TTSClient(url, "nobody-listens")
    client.connection.delete(VOICES_KEY)
    client.voices.add(raf())
    for name in ("anna", "../anna"):
        with pytest.raises(VoiceError, match="voice id"):
            client.add_voice(name, recording(1))
    assert client.connection.llen(f"rq:queue:{client.queue}") == 0


# The command.


@pytest.mark.usefixtures("worker")
def test_the_command_adds_and_keeps_voices(client: TTSClient, url: str, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(recording(3, 2.0))
    done = rwkv_tts(
        *("voices", "add", "anna", "clip.wav", "--text", "hum", "-o", "new/first.wav"), cwd=tmp_path, redis=url
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "anna: kept" in done.stdout
    assert "with a transcript" in done.stdout
    with wave.open(str(tmp_path / "new" / "first.wav")) as audio:
        assert audio.getframerate() == 16000
    again = rwkv_tts("voices", "add", "anna", "clip.wav", cwd=tmp_path, redis=url)
    assert (again.returncode, "there is one already" in again.stderr) == (1, True)

    job_id = speak(client, voice="anna")
    done = rwkv_tts("voices", "keep", job_id, "berta", cwd=tmp_path, redis=url)
    assert done.returncode == 0, done.stderr
    assert client.voices.get("berta").global_tokens == client.voices.get("anna").global_tokens

    say = ("say", TEXT, "--seed", "3", "--max-seconds", "1")
    for number, voice in enumerate((("--voice", "anna", "--use-transcript"), ("--reference", "clip.wav"))):
        done = rwkv_tts(*say, *voice, "-o", f"{number}.wav", cwd=tmp_path, redis=url)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "0.wav").read_bytes() != (tmp_path / "1.wav").read_bytes()


def test_the_command_moves_voices_in_and_out(client: TTSClient, url: str, tmp_path: Path) -> None:
    (tmp_path / "a.raf.json").write_text(raf(), encoding="utf-8")
    (tmp_path / "b.raf.json").write_text(raf("berta"), encoding="utf-8")
    (tmp_path / "broken.json").write_text("{}")
    done = rwkv_tts("voices", "import", "a.raf.json", "broken.json", "none", "b.raf.json", cwd=tmp_path, redis=url)
    assert done.returncode == 1
    assert client.voices.ids() == ["anna", "berta"]
    assert "broken.json: not a RAF voice file" in done.stderr
    assert "none: No such file" in done.stderr

    listed = rwkv_tts("voices", "list", cwd=tmp_path, redis=url)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["id", "anna", "berta"]
    assert "\x1b" not in listed.stdout
    shown = rwkv_tts("voices", "show", "anna", cwd=tmp_path, redis=url).stdout
    assert "示例" in shown
    assert "32 tokens" in shown
    assert "\x1b" not in shown

    assert rwkv_tts("voices", "rename", "berta", "carla", cwd=tmp_path, redis=url).returncode == 0
    assert rwkv_tts("voices", "remove", "carla", cwd=tmp_path, redis=url).returncode == 0
    assert client.voices.ids() == ["anna"]
    for output in ((), ("-o", "deep/anna.json")):
        assert rwkv_tts("voices", "export", "anna", *output, cwd=tmp_path, redis=url).returncode == 0
    assert (tmp_path / "anna.raf.json").read_bytes() == (tmp_path / "a.raf.json").read_bytes()
    assert (tmp_path / "deep" / "anna.json").read_bytes() == raf().encode()


def test_the_list_names_what_cannot_be_used(client: TTSClient, url: str, tmp_path: Path) -> None:
    client.connection.hset(VOICES_KEY, "\x1b[31mbad", "{}")
    done = rwkv_tts("voices", "list", cwd=tmp_path, redis=url)
    assert "bad: not a voice that can be used; remove it" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nobody"),
        ("remove", "nobody"),
        ("rename", "nobody", "new"),
        ("rename", "anna", "../new"),
        ("export", "../anna"),
        ("keep", "no-such-job", "new"),
        ("import", "no-such-file"),
        ("add", "new", "no-such-file"),
        ("add", "a/b", __file__),
    ],
)
def test_what_cannot_be_done_is_one_line(
    client: TTSClient, url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    client.voices.add(raf())
    done = rwkv_tts("voices", *arguments, "--redis", url, cwd=tmp_path)
    reasons = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    assert (done.returncode, done.stdout, len(reasons)) == (1, "", 1)
    assert client.voices.ids() == ["anna"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("list",), ("keep", "job", "anna"), ("import", __file__), ("add", "anna", __file__)]
)
def test_without_a_redis_voices_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = rwkv_tts("voices", *arguments, cwd=tmp_path)
    message = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2
    assert "no worker runs in this folder; accepted: --redis URL" in message


def test_a_file_too_large_to_send_is_not_read(client: TTSClient, url: str, tmp_path: Path) -> None:
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(1 << 40)
    for command, reason in (("add", "too large; accepted: up to"), ("import", "too long; accepted: up to")):
        arguments = ("anna", "huge.wav") if command == "add" else ("huge.wav",)
        done = rwkv_tts("voices", command, *arguments, cwd=tmp_path, redis=url)
        assert done.returncode == 1
        assert reason in done.stderr
    assert client.voices.ids() == []


def test_the_connection_of_a_client_may_be_shared(url: str) -> None:
    connection = Redis.from_url(url)
    connection.delete(VOICES_KEY)
    voice = TTSClient(connection).voices.add(raf())
    assert TTSClient(connection).voices.list() == [voice] == [load_raf(raf())]
