"""Language models to measure, and rows that they decode without an end."""

from dataclasses import dataclass
from pathlib import Path

from batching.row import Row
from make_random_model import RandomModel, random_checkpoint
from model.checkpoint import Checkpoint, load_checkpoint
from sampler.decoding import Decoding
from sampler.layout import TokenLayout
from worker.speech.config import checkpoint_path
from worker.speech.loading import open_model


@dataclass(frozen=True)
class Subject:
    """A language model's weights, and what its tokens mean."""

    checkpoint: Checkpoint
    layout: TokenLayout


class Endless(Decoding):
    """A decoding that EOS does not end: every row decodes as many tokens as every other."""

    def accept(self, token: int) -> None:
        super().accept(min(token, self.layout.eos - 1))


def random_subject(layers: int, width: int) -> Subject:
    options = RandomModel(layers=layers, width=width, ranks=(64, 64, 32, 128), dtype="fp16")
    raw = random_checkpoint(options.sizes(), options.seed)
    flat = {n: t.flatten() if t.ndim == 3 or n.endswith("r_k") else t for n, t in raw.items()}
    checkpoint = Checkpoint({name: t.half().float() for name, t in flat.items()}, options.sizes())
    return Subject(checkpoint, options.layout())


def stored_subject(directory: Path) -> Subject:
    """That of a model directory.

    Raises:
        ModelError: It is none.
    """
    layout = open_model(directory, clone=False, engine="reference").layout
    return Subject(load_checkpoint(checkpoint_path(directory)), layout)


def endless_rows(layout: TokenLayout, count: int, prompt: int, tokens: int) -> list[Row]:
    voice = range(layout.globals_per_voice)
    return [
        Row(
            str(seed),
            Endless(layout, [(7919 * seed + i) % 1000 for i in range(prompt)], voice, seed, tokens, tokens + 1),
        )
        for seed in range(count)
    ]
