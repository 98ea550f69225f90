"""References through a real server and a real worker process: voices of their own, bad files that fail alone."""

import base64
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from redis import Redis
from rq import Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from media_files import decode_media, encode_media
from recordings import RATE, recording, reference
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import tokens_key
from rwkv_tts.refusal import Refusal
from rwkv_tts.results import JobFailedError, Speech
from worker.cli.local import local_worker
from worker.settings import Settings
from worker.speech.cloning import Cloner, Recording
from worker.speech.loading import open_model

PATIENCE = 60
EQUAL: dict[str, Any] = {"text": "the same words for all", "seed": 5, "max_seconds": 1.0}


def speak(client: TTSClient, **fields: Any) -> Speech:
    return client.result(client.submit(**{**EQUAL, **fields}), timeout=PATIENCE)


def reason(client: TTSClient, job_id: str) -> str:
    with pytest.raises(JobFailedError) as caught:
        client.result(job_id, timeout=PATIENCE)
    return str(caught.value)


def kept(connection: Redis, speech: Speech) -> dict[str, Any]:
    data = connection.get(tokens_key(speech.result.job_id))
    assert isinstance(data, bytes)
    tokens: dict[str, Any] = json.loads(data)
    return tokens


def text_file() -> bytes:
    return b"words, words, words\n" * 100


def claims_a_gigabyte() -> bytes:
    """A header for more audio than there is, and more than is accepted; the audio is that of ``alone[1]``."""
    whole = bytearray(recording(1, 1.5))
    whole[40:44] = (1 << 30).to_bytes(4, "little")
    return bytes(whole)


def not_numbers() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(RATE, np.nan), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def channels(count: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(count)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(bytes(2 * count * RATE))
    return file.getvalue()


BAD = {
    "text": (text_file(), "unknown format"),
    "short": (recording(1, 0.05), "at least 0.1 s"),
    "long": (recording(1, 61), "at most 60 s"),
    "nan": (not_numbers(), "not numbers"),
    "channels": (channels(64), "64 channels"),
    "silence": (channels(1), "silent"),
    "header": (recording(1)[:40], "reference: recording "),
    "m4a": (b"\0\0\0\x20ftypM4A " + bytes(5000), "no readable M4A"),
}


@pytest.fixture(scope="module")
def alone(served: tuple[object, TTSClient]) -> list[Speech]:
    """Eight voices, one after the other."""
    return [speak(served[1], reference=reference(number, 0.5 + number)) for number in range(8)]


def test_a_reference_becomes_speech_in_its_voice(
    client: TTSClient, connection: Redis, random_model: Path, alone: list[Speech]
) -> None:
    encoder = open_model(random_model).voice_encoder
    assert encoder is not None
    for number, speech in enumerate(alone):
        (voice,) = Cloner(encoder)([Recording(recording(number, 0.5 + number), transcript=False)])
        assert not isinstance(voice, Refusal)
        tokens = kept(connection, speech)
        assert (tokens["globals"], tokens["semantic"], tokens["text"]) == (voice.globals_, [], "")
        samples, rate = soundfile.read(io.BytesIO(speech.audio))
        assert (rate, len(samples)) == (RATE, speech.result.tokens.semantic * 320)
        assert speech.result.mode == "reference"
        assert 0 < speech.result.timings.clone < speech.result.timings.total
    assert len({speech.result.trace_sha256 for speech in alone}) == 8
    assert speak(client).result.timings.clone == 0


def test_eight_voices_at_once_are_what_they_are_alone(client: TTSClient, alone: list[Speech]) -> None:
    jobs = [client.submit(**EQUAL, reference=reference(number, 0.5 + number)) for number in range(8)]
    together = [client.result(job, timeout=PATIENCE) for job in jobs]
    assert [s.result.trace_sha256 for s in together] == [s.result.trace_sha256 for s in alone]
    assert max(s.result.mean_batch for s in together) > 1.5


@pytest.mark.parametrize(("form", "rate"), [("FLAC", 48_000), ("OGG", 44_100), ("MP3", 22_050)])
def test_other_formats_and_rates_are_taken(client: TTSClient, form: str, rate: int) -> None:
    assert speak(client, reference=reference(2, form=form, rate=rate)).audio


def test_what_a_browser_records_is_taken(client: TTSClient) -> None:
    """As the data: URL that its page has, and as the same samples in a WAV file."""
    samples, rate = soundfile.read(io.BytesIO(recording(2, rate=48_000)))
    webm = encode_media(samples, rate, "webm")
    url = "data:audio/webm;codecs=opus;base64," + base64.b64encode(webm).decode()
    file = io.BytesIO()
    soundfile.write(file, decode_media(webm)[0], rate, format="WAV", subtype="FLOAT")
    wav = base64.b64encode(file.getvalue()).decode()
    assert speak(client, reference=url).result.trace_sha256 == speak(client, reference=wav).result.trace_sha256


def test_a_transcript_puts_the_recording_into_the_prompt(
    client: TTSClient, connection: Redis, alone: list[Speech]
) -> None:
    speech = speak(client, reference=reference(1, 1.5), reference_text="What is said there.")
    tokens = kept(connection, speech)
    assert tokens["globals"] == kept(connection, alone[1])["globals"]
    assert tokens["text"] == "What is said there."
    assert len(tokens["semantic"]) == pytest.approx(50 * tokens["seconds"], abs=2)
    assert speech.result.trace_sha256 != alone[1].result.trace_sha256


def test_bad_references_fail_with_a_reason_and_their_mates_speak(client: TTSClient, alone: list[Speech]) -> None:
    good: dict[int, str] = {}
    bad: dict[str, str] = {}
    for number, (name, (audio, _)) in enumerate(BAD.items()):
        bad[name] = client.submit(**EQUAL, reference=base64.b64encode(audio).decode())
        good[number] = client.submit(**EQUAL, reference=reference(number, 0.5 + number))
    for name, job in bad.items():
        line = reason(client, job)
        assert line.startswith("reference: "), line
        assert BAD[name][1] in line
        assert "\n" not in line
    for number, job in good.items():
        trace = client.result(job, timeout=PATIENCE).result.trace_sha256
        assert trace == alone[number].result.trace_sha256


def test_a_header_that_lies_costs_nothing(client: TTSClient, alone: list[Speech]) -> None:
    speech = speak(client, reference=base64.b64encode(claims_a_gigabyte()).decode())
    assert speech.result.trace_sha256 == alone[1].result.trace_sha256


def test_a_bad_reference_is_not_tried_again(client: TTSClient, connection: Redis) -> None:
    job = client.submit(
        **EQUAL, reference=base64.b64encode(text_file()).decode(), job_options={"retry": Retry(max=2)}
    )
    assert "unknown format" in reason(client, job)
    ended = Job.fetch(job, connection=connection, serializer=JSONSerializer)
    assert ended.get_status() is JobStatus.FAILED
    assert ended.retries_left == 2


def test_the_longest_reference_fits_into_a_job(client: TTSClient) -> None:
    """Eight MiB of samples that do not compress are within the default limits."""
    seconds = 43.5
    noise = np.random.default_rng(1).integers(-8000, 8000, (int(seconds * 48_000), 2)).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, noise, 48_000, format="WAV")
    assert (8 << 20) - 50_000 < len(file.getvalue()) <= 8 << 20
    assert speak(client, reference=base64.b64encode(file.getvalue()).decode()).audio


def test_a_worker_that_clones_no_voices_says_so(redis_url: str, random_model: Path) -> None:
    settings = Settings(model=random_model, queue=("no-clones",), max_rows=2, clone=False)
    client = TTSClient(redis_url, "no-clones")
    with local_worker(settings, redis_url) as local:
        local.wait_until_ready()
        refused = client.submit(**EQUAL, reference=reference(1))
        assert reason(client, refused).startswith(
            "reference: this worker clones no voices, the setting clone is off"
        )
        assert speak(client).audio
