"""Settings of a worker: arguments first, then ``RWKV_TTS_...`` variables, then the defaults."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.broker.rules import Rules

PREFIX = "RWKV_TTS_"
DEFAULT_MODEL = Path(__file__).resolve().parents[1] / "assets" / "demo-voice"
"""The demo voice, which comes with a clone of the repository."""
EngineName = Literal["auto", "reference", "cuda"]
LogLevel = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"]


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings, Rules):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    model: Path = Field(default=DEFAULT_MODEL, description="model directory")
    redis: str | None = Field(default=None, description="Redis URL; without it REDIS_URL, else an embedded server")
    device: str = Field(default="cpu", description="torch device, for example cpu or cuda:0")
    engine: EngineName = Field(
        default="auto", description="auto, reference (plain torch) or cuda (Triton, graphs)"
    )
    token_chunk_size: int = Field(default=256, ge=1, description="prompt tokens that one step may prefill")
    max_rows: int = Field(default=16, ge=1, le=4096, description="utterances that decode at once")
    threads: int = Field(default=1, ge=1, description="CPU threads of each of engine and vocoder")
    clone: bool = Field(default=True, description="whether jobs may bring reference audio to clone a voice from")
    log_level: Annotated[LogLevel, BeforeValidator(_upper)] = Field(
        default="WARNING", description="TRACE, DEBUG, INFO, WARNING or ERROR"
    )

    def redis_url(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """The Redis to use, or None where none is configured."""
        return self.redis or environ.get("REDIS_URL") or None


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """One line for each ``RWKV_TTS_`` variable that means nothing, with the nearest name that does."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    lines = []
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            lines.append(f"{name}: unknown setting{hint}")
    return lines
