"""The published models, from Hugging Face: what is to be downloaded, at which commit, under which licence.

Nothing of a repository is run: of its files only weights, configurations and model cards are asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is of the library below it
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from worker.speech.config import ModelError
from worker.speech.files import SUFFIXES, ModelFiles, find_files, preferred
from worker.speech.published import CODEC_REPOSITORY, PUBLISHED

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CODEC = ("BiCodec/config.yaml", "BiCodec/model.safetensors")
_TRANSCRIPTS = "wav2vec2-large-xlsr-53/"


@dataclass(frozen=True)
class Download:
    """Files of a repository at one commit.

    Attributes:
        licence: As its model card names it.
        files: Their paths there, with their bytes.
    """

    repository: str
    commit: str
    licence: str
    files: Mapping[str, int]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.files.values())

    def folder(self, downloads: Path) -> Path:
        """Where it goes: another commit goes elsewhere."""
        return downloads / self.repository.replace("/", "--") / self.commit


@dataclass(frozen=True)
class Plan:
    """What a model takes.

    Attributes:
        checkpoint: Of the language model, in the first download.
    """

    checkpoint: str
    downloads: Sequence[Download]

    def fetch(self, downloads: Path) -> ModelFiles:
        """Download what is not there yet; a file that is whole is kept when another one fails.

        Raises:
            ModelError: The hub cannot be reached or refuses, or the files are no model.
        """
        folders = [one.folder(downloads) for one in self.downloads]
        for one, folder in zip(self.downloads, folders, strict=True):
            with _told(one.repository):
                snapshot_download(
                    one.repository, revision=one.commit, local_dir=folder, allow_patterns=list(one.files)
                )
        files = find_files(folders[0] / self.checkpoint, *folders)
        told = {
            "licence": "; ".join(f"{one.repository}: {one.licence}" for one in self.downloads),
            "provenance": ", ".join(f"{one.repository}@{one.commit}" for one in self.downloads),
        }
        return replace(files, config=files.config.model_copy(update=told))


def make_plan(source: str, pins: Mapping[str, str], *, transcripts: bool) -> Plan:
    """Ask the hub what a model takes.

    Args:
        source: A name of ``PUBLISHED``, or a repository, or a folder of one: ``owner/name/folder``.
        pins: Revisions of repositories; else the newest commit is taken.
        transcripts: Whether to take what transcripts of recordings need.

    Raises:
        ModelError: There is no such model, or the hub cannot be reached or refuses.
    """
    path = PUBLISHED.get(source, source)
    if "/" not in path:
        raise ModelError(f"name: {source!r}; accepted: {', '.join(PUBLISHED)}, or OWNER/REPOSITORY[/FOLDER]")
    owner, name, *folder = path.split("/")
    model = _listed(f"{owner}/{name}", pins)
    checkpoint = _checkpoint(model, "/".join(folder))
    codec = model if model.files.keys() >= set(_CODEC) else _listed(CODEC_REPOSITORY, pins)
    wanted = [*_CODEC, *(path for path in codec.files if transcripts and path.startswith(_TRANSCRIPTS))]
    voices = [path for path in model.files if path.endswith(".raf.json")]
    if codec is model:
        return Plan(checkpoint, [_only(model, [checkpoint, *voices, *wanted])])
    return Plan(checkpoint, [_only(model, [checkpoint, *voices]), _only(codec, wanted)])


def _listed(repository: str, pins: Mapping[str, str]) -> Download:
    """All files of a repository."""
    with _told(repository):
        info = HfApi().model_info(repository, revision=pins.get(repository), files_metadata=True)
    commit = str(info.sha)
    files = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    if not _COMMIT.fullmatch(commit) or any(".." in PurePosixPath(name).parts for name in files):
        raise ModelError(f"{repository}: {HfApi().endpoint} answers with a commit or a path that cannot be one")
    licence = info.card_data.get("license") if info.card_data else None
    return Download(repository, commit, str(licence or "unknown, see its model card"), files)


def _only(listed: Download, wanted: Sequence[str]) -> Download:
    """Those files, and the model cards, which name the licence.

    Raises:
        ModelError: One of them is not there.
    """
    if lacking := [path for path in wanted if path not in listed.files]:
        raise ModelError(f"{listed.repository}@{listed.commit}: has no file {lacking[0]}")
    taken = {*wanted, "README.md"} & listed.files.keys()
    return replace(listed, files={path: listed.files[path] for path in sorted(taken)})


def _checkpoint(listed: Download, folder: str) -> str:
    """The language model's file in a folder of a repository.

    Raises:
        ModelError: There is none, or several could be meant.
    """
    paths = [PurePosixPath(path) for path in listed.files]
    found = [path for path in paths if path.suffix in SUFFIXES and path.parent == PurePosixPath(folder)]
    if (one := preferred(found)) is not None:
        return str(one)
    there = ", ".join(map(str, found)) or "none"
    raise ModelError(
        f"{listed.repository}/{folder}: checkpoints there: {there}; accepted: a folder with one, of "
        f"{', '.join(sorted({str(path.parent) for path in paths if path.suffix in SUFFIXES})) or 'none'}"
    )


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What the hub or the way to it says, as one line."""
    try:
        yield
    except RepositoryNotFoundError:
        raise ModelError(f"{repository}: not on {HfApi().endpoint}, or not open to you (HF_TOKEN)") from None
    except RevisionNotFoundError:
        raise ModelError(f"{repository}: has no such revision on {HfApi().endpoint}") from None
    except (HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{repository}: not fetched from {HfApi().endpoint}: {reason}; run it again to go on, "
            "with HF_ENDPOINT for a mirror"
        ) from error
