"""Settings of a worker: arguments first, then ``RWKV_TTS_...`` variables, then the defaults."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rwkv_tts.audio_store import REDIS, check_results
from rwkv_tts.secrets import read_secret, with_password
from rwkv_tts.tuning import Tunable
from worker.broker.rules import Rules
from worker.devices import Devices, agree
from worker.speech.engines import EngineName, Threads, read_threads

PREFIX = "RWKV_TTS_"
_OF_GATEWAY = "RWKV_TTS_GATEWAY_"
_NAME_BESIDE_DEVICES = 60


def _demo_voice() -> Path:
    """The demo voice: beside the code in a clone, a part of this package in a wheel."""
    here = Path(__file__).resolve().parent
    cloned = here.parent / "assets" / "demo-voice"
    return cloned if cloned.is_dir() else here / "demo_voice"


DEFAULT_MODEL = _demo_voice()


def _at_home(path: Path) -> Path:
    return Path(os.path.expanduser(path))  # not Path.expanduser, which fails where there is no home


class Settings(BaseSettings, Rules, Tunable):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    models: Annotated[Path, AfterValidator(_at_home)] = Field(
        default=Path("~/.local/share/rwkv-tts/models"), description="folder of models that a name finds"
    )
    model: Path = Field(default=DEFAULT_MODEL, description="model directory, or the name of one in models")
    redis: str | None = Field(default=None, description="Redis URL; without it REDIS_URL, else an embedded server")
    redis_password_file: Path | None = Field(
        default=None, description="file with the password of the Redis URL, which then needs none"
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="RQ's name of the worker, its own among all; a random one when unset",
    )
    dequeue_strategy: Literal["default", "round_robin", "random"] = Field(
        default="default", description="how several queues are served: by priority, in turn or at random"
    )
    results: Annotated[str, AfterValidator(check_results)] = Field(
        default=REDIS, description="where audio goes: redis, or a URL at s3://, gs://, az:// or file://"
    )
    device: str = Field(default="cpu", description="torch device, for example cpu or cuda:0")
    devices: Devices = Field(
        default=(),
        description="in place of device, several with a process each: numbers of GPUs, cpu, or all",
    )
    engine: EngineName = Field(
        default="auto",
        description="auto, native (compiled), reference (plain torch), int8 (8-bit matrices) or cuda (Triton)",
    )
    threads: Annotated[Threads, BeforeValidator(read_threads)] = Field(
        default="auto", description="CPU threads of each of engine and vocoder; auto: as many as are faster here"
    )
    compute: Literal["thread", "process"] = Field(
        default="thread",
        description="where the networks run: in threads of the worker, or in a process of their own",
    )
    clone: bool = Field(default=True, description="whether jobs may bring a recording to clone a voice from")
    metrics_host: str = Field(default="127.0.0.1", description="address for metrics and health, open to all there")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="its port; 0 takes a free one; no metrics when unset"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="text, or json: log lines that are one JSON object each"
    )

    @field_validator("model")
    @classmethod
    def _found(cls, model: Path, info: ValidationInfo) -> Path:
        """A name is looked up among the models, unless a folder here has it."""
        named = info.data.get("models", Path()) / model
        return named if len(model.parts) == 1 and not model.exists() and named.is_dir() else model

    @field_validator("devices")
    @classmethod
    def _in_place_of_device(cls, devices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        device, name = info.data.get("device", "cpu"), info.data.get("name") or ""
        if devices and not agree(devices, device):
            raise ValueError(f"given beside device {device}; accepted: one of the two, or device cuda beside GPUs")
        if devices and len(name) > _NAME_BESIDE_DEVICES:
            raise ValueError(
                f"name gets their numbers; accepted: a name of up to {_NAME_BESIDE_DEVICES} characters"
            )
        return devices

    def redis_url(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """The Redis to use, with the password of the file if there is one; None where no Redis is configured.

        Raises:
            ValueError: The file cannot be read, or there is no URL for its password.
        """
        url = self.redis or environ.get("REDIS_URL") or None
        if self.redis_password_file is None:
            return url
        if url is None:
            raise ValueError("redis_password_file: there is no Redis URL; accepted: beside redis or REDIS_URL")
        return with_password(url, read_secret("redis_password_file", self.redis_password_file))


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """One line for each ``RWKV_TTS_`` variable that means nothing, with the nearest name that does.

    Those of the gateway are its own.
    """
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    lines = []
    for name in sorted(environ):
        ours = name.upper().startswith(PREFIX) and not name.upper().startswith(_OF_GATEWAY)
        if ours and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            lines.append(f"{name}: unknown setting{hint}")
    return lines
