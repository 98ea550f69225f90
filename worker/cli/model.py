"""``rwkv-tts model``: looks at models, adds those that people have, fetches those that are published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from worker.cli.common import CommandError, settings_from
from worker.cli.console import console
from worker.ops import logs
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.speech.files import ModelFiles
    from worker.speech.folder import ModelFolder
    from worker.speech.hub import Plan

model_app = typer.Typer(help="Look at models, add and fetch them.", no_args_is_help=True)

ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="folder of models (env RWKV_TTS_MODELS)", show_default=False)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


@model_app.command()
def info(
    model: Annotated[Path, typer.Argument(help="name, model directory, or folder of a download")],
    models: ModelsOption = None,
) -> None:
    """Show what a model holds."""
    with _told():
        _describe(_settings(models, model).model)


@model_app.command("list")
def list_models(models: ModelsOption = None) -> None:
    """Show the models that a name finds, and the published ones that can be fetched."""
    from worker.speech.folder import model_line
    from worker.speech.published import PUBLISHED

    folder = _folder(models)
    table = Table("model", "MB", "licence", "provenance", box=None, pad_edge=False)
    for name in folder.names():
        table.add_row(*map(escape, (name, *model_line(folder.directory(name)))))
    console.print(table)
    console.print(f"to fetch: {', '.join(name for name in PUBLISHED if name not in folder.names())}")


@model_app.command()
def add(
    source: Annotated[Path, typer.Argument(help="folder of a download, or a checkpoint in one")],
    name: Annotated[str | None, typer.Argument(help="default: that of the folder")] = None,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="folder with what the source lacks, such as the codec")
    ] = None,
    models: ModelsOption = None,
) -> None:
    """Make a model of a download: links to its files, and a config.json, in the folder of models."""
    from worker.speech.files import find_files

    if not source.exists():
        raise CommandError(f"source: {source}: no such file or folder")
    with _told():
        files = find_files(source, *(others or ()))
        _add(_folder(models), name or _named(files.config.name), files)


@model_app.command()
def fetch(
    model: Annotated[str, typer.Argument(help="a published name (see list), or OWNER/REPOSITORY[/FOLDER]")],
    name: Annotated[str | None, typer.Argument(help="default: the published name, or that of the folder")] = None,
    pins: Annotated[
        list[str] | None, typer.Option("--pin", help="OWNER/REPOSITORY@COMMIT to take; default the newest")
    ] = None,
    transcripts: Annotated[bool, typer.Option(help="also what transcripts of recordings need, 1.3 GB")] = True,
    yes: YesOption = False,
    models: ModelsOption = None,
) -> None:
    """Download a published model from Hugging Face, after its licences were shown."""
    try:
        from worker.speech.hub import make_plan
    except ModuleNotFoundError as error:
        hint = "pip install 'rwkv-tts-worker[hub]'"
        raise CommandError(f"model fetch: {error.name} is not installed; {hint}") from None
    folder = _folder(models)
    target = name or _named(model.rpartition("/")[2])
    with _told():
        if folder.directory(target).exists():
            raise CommandError(
                f"name: {target} is there already; accepted: another name, or remove that one first"
            )
        plan = make_plan(model, dict(map(_pin, pins or ())), transcripts=transcripts)
        _show(plan)
        if not yes:
            typer.confirm(f"Download it to {folder.downloads}?", abort=True)
        _add(folder, target, plan.fetch(folder.downloads))


@model_app.command()
def remove(name: str, yes: YesOption = False, models: ModelsOption = None) -> None:
    """Remove a model, and what was downloaded for it alone; files that were added stay where they are."""
    folder = _folder(models)
    with _told():
        if folder.directory(name).exists() and not yes:
            typer.confirm(f"Remove {folder.directory(name)}?", abort=True)
        console.print(f"removed {escape(name)}: {folder.remove(name) / 1e6:.1f} MB are free")


def _settings(models: Path | None, model: Path | None = None) -> Settings:
    settings = settings_from({"models": models, "model": model})
    logs.configure("WARNING", as_json=False)
    return settings


def _folder(models: Path | None) -> "ModelFolder":
    from worker.speech.folder import ModelFolder

    return ModelFolder(_settings(models).models)


@contextmanager
def _told() -> Iterator[None]:
    from worker.speech.config import ModelError

    try:
        yield
    except ModelError as error:
        raise CommandError(str(error)) from None


def _named(found: str) -> str:
    """A name that is easy to type."""
    return found.lower().replace(" ", "-")


def _add(folder: "ModelFolder", name: str, files: "ModelFiles") -> None:
    """Add it if it can speak."""
    with folder.adding(name, files) as made:
        for part, path in files.parts().items():
            console.print(f"{part:17} {path if path.exists() else 'none'}", markup=False)
        _describe(made)
    console.print(f"added; --model {name} finds it", markup=False)


def _describe(directory: Path) -> None:
    from worker.speech.describe import describe  # imports torch

    for name, value in describe(directory).items():
        console.print(f"{name:12} {value}", markup=False)


def _show(plan: "Plan") -> None:
    table = Table("repository", "commit", "MB", "licence", box=None, pad_edge=False)
    for one in plan.downloads:
        table.add_row(*map(escape, (one.repository, one.commit, f"{one.size / 1e6:.1f}", one.licence)))
    console.print(table)


def _pin(given: str) -> tuple[str, str]:
    repository, at, revision = given.partition("@")
    if not (repository and at and revision):
        raise CommandError(f"--pin: {given!r}; accepted: OWNER/REPOSITORY@COMMIT")
    return repository, revision
