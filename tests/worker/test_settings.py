"""Settings: an argument beats the environment, which beats the default; typing mistakes do not pass."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import DEFAULT_MODEL, Settings, unknown_variables

PREFIX = "RWKV_TTS_"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*(PREFIX + field.upper() for field in Settings.model_fields), "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("field", "default", "variable", "expected", "argument"),
    [
        ("token_chunk_size", 256, "512", 512, 7),
        ("max_rows", 16, "3", 3, 5),
        ("queue", ("tts",), "high, low", ("high", "low"), ("other",)),
        ("device", "cpu", "cuda:1", "cuda:1", "cuda:0"),
        ("engine", "auto", "reference", "reference", "cuda"),
        ("result_ttl", 3600, "-1", -1, 60),
        ("log_level", "WARNING", "DEBUG", "DEBUG", "ERROR"),
        ("model", DEFAULT_MODEL, "/m", Path("/m"), Path("n")),
        ("redis", None, "redis://a", "redis://a", "redis://b"),
        ("threads", 1, "2", 2, 3),
        ("max_payload_bytes", 12 << 20, "2048", 2048, 4096),
        ("clone", True, "false", False, True),
        ("max_queue", None, "7", 7, 9),
        ("callbacks", (), "shop.told,shop.failed", ("shop.told", "shop.failed"), ("shop.told",)),
        ("lease_timeout", 10.0, "3", 3.0, 0.5),
    ],
)
def test_argument_beats_environment_beats_default(
    monkeypatch: pytest.MonkeyPatch, field: str, default: object, variable: str, expected: object, argument: object
) -> None:
    assert getattr(Settings(), field) == default
    monkeypatch.setenv(PREFIX + field.upper(), variable)
    assert getattr(Settings(), field) == expected
    assert getattr(Settings.model_validate({field: argument}), field) == argument
    assert getattr(Settings(**{field: argument}), field) == argument  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, "0") for field in ("token_chunk_size", "max_rows", "threads", "max_payload_bytes")],
        ("token_chunk_size", "many"),
        ("max_rows", "4097"),
        ("engine", "fast"),
        ("result_ttl", "-2"),
        ("queue", ""),
        ("queue", " , "),
        ("lease_timeout", "0.1"),
        ("max_attempts", "0"),
        ("max_queue", "0"),
        ("log_level", "LOUD"),
    ],
)
def test_value_out_of_range_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + field.upper(), value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(ValidationError, match="chunk"):
        Settings.model_validate({"chunk": 3})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RWKV_TTS_TOKEN_CHUNKSIZE", "RWKV_TTS_TOKEN_CHUNK_SIZE"),
        ("RWKV_TTS_MAXROWS", "RWKV_TTS_MAX_ROWS"),
        ("RWKV_TTS_RESULTTTL", "RWKV_TTS_RESULT_TTL"),
        ("rwkv_tts_quue", "RWKV_TTS_QUEUE"),
    ],
)
def test_unknown_variable_is_reported_with_the_nearest(name: str, nearest: str) -> None:
    environ = {name: "1", "RWKV_TTS_QUEUE": "q", "rwkv_tts_model": "m", "PATH": "/bin", "REDIS_URL": "r"}
    (line,) = unknown_variables(environ)
    assert line.startswith(f"{name}: ")
    assert line.endswith(f"did you mean {nearest}?")


def test_variable_like_nothing_else_lists_all() -> None:
    (line,) = unknown_variables({"RWKV_TTS_0123456789012345678901234567890123456789": "1"})
    assert all(PREFIX + field.upper() in line for field in Settings.model_fields)


def test_redis_url_prefers_the_setting_then_redis_url_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"REDIS_URL": "redis://theirs"}
    assert Settings(redis="redis://ours").redis_url(theirs) == "redis://ours"
    assert Settings().redis_url(theirs) == "redis://theirs"
    assert Settings().redis_url({}) is None
    assert Settings().redis_url({"REDIS_URL": ""}) is None
    monkeypatch.setenv("REDIS_URL", "redis://process")
    assert Settings().redis_url() == "redis://process"
    monkeypatch.setenv("RWKV_TTS_REDIS", "redis://setting")
    assert Settings().redis_url() == "redis://setting"
