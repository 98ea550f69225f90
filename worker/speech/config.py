"""A model directory: one folder with everything that a worker needs to speak.

``config.json`` (``ModelConfig``), ``rwkv7.*`` (any checkpoint format), ``bicodec/`` (as published with Spark-TTS),
``voices/*.raf.json`` and, for transcripts of recordings, ``wav2vec2/``.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from model.tokenizer import TokenizerName
from rwkv_tts.attributes import ATTRIBUTES, Attributes, canonical_attribute
from worker.text.speakable import TextConfig

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".st")


class ModelError(ValueError):
    """A model directory cannot be used; the message says which file and why."""


class TokenConfig(BaseModel):
    """Sizes of the token blocks; the defaults are the published ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    semantic_size: int = Field(default=8192, gt=0)
    global_size: int = Field(default=4096, gt=0)
    globals_per_voice: int = Field(default=32, gt=0)
    tokenizer: TokenizerName = "world"


def _values(name: str) -> AfterValidator:
    return AfterValidator(lambda values: tuple(canonical_attribute(name, value) for value in values))


_Values = Annotated[tuple[str, ...], Field(min_length=1)]


class AttributeConfig(BaseModel):
    """The attribute values that a model was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    age: Annotated[_Values, _values("age")]
    gender: Annotated[_Values, _values("gender")]
    emotion: Annotated[_Values, _values("emotion")]
    pitch: Annotated[_Values, _values("pitch")]
    speed: Annotated[_Values, _values("speed")]

    def trained(self, name: str) -> tuple[str, ...]:
        """The values of one attribute."""
        values: tuple[str, ...] = getattr(self, name)
        return values

    def nearest(self, name: str, value: str) -> str:
        """The trained value to use for ``value``: the closest on a scale, else the default where that is one."""
        trained, order = self.trained(name), list(ATTRIBUTES[name])
        default: str = getattr(Attributes(), name)
        if value in trained:
            return value
        if name in _SCALES:
            return min(trained, key=lambda other: abs(order.index(other) - order.index(value)))
        return default if default in trained else trained[0]


_SCALES = ("age", "pitch", "speed")


class ModelConfig(BaseModel):
    """``config.json`` of a model directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tokens: TokenConfig = TokenConfig()
    codec: Literal["bicodec"] = "bicodec"
    features: Literal["wav2vec2", "mel"] = "wav2vec2"
    trained: bool = True
    lookahead: int = Field(default=24, ge=0)
    """Tokens that the samples of a stream wait for; more are more exact, fewer sooner heard."""
    text: TextConfig = TextConfig()
    attributes: AttributeConfig | None = None
    """None: the model was trained on all values."""
    licence: str
    provenance: str


def read_config(directory: Path) -> ModelConfig:
    """Read ``config.json``.

    Raises:
        ModelError: The directory or the file is missing, or a field is wrong.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise ModelError(f"{directory}: not a model directory, it has no config.json")
    try:
        return ModelConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(f"{path}: {where}: {first['msg']}") from error


def write_config(directory: Path, config: ModelConfig) -> None:
    """Write ``config.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config.model_dump(), indent=2, ensure_ascii=False) + "\n")


def checkpoint_path(directory: Path) -> Path:
    """The one ``rwkv7.*`` file.

    Raises:
        ModelError: There is none, or more than one.
    """
    found = [path for suffix in CHECKPOINT_SUFFIXES if (path := directory / f"rwkv7{suffix}").is_file()]
    if len(found) != 1:
        names = ", ".join(f"rwkv7{suffix}" for suffix in CHECKPOINT_SUFFIXES)
        raise ModelError(f"{directory}: found {len(found)} checkpoints; expected exactly one of {names}")
    return found[0]
