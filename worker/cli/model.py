"""``rwkv-tts model``: looks at model directories."""

from pathlib import Path

import typer

from worker.cli.console import console
from worker.ops import logs

model_app = typer.Typer(help="Look at model directories.", no_args_is_help=True)


@model_app.command()
def info(directory: Path) -> None:
    """Show what a model directory holds."""
    from worker.speech.config import ModelError
    from worker.speech.describe import describe  # imports torch

    logs.configure("WARNING", as_json=False)
    try:
        for name, value in describe(directory).items():
            console.print(f"{name:12} {value}")
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
