"""The command as a newcomer types it, without a Redis."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from commands import rwkv_tts
from rwkv_tts.client import TTSClient


def test_say_writes_a_file_and_a_summary(random_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "hello.flac"
    options = ["--seed", "5", "--sample-rate", "24000", "--normalize", "--language", "en", "--no-timestamps"]
    done = rwkv_tts("say", "hello", "-o", str(target), *options, model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    info = soundfile.info(target)
    assert (info.format, info.samplerate) == ("FLAC", 24000)
    assert f"{info.duration:.2f} s of audio" in done.stdout
    assert "RTF" in done.stdout
    assert "seed 5" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["say", ""], "text: "),
        (["say", "hi", "--gender", "robot"], "gender: "),
        (["say", "hi", "-o", "x.m4a"], "output: x.m4a: no format of audio has this name; accepted: "),
        (["say", "hi", "-o", "x.mp3", "--format", "wav"], "output: x.mp3: the audio is wav"),
        (["result", "nobody"], "no worker runs in this folder"),
        (["say", "hi", "--voice", "nobody"], "voice: unknown voice 'nobody'; accepted: first, second"),
        (["say", "hi", "--redis", "redis://127.0.0.1:1/0"], "Error"),
        (["say", "hi", "--model", "no-such-folder"], "not a model directory"),
        (["say", "hi", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["model", "info", "no-such-folder"], "not a model directory"),
        (["worker", "--token-chunk-size", "0"], "token_chunk_size"),
        (["worker", "--log-level", "loud"], "log_level"),
    ],
)
@pytest.mark.slow
def test_errors_are_one_line_without_a_traceback(
    random_model: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_usage_names_the_command_as_it_is_typed_however_it_was_started() -> None:
    started = [sys.executable, "-m", "worker.cli", "model", "info"]  # as the image does
    done = subprocess.run(started, capture_output=True, text=True, timeout=60)
    assert "Usage: rwkv-tts model info" in done.stderr


def test_enqueue_speaks_every_line_and_reports_the_bad_ones(random_model: Path, tmp_path: Path) -> None:
    lines = ['{"text": "one", "seed": 1}', "", '{"text": "two", "speed": "warp"}', "not json"]
    lines.append('{"text": "three", "seed": 1}')
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    done = rwkv_tts("enqueue", "jobs.jsonl", model=random_model, cwd=tmp_path)
    assert done.returncode == 1
    assert "line 3: speed: " in done.stderr
    assert "line 4: " in done.stderr
    assert [path.name[:5] for path in sorted((tmp_path / "out").iterdir())] == ["0001-", "0005-"]
    assert "2 jobs" in done.stdout
    assert "2 refused" in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_enqueue_reads_what_other_programs_write(
    random_model: Path, tmp_path: Path, redis_url: str, encoding: str
) -> None:
    """With their byte order marks, line ends, and separators that are part of a text."""
    texts = ["one \u2028 line", "a \x85 b", "\ufeffmarked", "\u5317\u4eac", "last"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    content = "\r\n\r\n  \t\r\n".join(lines[:3]) + "\r\n\ufeff" + "\n".join(lines[3:])
    (tmp_path / "jobs.jsonl").write_bytes(content.encode(encoding))
    arguments = ("enqueue", "jobs.jsonl", "--redis", redis_url, "--queue", f"lists-{encoding}")
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["line"] for line in told] == [1, 4, 7, 8, 9]
    jobs = [Job.fetch(one["job_id"], Redis.from_url(redis_url), serializer=JSONSerializer) for one in told]
    assert [job.kwargs["request"]["text"] for job in jobs] == texts


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"text": "schön"}'.encode("latin-1"), "byte 13 is not UTF-8"),
        (b"\xff\xfe{\x00}", "is not UTF-16"),
        (bytes(range(256)), "is not UTF-16"),
    ],
)
def test_a_list_in_another_encoding_is_refused_in_one_line(
    random_model: Path, tmp_path: Path, redis_url: str, content: bytes, reason: str
) -> None:
    (tmp_path / "jobs.jsonl").write_bytes(content)
    done = rwkv_tts("enqueue", "jobs.jsonl", "--redis", redis_url, model=random_model, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert line.startswith("error: jobs.jsonl: ")
    assert reason in line


def test_a_text_may_begin_with_a_dash(random_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.wav"
    done = rwkv_tts("say", "-5 degrees", "--seed", "5", "-o", str(target), model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert target.exists()


def test_enqueue_to_a_shared_redis_prints_ids_and_leaves_the_work_to_others(
    random_model: Path, tmp_path: Path, redis_url: str, connection: Redis
) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    arguments = ("enqueue", "jobs.jsonl", "--redis", redis_url, "--queue", "elsewhere")
    done = rwkv_tts(*arguments, model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no worker listens on queue elsewhere" in done.stderr
    ids = [json.loads(line)["job_id"] for line in done.stdout.splitlines()]
    assert connection.lrange("rq:queue:elsewhere", 0, -1) == [job_id.encode() for job_id in ids]
    for job_id in ids:
        TTSClient(connection, "elsewhere").cancel(job_id)


def test_settings_come_from_the_environment_and_unknown_names_are_reported(
    random_model: Path, tmp_path: Path, redis_url: str
) -> None:
    done = rwkv_tts(
        *("worker", "--burst", "--queue", "empty"),
        model=random_model,
        cwd=tmp_path,
        REDIS_URL=redis_url,
        RWKV_TTS_TOKEN_CHUNK_SIZE="33",
        RWKV_TTS_TOKEN_CHUNKSIZE="44",
    )
    assert done.returncode == 0, done.stderr
    assert "token_chunk_size 33" in done.stderr
    assert "RWKV_TTS_TOKEN_CHUNKSIZE: unknown setting; did you mean RWKV_TTS_TOKEN_CHUNK_SIZE?" in done.stderr


@pytest.mark.slow
def test_say_tells_what_the_model_could_not_do(random_model: Path, tmp_path: Path) -> None:
    model, short = english_model(random_model, tmp_path), ("--max-seconds", "1", "--seed", "1")
    done = rwkv_tts("say", "5 ☃ here", "--emotion", "happy", *short, model=model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "emotion 'happy': this model was trained on neutral only; neutral is used" in done.stderr
    assert "left out: ☃" in done.stderr
    refused = rwkv_tts("say", "Привет", model=model, cwd=tmp_path)
    assert refused.returncode == 1
    assert "text: Cyrillic letters 'Привет'; accepted: English text" in refused.stderr


def test_model_info_shows_what_the_model_was_trained_on(random_model: Path, tmp_path: Path) -> None:
    model = english_model(random_model, tmp_path)
    done = rwkv_tts("model", "info", str(model), model=model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "english, numbers and symbols become words; trained on up to 400 characters" in done.stdout
    assert "age youth-adult, middle-aged; gender female, male; emotion neutral; pitch low_pitch" in done.stdout


def english_model(random_model: Path, directory: Path) -> Path:
    """The random model with the text and the attributes of a demo voice."""
    model = directory / "english"
    shutil.copytree(random_model, model)
    config = json.loads((model / "config.json").read_text())
    config["text"] = {"normalizer": "english", "longest": 400}
    config["attributes"] = {
        "age": ["youth-adult", "middle-aged"],
        "gender": ["female", "male"],
        "emotion": ["neutral"],
        "pitch": ["low_pitch", "medium_pitch"],
        "speed": ["medium"],
    }
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_model_info_names_sizes_licence_and_voices(random_model: Path, tmp_path: Path) -> None:
    done = rwkv_tts("model", "info", str(random_model), model=random_model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for fact in ("2 layers x 128", "Apache-2.0", "random weights", "16000 Hz", "first, second", "as it comes"):
        assert fact in done.stdout
