"""The stages of training, one command each; see the README beside this file.

python scripts/train_demo_voice STAGE --work DIRECTORY ...
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from train_demo_voice import corpus as corpora

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Work = Annotated[Path, typer.Option(help="Where all stages keep their files.")]
Device = Annotated[str, typer.Option(help="A torch device.")]
TotalSeconds = Annotated[float, typer.Option(help="Length of the whole schedule, over all calls.")]
LimitSeconds = Annotated[float, typer.Option(help="End this call with a checkpoint after so long.")]

DEFAULT_WORK = Path("out/demo-voice")
DEFAULT_DEVICE = "cuda"


class Phase(StrEnum):
    SPECTRAL = "spectral"
    ADVERSARIAL = "adversarial"


@app.command()
def corpus(
    work: Work = DEFAULT_WORK,
    hours: Annotated[float, typer.Option(help="Of speech.")] = 120.0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 15,
    seed: int = 0,
) -> None:
    """Let the teacher speak generated texts; goes on where it stopped."""
    corpora.generate(work, hours, workers, seed)


@app.command()
def codec(
    phase: Phase,
    work: Work = DEFAULT_WORK,
    total_seconds: TotalSeconds = 420.0,
    limit_seconds: LimitSeconds = 560.0,
    device: Device = DEFAULT_DEVICE,
) -> None:
    """Train the codec: `spectral`, then `adversarial` (which leaves the tokens as they are)."""
    from train_demo_voice.codec_training import train_codec

    train_codec(work, phase.value, total_seconds, limit_seconds, device)


@app.command()
def tokens(work: Work = DEFAULT_WORK, device: Device = DEFAULT_DEVICE) -> None:
    """Turn the corpus into tokens with the trained codec."""
    from train_demo_voice.tokens import tokenise

    tokenise(work, device)


@app.command()
def warm(device: Device = DEFAULT_DEVICE) -> None:
    """Compile the language model's kernels into Triton's cache, ahead of time."""
    from train_demo_voice.language_training import warm as warm_kernels

    warm_kernels(device)


@app.command()
def language(
    work: Work = DEFAULT_WORK,
    total_seconds: TotalSeconds = 900.0,
    limit_seconds: LimitSeconds = 560.0,
    device: Device = DEFAULT_DEVICE,
) -> None:
    """Train the language model on the tokens."""
    from train_demo_voice.language_training import train_language

    train_language(work, total_seconds, limit_seconds, device)


@app.command()
def export(work: Work = DEFAULT_WORK, out: Path = Path("assets/demo-voice")) -> None:
    """Write the model directory."""
    from train_demo_voice.export import write_model

    write_model(work, out)


def main() -> int:
    app(prog_name="python scripts/train_demo_voice")
    return 0
