"""Measure what batching gains: the decode loop at several numbers of rows, without prefill and vocoder.

    python scripts/bench_batching.py [--model DIRECTORY] [--rows 1,2,4,8,16,32] [--json]

Every row count decodes the same jobs for the same number of tokens each, so many at a time. The counts
take turns, forwards and backwards, and the best turn of each is taken, so that other load hits all alike.
The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from batching.engine import Engine
from batching.row import Row
from sampler.decoding import Decoding
from sampler.prompt import voice_prompt
from worker.settings import DEFAULT_MODEL
from worker.speech.config import ModelError
from worker.speech.loading import open_model
from worker.speech.model import SpeechModel

TOKENS_PER_SECOND = 50
TEXT = "The quick brown fox jumps over the lazy dog."
WARM_UP_STEPS = 4


@dataclass(frozen=True)
class Measurement:
    """Throughput at one number of rows.

    Attributes:
        audio_seconds: Seconds of speech decoded in each wall-clock second, over all rows.
        ratio: Throughput over that of one row.
    """

    rows: int
    audio_seconds: float
    ratio: float
    step_milliseconds: float


class Endless(Decoding):
    """A decoding that EOS does not end: every row decodes as many tokens as every other."""

    def accept(self, token: int) -> None:
        super().accept(min(token, self.layout.eos - 1))


def jobs(speech: SpeechModel, count: int, tokens: int) -> list[Row]:
    voice = next(iter(speech.voices)).global_tokens
    prompt = voice_prompt(speech.layout, speech.encode_text(TEXT), voice)
    limit = WARM_UP_STEPS + tokens
    return [
        Row(str(seed), Endless(speech.layout, prompt, voice, seed=seed, limit=limit, streak=limit + 1))
        for seed in range(count)
    ]


def decode_seconds(speech: SpeechModel, rows: int, work: Sequence[Row]) -> float:
    """Wall-clock seconds of the decode steps of all the work, ``rows`` at a time; prefill does not count."""
    engine = Engine(speech.model, speech.layout, rows, token_chunk_size=10_000)
    total = 0.0
    for start in range(0, len(work), rows):
        for row in work[start : start + rows]:
            engine.add(row)
        for _ in range(WARM_UP_STEPS):
            engine.step()
        begin = time.perf_counter()
        while len(engine.scheduler):
            engine.step()
        total += time.perf_counter() - begin
    return total


def measure(speech: SpeechModel, counts: Sequence[int], tokens: int, turns: int) -> list[Measurement]:
    """Decode the same jobs at every row count, forwards and backwards in turn."""
    work = max(counts)
    best = dict.fromkeys(counts, float("inf"))
    for rows in counts:
        decode_seconds(speech, rows, jobs(speech, rows, tokens=8))
    for turn in range(turns):
        for rows in counts if turn % 2 == 0 else reversed(counts):
            best[rows] = min(best[rows], decode_seconds(speech, rows, jobs(speech, work, tokens)))
    audio = work * tokens / TOKENS_PER_SECOND
    steps = {rows: -(-work // rows) * tokens for rows in counts}
    return [
        Measurement(rows, audio / best[rows], best[counts[0]] / best[rows], 1000 * best[rows] / steps[rows])
        for rows in counts
    ]


def machine() -> dict[str, int | str]:
    return {"cores": os.cpu_count() or 0, "torch": torch.__version__, "threads": torch.get_num_threads()}


def show(speech: SpeechModel, measured: Sequence[Measurement]) -> None:
    console, sizes = Console(), speech.model.sizes
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    console.print(f"{about}; model {speech.config.name}, {sizes.layers} layers x {sizes.width}", highlight=False)
    table = Table()
    for column in ("rows", "audio s / s", "x one row", "ms / step"):
        table.add_column(column, justify="right")
    for m in measured:
        table.add_row(str(m.rows), f"{m.audio_seconds:.1f}", f"{m.ratio:.2f}", f"{m.step_milliseconds:.2f}")
    console.print(table)


def row_counts(text: str) -> list[int]:
    counts = [int(count) for count in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError("must be at least 1 each")
    return counts


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="a model directory")
    parser.add_argument("--rows", type=row_counts, default=[1, 2, 4, 8, 16, 32], help="the first is compared with")
    parser.add_argument("--tokens", type=int, default=50, help="semantic tokens of each job")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each row count")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        speech = open_model(options.model, threads=options.threads)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    measured = measure(speech, options.rows, options.tokens, options.turns)
    if not options.json:
        show(speech, measured)
    print(json.dumps({"machine": machine(), "decode": [asdict(m) for m in measured]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
