"""A folder of models, each a model directory under its name: mostly links to files that lie elsewhere."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.speech.config import ModelError, checkpoint_path, read_config, write_config
from worker.speech.files import ModelFiles

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelFolder:
    """The models that a name finds.

    Args:
        path: The folder, which need not be there yet.

    Attributes:
        downloads: What came from a hub, which models link to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.downloads = path / ".hub"

    def names(self) -> list[str]:
        """Of the models that are there."""
        return sorted(path.parent.name for path in self._path.glob("[!.]*/config.json"))

    def directory(self, name: str) -> Path:
        """Where a model is, or is to be.

        Raises:
            ModelError: The name cannot be one.
        """
        if not _NAME.fullmatch(name):
            raise ModelError(f"name: {name!r}; accepted: up to 64 letters, digits, `.`, `_`, `-`")
        return self._path / name

    @contextmanager
    def adding(self, name: str, files: ModelFiles) -> Iterator[Path]:
        """Link a model's files under a name that is free; it is there when the block ends without an error.

        Raises:
            ModelError: The name is taken or cannot be one.
        """
        target = self.directory(name)
        if target.exists():
            raise ModelError(
                f"name: {name} is in {self._path} already; accepted: another, or remove that one first"
            )
        made = self._path / f".{name}.new"
        shutil.rmtree(made, ignore_errors=True)
        try:
            self._link(made, files)
            write_config(made, files.config.model_copy(update={"name": name}))
            yield made
            made.rename(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _link(self, made: Path, files: ModelFiles) -> None:
        made.mkdir(parents=True)
        for name, path in files.parts().items():
            if path.exists():
                self._point(made / name, path)

    def _point(self, link: Path, path: Path) -> None:
        """Link a file, or those of a folder: relatively inside this one, so that it can be mounted elsewhere."""
        if path.is_dir():
            link.mkdir()
            for file in filter(Path.is_file, path.iterdir()):
                self._point(link / file.name, file)
            return
        whole, inside = path.resolve(), self._path.resolve()
        link.symlink_to(os.path.relpath(whole, link.parent.resolve()) if whole.is_relative_to(inside) else whole)

    def remove(self, name: str) -> int:
        """Remove a model, and of the downloads what no other model links to.

        Returns:
            Bytes that are free now.

        Raises:
            ModelError: There is no such model.
        """
        target = self.directory(name)
        if not target.is_dir():
            known = ", ".join(self.names()) or "none"
            raise ModelError(f"name: {name} is not in {self._path}; there: {known}")
        before, mine = _size(self._path), self._downloads(name)
        shutil.rmtree(target)
        for download in mine - self._downloads("[!.]*"):
            shutil.rmtree(download)
        return before - _size(self._path)

    def _downloads(self, names: str) -> set[Path]:
        """Those that models link to."""
        linked = [path.resolve() for path in self._path.glob(f"{names}/**/*") if path.is_symlink()]
        whole = [path.resolve() for path in self.downloads.glob("*/*")]
        return {path for path in whole if any(one.is_relative_to(path) for one in linked)}


def model_line(directory: Path) -> tuple[str, str, str]:
    """Megabytes, licence and provenance of a model, or what is wrong with it."""
    try:
        config, weights = read_config(directory), checkpoint_path(directory)
    except ModelError as error:
        return "-", "-", str(error)
    parts = (path for name in ("bicodec", "wav2vec2") for path in (directory / name).rglob("*.*"))
    size = sum(path.stat().st_size for path in (weights, *parts))
    return f"{size / 1e6:.1f}", config.licence, config.provenance


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
