"""Settings: an argument beats the environment, which beats the default; typing mistakes do not pass."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

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
        ("threads", "auto", "2", 2, 3),
        ("max_payload_bytes", 12 << 20, "2048", 2048, 4096),
        ("clone", True, "false", False, True),
        ("max_queue", None, "7", 7, 9),
        ("callbacks", (), "shop.told,shop.failed", ("shop.told", "shop.failed"), ("shop.told",)),
        ("lease_timeout", 10.0, "3", 3.0, 0.5),
        ("metrics_port", None, "9100", 9100, 0),
        ("metrics_host", "127.0.0.1", "0.0.0.0", "0.0.0.0", "::1"),  # noqa: S104
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
        ("threads", "all"),
        ("threads", "1.5"),
        ("max_rows", "4097"),
        ("engine", "fast"),
        ("result_ttl", "-2"),
        ("queue", ""),
        ("queue", " , "),
        ("lease_timeout", "0.1"),
        ("max_attempts", "0"),
        ("max_queue", "0"),
        ("log_level", "LOUD"),
        ("metrics_port", "-1"),
        ("metrics_port", "65536"),
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


@pytest.mark.parametrize(
    ("url", "user", "rest"),
    [
        ("redis://worker@redis:6379/0?health_check_interval=5", "worker", "@redis:6379/0?health_check_interval=5"),
        ("rediss://redis", "", "@redis"),
        ("redis://worker:old@redis", "worker", "@redis"),
        ("unix:///run/redis.sock", "", "@/run/redis.sock"),
    ],
)
def test_the_password_of_a_file_goes_into_the_url(tmp_path: Path, url: str, user: str, rest: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss/w:rd# %\n")
    whole = Settings(redis=url, redis_password_file=secret).redis_url({})
    assert whole is not None
    assert whole.endswith(rest)
    assert urlsplit(whole).username == user
    assert unquote(urlsplit(whole).password or "") == "p@ss/w:rd# %"
    assert Settings(redis_password_file=secret).redis_url({"REDIS_URL": url}) == whole


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "accepted: a file with one line"),
        (b"\n", "accepted: a file with one line"),
        (b"hidden\nhidden\n", "accepted: a file with one line"),
        (b"hidden\xff", "not UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_named_without_its_content(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(ValueError, match=r"^redis_password_file: ") as caught:
        Settings(redis="redis://redis", redis_password_file=secret).redis_url({})
    assert reason in str(caught.value)
    assert str(secret) in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_password_without_a_redis_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with pytest.raises(ValueError, match=r"^redis_password_file: there is no Redis URL"):
        Settings(redis_password_file=secret).redis_url({})
