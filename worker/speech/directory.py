"""A model directory: one folder with everything that a worker needs to speak.

``config.json`` (this module's ``ModelConfig``), ``rwkv7.*`` (any checkpoint format), ``bicodec/`` (as
published with Spark-TTS), ``voices/*.raf.json`` and, for transcripts of references, ``wav2vec2/``.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from loguru import logger
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from codec.bicodec import ENCODER_KEYS, WEIGHTS_FILE, BiCodec
from codec.voice_encoder import VoiceEncoder
from model.checkpoint import Checkpoint, load_checkpoint
from model.rwkv7 import RWKV7
from model.tokenizer import Encode, TokenizerName, load_tokenizer
from rwkv_tts.attributes import ATTRIBUTES, Attributes, canonical_attribute
from rwkv_tts.voices import VoiceLibrary, Voices
from sampler.layout import TokenLayout
from worker.settings import DEFAULT_MODEL, EngineName
from worker.speech.cloning import LazyFeatures
from worker.text.speakable import TextConfig

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7

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
_OTHER_VOICES = "voice, or the attributes " + ", ".join(ATTRIBUTES)


class ModelConfig(BaseModel):
    """``config.json`` of a model directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tokens: TokenConfig = TokenConfig()
    codec: Literal["bicodec"] = "bicodec"
    features: Literal["wav2vec2", "mel"] = "wav2vec2"
    trained: bool = True
    text: TextConfig = TextConfig()
    attributes: AttributeConfig | None = None
    """None: the model was trained on all values."""
    licence: str
    provenance: str


@dataclass(frozen=True)
class SpeechModel:
    """A loaded model directory.

    Attributes:
        voice_encoder: None when no reference can be used.
        refusals: Fields of a request that the model cannot serve, with the reason and what is accepted.
    """

    config: ModelConfig
    layout: TokenLayout
    encode_text: Encode
    model: "RWKV7 | FastRWKV7"
    codec: BiCodec
    voices: VoiceLibrary | Voices
    voice_encoder: VoiceEncoder | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)


def read_config(directory: Path) -> ModelConfig:
    """Read ``config.json``.

    Raises:
        ModelError: The directory or the file is missing, or a field is wrong.
    """
    path = directory / "config.json"
    if not path.is_file():
        hint = (
            "; a clone of the repository has one there, elsewhere name one: --model DIR"
            if directory == DEFAULT_MODEL
            else ""
        )
        raise ModelError(f"{directory}: not a model directory, it has no config.json{hint}")
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


def open_model(
    directory: Path, device: str = "cpu", threads: int = 1, *, clone: bool = True, engine: EngineName = "auto"
) -> SpeechModel:
    """Load a model directory onto a device.

    Args:
        directory: The model directory.
        device: A torch device.
        threads: CPU threads of each thread that computes; set for the whole process.
        clone: Whether references in requests are to be used, where the directory has what that needs.
        engine: Which forward decodes; auto takes the fast one on a CUDA device where Triton is there, int8 is the
            reference with 8-bit matrices on a CPU.

    Raises:
        ModelError: Something in it is missing, its parts do not fit together, there is no such device, or the
            fast engine cannot run on it or is wrong.
    """
    _check_device(device)
    fast = _is_fast(engine, device)
    torch.set_num_threads(threads)
    config = read_config(directory)
    encode_text, text_size = load_tokenizer(config.tokens.tokenizer)
    layout = TokenLayout(
        semantic_size=config.tokens.semantic_size,
        global_size=config.tokens.global_size,
        globals_per_voice=config.tokens.globals_per_voice,
        text_size=text_size,
    )
    try:
        checkpoint = load_checkpoint(checkpoint_path(directory))
        encoder = clone and _has_encoder(directory / "bicodec")
        codec = BiCodec.load(directory / "bicodec", device, encoder=encoder)
        voices = VoiceLibrary.load(directory / "voices", layout)
    except (ValueError, FileNotFoundError) as error:
        raise ModelError(f"{directory}: {error}") from error
    _check_fit(directory, checkpoint, codec, layout)
    try:
        model = RWKV7(checkpoint, device, layout.head_size, int8=engine == "int8")
    except ValueError as error:
        raise ModelError(str(error)) from error
    decoder = _accelerated(directory, checkpoint, model, codec) if fast else model
    voice_encoder, refusals = _voice_encoder(directory, config, codec, device, clone=clone)
    return SpeechModel(config, layout, encode_text, decoder, codec, voices, voice_encoder, refusals)


def _is_fast(engine: EngineName, device: str) -> bool:
    """Whether the fast engine decodes.

    Raises:
        ModelError: It is asked for and cannot.
    """
    obstacle = None
    if torch.device(device).type != "cuda":
        obstacle = f"device {device!r} is no CUDA device"
    elif find_spec("triton") is None:
        obstacle = "the package triton is missing"
    elif not any(map(shutil.which, [cc] if (cc := os.environ.get("CC")) else ["clang", "gcc"])):
        obstacle = "there is no C compiler, which Triton needs"
    if engine == "cuda" and obstacle:
        raise ModelError(f"engine 'cuda' cannot be used: {obstacle}; accepted: auto, reference, int8")
    if engine == "auto" and obstacle and torch.device(device).type == "cuda":
        logger.warning("engine: plain torch, many times slower than engine 'cuda', because {}", obstacle)
    return engine in ("auto", "cuda") and obstacle is None


def _accelerated(directory: Path, checkpoint: Checkpoint, reference: RWKV7, codec: BiCodec) -> "FastRWKV7":
    """The fast forward, and the fast wave generator in the codec, each compared with its reference.

    Raises:
        ModelError: It does not take the model's sizes, or is wrong.
    """
    from triton import TritonError

    from codec.fast.selftest import adopt  # these need Triton
    from codec.fast.wavegen import FastWaveGenerator
    from model.fast.forward import FastRWKV7
    from model.fast.selftest import check

    try:
        with torch.cuda.device(reference.device):  # Triton launches on the present device
            fast = FastRWKV7(checkpoint, reference.device, reference.head_rows)
            check(fast, reference)
            adopt(codec, FastWaveGenerator(codec.decoder))
    except ValueError as error:
        raise ModelError(f"{directory}: {error}") from error
    except TritonError as error:  # a device that is too small for a kernel, or that Triton does not know
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ModelError(f"engine 'cuda' cannot be used: {reason}; accepted: reference") from error
    return fast


def _has_encoder(directory: Path) -> bool:
    """Whether a codec's weights are more than a decoder's; False as well when they cannot be read."""
    try:
        with safe_open(directory / WEIGHTS_FILE, framework="pt") as file:
            return any(name.startswith(ENCODER_KEYS) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


def _voice_encoder(
    directory: Path, config: ModelConfig, codec: BiCodec, device: str, *, clone: bool
) -> tuple[VoiceEncoder | None, dict[str, str]]:
    """The encoder, and the fields of a request that it leaves unserved."""
    if codec.encoder is None:
        reason = "its bicodec/ has no encoder" if clone else "the setting clone is off"
        return None, {"reference": f"this worker clones no voices, {reason}; accepted: {_OTHER_VOICES}"}
    if config.features == "mel":
        width, mels = codec.config.encoder.input_channels, codec.config.mel_params.num_mels
        if width != mels:
            raise ModelError(
                f"{directory}: features are mel, {mels} a frame, but bicodec/'s encoder takes {width}"
            )
        return VoiceEncoder(codec, codec.mel_features), {}
    features = LazyFeatures(directory / "wav2vec2", device)
    obstacle = features.obstacle()
    if obstacle is None:
        return VoiceEncoder(codec, features), {}
    refusal = f"this worker uses no transcripts, {obstacle}; accepted: reference without reference_text"
    return VoiceEncoder(codec, features), {"reference_text": refusal}


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"device {device!r} cannot be used here: {reason}; accepted: cpu, cuda, cuda:N"
        ) from error


def _check_fit(directory: Path, checkpoint: Checkpoint, codec: BiCodec, layout: TokenLayout) -> None:
    sizes = checkpoint.sizes
    if sizes.vocabulary < layout.vocabulary_size or sizes.head_rows < layout.head_size:
        raise ModelError(
            f"{directory}: the checkpoint has {sizes.vocabulary} embeddings and {sizes.head_rows} head rows; "
            f"its token layout needs {layout.vocabulary_size} and {layout.head_size}"
        )
    ours = (layout.semantic_size, layout.global_size, layout.globals_per_voice)
    theirs = (codec.semantic_size, codec.global_size, codec.globals_per_voice)
    if ours != theirs:
        raise ModelError(
            f"{directory}: tokens (semantic, global, globals per voice) are {ours} in config.json "
            f"but {theirs} in bicodec/"
        )


def describe(directory: Path) -> dict[str, str]:
    """What a model directory holds, as lines for people.

    Raises:
        ModelError: Something in it is missing, or its parts do not fit together.
    """
    speech = open_model(directory)
    config, sizes, codec = speech.config, speech.model.sizes, speech.codec
    return {
        "name": config.name,
        "trained": "yes" if config.trained else "no: random weights, noise instead of speech",
        "licence": config.licence,
        "provenance": config.provenance,
        "rwkv-7": f"{sizes.layers} layers x {sizes.width}, {speech.model.parameters / 1e6:.1f} M parameters",
        "state": f"{speech.model.state(1).nbytes() / 2**20:.2f} MiB for each row",
        "vocabulary": f"{config.tokens.tokenizer} text, {sizes.vocabulary} in, {sizes.head_rows} out",
        "codec": f"{config.codec}, {codec.sample_rate} Hz, {codec.sample_rate / codec.hop:g} tokens a second",
        "text": _text_line(config.text),
        "attributes": _attributes_line(config.attributes),
        "voices": ", ".join(voice.id for voice in speech.voices) or "none",
        "cloning": "; ".join(f"{name}: {reason}" for name, reason in speech.refusals.items()) or "yes",
    }


def _text_line(text: TextConfig) -> str:
    kind = "as it comes" if text.normalizer == "none" else f"{text.normalizer}, numbers and symbols become words"
    return kind if text.longest is None else f"{kind}; trained on up to {text.longest} characters"


def _attributes_line(attributes: AttributeConfig | None) -> str:
    if attributes is None:
        return "all"
    return "; ".join(f"{name} {', '.join(attributes.trained(name))}" for name in ATTRIBUTES)
