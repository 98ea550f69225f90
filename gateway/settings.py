"""Settings of a gateway: arguments first, then ``RWKV_TTS_GATEWAY_...`` variables, then the defaults."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rwkv_tts.audio_store import REDIS, check_results
from rwkv_tts.secrets import read_secret, with_password

PREFIX = "RWKV_TTS_GATEWAY_"

FEMALE, MALE = {"gender": "female"}, {"gender": "male"}
ALIASES: dict[str, dict[str, Any]] = {
    "alloy": {**FEMALE, "pitch": "low_pitch"},
    "ash": MALE,
    "ballad": {**MALE, "age": "middle-aged"},
    "cedar": {**MALE, "pitch": "low_pitch"},
    "coral": FEMALE,
    "echo": {**MALE, "pitch": "low_pitch", "age": "middle-aged"},
    "fable": {**MALE, "pitch": "high_pitch"},
    "marin": {**FEMALE, "age": "middle-aged"},
    "nova": {**FEMALE, "pitch": "high_pitch"},
    "onyx": {**MALE, "pitch": "low_pitch", "age": "elderly"},
    "sage": {**FEMALE, "age": "middle-aged", "pitch": "low_pitch"},
    "shimmer": {**FEMALE, "age": "teenager"},
    "verse": {**MALE, "age": "youth-adult", "emotion": "excited"},
}
"""OpenAI's voices, and the fields of a request that stand for each; they are descriptions, not imitations."""


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several names; as text, they are separated by commas."""


def _shared(name: str) -> AliasChoices:
    """A setting that a worker beside it has as well may have one variable for both."""
    return AliasChoices(f"{PREFIX}{name}", f"RWKV_TTS_{name}")


class Settings(BaseSettings):
    """Everything that an operator of a gateway can set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True)

    host: str = Field(default="127.0.0.1", description="address to listen on; beyond this machine with keys only")
    port: int = Field(default=8000, ge=0, le=65535, description="its port; 0 takes a free one")
    redis: str | None = Field(
        default=None, validation_alias=_shared("REDIS"), description="Redis URL; without it REDIS_URL"
    )
    redis_password_file: Path | None = Field(
        default=None,
        validation_alias=_shared("REDIS_PASSWORD_FILE"),
        description="file with the password of the Redis URL, which then needs none",
    )
    queue: str = Field(default="tts", validation_alias=_shared("QUEUE"), description="queue of the workers")
    results: Annotated[str, AfterValidator(check_results)] = Field(
        default=REDIS, validation_alias=_shared("RESULTS"), description="where the workers put audio, as theirs"
    )
    keys: Path | None = Field(default=None, description="file of API keys, a line each; without it everybody may")
    cors_origins: Names = Field(
        default=(), description="web pages, by origin, that may call it from a browser; * for all"
    )
    wyoming: str | None = Field(
        default=None, description="address for Home Assistant, tcp://HOST:PORT; its protocol knows no keys"
    )
    aliases: dict[str, dict[str, Any]] = Field(
        default=ALIASES, description="voices by other names: JSON, from name to fields of a request"
    )
    max_body_bytes: int = Field(default=12 << 20, ge=1024, description="limit of a request's body")
    read_timeout: float = Field(
        default=15.0, gt=0, description="seconds within which a request's head must come, and then its body"
    )
    request_timeout: float = Field(
        default=600.0,
        gt=0,
        description="seconds from a request to the end of its answer; then its job is cancelled",
    )
    idle_timeout: float = Field(
        default=300.0, gt=0, description="seconds after which a connection for agents is closed if nothing comes"
    )
    batch_ttl: int = Field(default=24 * 3600, ge=60, description="seconds that the audio of batches is kept")
    max_concurrent: int = Field(default=64, ge=1, description="requests of one key that are spoken at once")
    max_connections: int = Field(default=2048, ge=1, description="connections at once; beyond that, 503")
    metrics_host: str = Field(default="127.0.0.1", description="address for metrics, open to all there")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="its port; 0 takes a free one; no metrics when unset"
    )

    @model_validator(mode="after")
    def _closed_beyond_this_machine(self) -> "Settings":
        if self.keys is None and not is_loopback(self.host):
            raise ValueError(
                "keys: none, and host is not this machine alone; accepted: a file of keys, or 127.0.0.1"
            )
        return self

    def redis_url(self, environ: Mapping[str, str] = os.environ) -> str:
        """The Redis to use, with the password of the file if there is one.

        Raises:
            ValueError: There is none, or the file cannot be read.
        """
        url = self.redis or environ.get("REDIS_URL")
        if not url:
            raise ValueError("redis: not given; accepted: a URL here, in RWKV_TTS_REDIS or in REDIS_URL")
        if self.redis_password_file is None:
            return url
        return with_password(url, read_secret("redis_password_file", self.redis_password_file))


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """One line for each ``RWKV_TTS_GATEWAY_`` variable that means nothing."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [f"{name}: unknown setting; known: {', '.join(known)}" for name in unknown]


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine, which no other can reach."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
