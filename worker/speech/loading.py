"""Loads a model directory onto a device."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from loguru import logger
from safetensors import SafetensorError, safe_open

from codec.bicodec import ENCODER_KEYS, WEIGHTS_FILE, BiCodec
from codec.native.selftest import adopt as adopt_compiled
from codec.native.wavegen import NativeWaveGenerator
from codec.voice_encoder import VoiceEncoder
from model.checkpoint import Checkpoint, load_checkpoint
from model.native.forward import NativeRWKV7
from model.native.selftest import check
from model.rwkv7 import RWKV7
from model.tokenizer import Encode, load_tokenizer
from native.cores import available, fastest
from native.library import UnavailableError
from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.voice_store import VoiceStore
from sampler.layout import TokenLayout
from worker.compute.local import LocalCompute
from worker.speech.catalogue import VoiceCatalogue, read_voices
from worker.speech.cloning import LazyFeatures
from worker.speech.config import ModelConfig, ModelError
from worker.speech.engines import EngineName, Threads
from worker.speech.files import ModelFiles, find_files
from worker.speech.heap import share_heap
from worker.speech.kernels import check_kernel_cache, unusable_cache
from worker.speech.model import LocalModel
from worker.text import traditional

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7

_OTHER_VOICES = "voice, or the attributes " + ", ".join(ATTRIBUTES)


def open_model(
    directory: Path,
    device: str = "cpu",
    threads: Threads = 1,
    *,
    clone: bool = True,
    engine: EngineName = "auto",
    kept_voices: VoiceStore | None = None,
) -> LocalModel:
    """Load a model directory onto a device.

    Args:
        directory: The model directory.
        device: A torch device.
        threads: CPU threads of each thread that computes; torch's are set for the whole process, as is its heap.
            With auto, torch has one, and compiled code as many as make it clearly faster here.
        clone: Whether recordings in requests are to be used, where the directory has what that needs.
        engine: Which forward decodes; auto takes the fast one on a CUDA device where Triton is there and the
            compiled one on a CPU, int8 is the reference with 8-bit matrices on a CPU.
        kept_voices: The voices that are kept in Redis.

    Raises:
        ModelError: Something in it is missing, its parts do not fit together, there is no such device, or the
            engine cannot run on it or is wrong.
    """
    _check_device(device)
    fast = _is_fast(engine, device)
    torch.set_num_threads(1 if threads == "auto" else threads)
    share_heap()
    host = read_host_side(directory, kept_voices)
    files, layout = host.files, host.layout
    try:
        checkpoint = load_checkpoint(files.checkpoint)
        encoder = clone and _has_encoder(files.codec)
        codec = BiCodec.load(files.codec, device, encoder=encoder)
    except (ValueError, FileNotFoundError) as error:
        raise ModelError(f"{directory}: {error}") from error
    _check_fit(directory, checkpoint, codec, layout)
    decoder = _decoder(directory, checkpoint, layout.head_size, device, engine, codec if fast else None)
    if engine != "reference" and torch.device(device).type == "cpu":
        _compile_waves(codec, threads)
    if isinstance(decoder, NativeRWKV7):
        _share(decoder, threads)
    logger.info("engine: {}", decoder.description)
    voice_encoder, refusals = _voice_encoder(directory, files, codec, device, clone=clone)
    sha256 = _digest(files.checkpoint, files.codec / WEIGHTS_FILE)
    compute = LocalCompute(decoder, layout, codec, voice_encoder)
    return LocalModel(host.config, layout, host.encode_text, compute, host.voices, refusals, sha256)


@dataclass(frozen=True)
class HostSide:
    """What of a model directory needs no network.

    Attributes:
        files: What there is.
        layout: Its tokens.
        voices: Its own, and those that are kept in Redis.
    """

    files: ModelFiles
    layout: TokenLayout
    encode_text: Encode
    voices: VoiceCatalogue

    @property
    def config(self) -> ModelConfig:
        return self.files.config


def read_host_side(directory: Path, kept_voices: VoiceStore | None = None) -> HostSide:
    """Read of a model directory what needs no network.

    Raises:
        ModelError: Something of it is missing or wrong.
    """
    files = find_files(directory)
    config = files.config
    _check_text(directory, config)
    encode_text, text_size = load_tokenizer(config.tokens.tokenizer)
    layout = TokenLayout(
        semantic_size=config.tokens.semantic_size,
        global_size=config.tokens.global_size,
        globals_per_voice=config.tokens.globals_per_voice,
        text_size=text_size,
    )
    try:
        voices = VoiceCatalogue(read_voices(files.voices, layout), layout, kept_voices)
    except (ValueError, FileNotFoundError) as error:
        raise ModelError(f"{directory}: {error}") from error
    return HostSide(files, layout, encode_text, voices)


def _decoder(
    directory: Path, checkpoint: Checkpoint, head_rows: int, device: str, engine: EngineName, fast: BiCodec | None
) -> "RWKV7 | NativeRWKV7 | FastRWKV7":
    """The forward, and with a codec that is to be ``fast`` on a GPU, that one too."""
    if engine == "native" or (engine == "auto" and torch.device(device).type == "cpu"):
        try:
            return _compiled(checkpoint, head_rows, device)
        except UnavailableError as error:
            if engine == "native":
                raise ModelError(
                    f"engine 'native' cannot be used: {error}; accepted: auto, reference, int8"
                ) from error
            logger.warning("engine: plain torch, several times slower than compiled code, because {}", error)
    try:
        reference = RWKV7(checkpoint, device, head_rows, int8=engine == "int8")
    except ValueError as error:
        raise ModelError(str(error)) from error
    return _accelerated(directory, checkpoint, reference, fast) if fast else reference


def _compiled(checkpoint: Checkpoint, head_rows: int, device: str) -> NativeRWKV7:
    """The compiled forward, once it has been right.

    Raises:
        UnavailableError: It cannot be had.
    """
    if torch.device(device).type != "cpu":
        raise UnavailableError(f"device {device!r} is no CPU")
    check(checkpoint)
    return NativeRWKV7(checkpoint, head_rows)


def _share(work: NativeRWKV7 | NativeWaveGenerator, threads: Threads) -> None:
    """Have compiled code use so many threads, or those that are measured to be worth it."""
    work.use(fastest(work.seconds, available()) if threads == "auto" else threads)


def _compile_waves(codec: BiCodec, threads: Threads) -> None:
    """Compiled code for the wave generator; where it cannot be had, plain torch, and a warning."""
    try:
        native = adopt_compiled(codec)
        _share(native, threads)
        logger.info("vocoder: compiled, up to {} threads", native.threads)
    except UnavailableError as error:
        logger.warning("vocoder: plain torch, several times slower than compiled code, because {}", error)


def _digest(*paths: Path) -> str:
    """Of several files; they have just been read, so that they come from memory."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _is_fast(engine: EngineName, device: str) -> bool:
    """Whether the fast engine decodes.

    Raises:
        ModelError: It is asked for and cannot, or there is no place for its kernels.
    """
    obstacle = None
    if torch.device(device).type != "cuda":
        obstacle = f"device {device!r} is no CUDA device"
    elif find_spec("triton") is None:
        obstacle = "the package triton is missing"
    elif not any(map(shutil.which, [cc] if (cc := os.environ.get("CC")) else ["clang", "gcc"])):
        obstacle = "there is no C compiler, which Triton needs"
    if engine == "cuda" and obstacle:
        raise ModelError(f"engine 'cuda' cannot be used: {obstacle}; accepted: auto, reference, native, int8")
    if engine == "auto" and obstacle and torch.device(device).type == "cuda":
        logger.warning("engine: plain torch, many times slower than engine 'cuda', because {}", obstacle)
    fast = engine in ("auto", "cuda") and obstacle is None
    if fast:
        check_kernel_cache()
    return fast


def _accelerated(directory: Path, checkpoint: Checkpoint, reference: RWKV7, codec: BiCodec) -> "FastRWKV7":
    """The fast forward, and the fast wave generator in the codec, each compared with its reference.

    Raises:
        ModelError: It does not take the model's sizes, or is wrong.
    """
    from triton import TritonError

    from codec.fast.decoder import FastDecoder  # these need Triton
    from codec.fast.selftest import adopt
    from model.fast.forward import FastRWKV7
    from model.fast.selftest import check as check_fast

    try:
        with torch.cuda.device(reference.device):  # Triton launches on the present device
            fast = FastRWKV7(checkpoint, reference.device, reference.head_rows)
            check_fast(fast, reference)
            adopt(codec, FastDecoder(codec))
    except ValueError as error:
        raise ModelError(f"{directory}: {error}") from error
    except (OSError, ImportError) as error:  # of the compiler and the loader: full, read-only, not to be mapped
        raise unusable_cache(str(error)) from error
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
    directory: Path, files: ModelFiles, codec: BiCodec, device: str, *, clone: bool
) -> tuple[VoiceEncoder | None, dict[str, str]]:
    """The encoder, and the fields of a request that it leaves unserved."""
    if codec.encoder is None:
        reason = "its bicodec/ has no encoder" if clone else "the setting clone is off"
        return None, {"reference": f"this worker clones no voices, {reason}; accepted: {_OTHER_VOICES}"}
    if files.config.features == "mel":
        width, mels = codec.config.encoder.input_channels, codec.config.mel_params.num_mels
        if width != mels:
            raise ModelError(
                f"{directory}: features are mel, {mels} a frame, but bicodec/'s encoder takes {width}"
            )
        return VoiceEncoder(codec, codec.mel_features), {}
    features = LazyFeatures(files.wav2vec2, device)
    obstacle = features.obstacle()
    if obstacle is None:
        return VoiceEncoder(codec, features), {}
    refusal = f"this worker uses no transcripts, {obstacle}; accepted: reference without reference_text"
    return VoiceEncoder(codec, features), {"reference_text": refusal}


def _check_text(directory: Path, config: ModelConfig) -> None:
    if config.text.traditional == "folded" and (obstacle := traditional.obstacle()) is not None:
        raise ModelError(f"{directory}: config.json folds traditional characters, but {obstacle}")


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
