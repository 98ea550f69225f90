"""Where the parts of a model are: in a model directory, or in a folder as people have it after a download.

A download has no ``config.json`` of ours, and its parts have the names that their publishers gave them. What is
missing is named, with where to get it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TypeVar

import yaml

from codec.bicodec import CONFIG_FILE, WEIGHTS_FILE
from codec.config import BiCodecConfig
from codec.config import read_config as read_codec_config
from model.checkpoint import CheckpointError, tensor_names
from worker.speech.config import ModelConfig, ModelError, TokenConfig, checkpoint_path, read_config
from worker.speech.published import CODEC_REPOSITORY

SUFFIXES = (".safetensors", ".st", ".pth", ".bin")
_KNOWN = ("rwkv7", "model", "webrwkv", "model_converted", "model_padded", "pytorch_model")
"""Names of one model's files, of which a folder may hold several; the first that is there is taken."""
_MARK = "emb.weight", "embeddings.weight"
_POINTER = b"version https://git-lfs"
_DEPTH = 2

AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclass(frozen=True)
class ModelFiles:
    """The parts of a model, found.

    Attributes:
        codec: The folder with ``config.yaml`` and ``model.safetensors``.
        voices: A folder of voices; there need be none.
        wav2vec2: A folder as Hugging Face has it; there need be none.
    """

    config: ModelConfig
    checkpoint: Path
    codec: Path
    voices: Path
    wav2vec2: Path

    def parts(self) -> dict[str, Path]:
        """By the names that a model directory has for them; those of the last two need not be there."""
        suffix = ".pth" if self.checkpoint.suffix == ".bin" else self.checkpoint.suffix
        named = {"bicodec": self.codec, "voices": self.voices, "wav2vec2": self.wav2vec2}
        return {f"rwkv7{suffix}": self.checkpoint} | named


def find_files(source: Path, *others: Path) -> ModelFiles:
    """Find the parts of a model.

    Args:
        source: A model directory, a download, or a checkpoint in one.
        others: Where to look for what the source lacks.

    Raises:
        ModelError: A part is missing, in doubt or unreadable.
    """
    if not _is_foreign(source):
        return ModelFiles(
            read_config(source),
            checkpoint_path(source),
            *(source / name for name in ("bicodec", "voices", "wav2vec2")),
        )
    checkpoint, folder = (source, source.parent) if source.is_file() else (_checkpoint(source), source)
    roots = (folder, *others)
    codec = _codec(source, roots)
    return ModelFiles(
        _derived_config(source, checkpoint, codec),
        checkpoint,
        codec,
        _voices(roots) or folder / "voices",
        _wav2vec2(roots) or folder / "wav2vec2",
    )


def _is_foreign(source: Path) -> bool:
    """Whether there is no ``config.json`` of ours: Hugging Face's has names of its own."""
    path = source / "config.json"
    if not path.is_file():
        return source.exists()
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and not content.keys().isdisjoint(("model_type", "architectures"))


def _checkpoint(folder: Path) -> Path:
    """The language model's file, nearest to the top.

    Raises:
        ModelError: There is none, or several folders or files could be meant.
    """
    faults: list[str] = []
    for depth in range(_DEPTH + 1):
        found = [path for path in _below(folder, depth) if path.suffix in SUFFIXES and _speaks(path, faults)]
        if found:
            return _chosen(folder, found)
    faults += [f"{path.name}: quantised, which is not read" for path in folder.rglob("*.prefab")]
    raise ModelError(
        f"{folder}: not a model directory: no config.json of ours and no RWKV-7 checkpoint, "
        f"{' or '.join(f'*{suffix}' for suffix in SUFFIXES)}{'; ' if faults else ''}{'; '.join(faults[:3])}"
    )


def _below(folder: Path, depth: int) -> list[Path]:
    return sorted(path for path in folder.glob("/".join(["*"] * (depth + 1))) if path.is_file())


def _chosen(folder: Path, found: Sequence[Path]) -> Path:
    if (one := preferred(found)) is not None:
        return one
    names = ", ".join(str(path.relative_to(folder)) for path in found)
    raise ModelError(f"{folder}: several checkpoints, {names}; accepted: the path of one of them")


def preferred(found: Sequence[AnyPath]) -> AnyPath | None:
    """The one to take of a model's files in several formats; None where they could be several models."""
    known = [path for path in found if path.stem in _KNOWN]
    if known and len({path.parent for path in found}) == 1:
        return min(known, key=lambda path: (_KNOWN.index(path.stem), SUFFIXES.index(path.suffix)))
    return found[0] if len(found) == 1 else None


def _speaks(path: Path, faults: list[str]) -> bool:
    """Whether a file holds an RWKV-7 language model: the codec's and other models' files do not."""
    try:
        _check_whole(path)
        names = tensor_names(path)
    except (CheckpointError, ModelError) as error:
        faults.append(str(error))
        return False
    return any(name.lower().endswith(_MARK) for name in names) and any(".r_k" in name for name in names)


def _check_whole(path: Path) -> None:
    """Refuse what stands for a file in a clone without Git LFS."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ModelError(f"{path}: a Git LFS pointer, not the file itself; `git lfs pull` gets it")


def _codec(source: Path, roots: Sequence[Path]) -> Path:
    """The codec's folder.

    Raises:
        ModelError: There is none, or a file of it is missing.
    """
    found = [path for path in _folders(roots, ("bicodec",)) if (path / CONFIG_FILE).is_file()]
    if found and (found[0] / WEIGHTS_FILE).is_file():
        _check_whole(found[0] / WEIGHTS_FILE)
        return found[0]
    lacks = f"{found[0]}/{WEIGHTS_FILE}" if found else f"a folder BiCodec with {CONFIG_FILE} and {WEIGHTS_FILE}"
    onnx = any(path for root in roots for path in root.rglob("BiCodec*.onnx"))
    raise ModelError(
        f"{source}: the codec is missing: {lacks}{' (ONNX files are not read)' if onnx else ''}; it is in "
        f"{CODEC_REPOSITORY}: hf download {CODEC_REPOSITORY} --include 'BiCodec/*' --local-dir Spark-TTS-0.5B, "
        "then `rwkv-tts model add` with --with Spark-TTS-0.5B"
    )


def _voices(roots: Sequence[Path]) -> Path | None:
    return next((path for path in _folders(roots, ("voices", "raf")) if any(path.glob("*.raf.json"))), None)


def _wav2vec2(roots: Sequence[Path]) -> Path | None:
    return next((path for path in _folders(roots, ("wav2vec2",)) if (path / "config.json").is_file()), None)


def _folders(roots: Iterable[Path], starts: tuple[str, ...]) -> list[Path]:
    """Folders whose name begins so: each root itself, what is in it, and what is beside it."""
    found = []
    for root in (one.resolve() for one in roots):
        inside = [path for depth in range(_DEPTH) for path in sorted(root.glob("/".join(["*"] * (depth + 1))))]
        beside = [*sorted(root.parent.glob("*")), *sorted(root.parent.glob("Spark-TTS*/*"))]
        found += [path for path in (root, *inside, *beside) if path.name.lower().startswith(starts)]
    return [path for path in found if path.is_dir()]


def _derived_config(source: Path, checkpoint: Path, codec: Path) -> ModelConfig:
    """What the files themselves say.

    Raises:
        ModelError: The codec's configuration is wrong.
    """
    try:
        sizes = read_codec_config(codec / CONFIG_FILE)
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from error
    here = source.resolve()
    return ModelConfig(
        name=here.stem if here.is_file() else here.name,
        tokens=TokenConfig(
            semantic_size=sizes.quantizer.codebook_size,
            global_size=sizes.global_size,
            globals_per_voice=sizes.speaker_encoder.token_num,
        ),
        features=_features(sizes),
        licence=_licences(checkpoint, codec),
        provenance=f"{checkpoint.name} and {codec.name} as they were found in {here.name}",
    )


def _features(sizes: BiCodecConfig) -> Literal["mel", "wav2vec2"]:
    return "mel" if sizes.encoder.input_channels == sizes.mel_params.num_mels else "wav2vec2"


def _licences(checkpoint: Path, codec: Path) -> str:
    """What the model cards beside both parts say."""
    return f"{_licence(checkpoint.parent)}; codec: {_licence(codec)}"


def _licence(folder: Path) -> str:
    for card in (folder / "README.md", folder.parent / "README.md"):
        if card.is_file() and (licence := card_licence(card.read_text(encoding="utf-8", errors="replace"))):
            return licence
    return "unknown, see its model card"


def card_licence(card: str) -> str | None:
    """The licence that the head of a model card names."""
    start, _, rest = card.partition("---\n")
    if start.strip() or "\n---" not in rest:
        return None
    try:
        head = yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:
        return None
    licence = head.get("license") if isinstance(head, dict) else None
    return str(licence) if licence else None
