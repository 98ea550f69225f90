"""Measure BiCodec's decoder on a GPU: audio seconds per second, alone and while the language model decodes.

    python scripts/bench vocoder [--rows 1,8,64,128] [--seconds 5,10] [--decode-rows 512]

Weights are random, of the full published size; utterances of a batch are of unequal length. `reference` is the
float32 codec in plain torch, `fast` that with products in float16; their difference is signal over noise.
`span` is what a stream waits for: SPAN tokens of each row, with what they depend on. The last line is JSON.
"""

import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from bench.arguments import at_least, command_line, numbers
from bench.decoding import random_subject
from bench.device import DeviceBench
from bench.machine import machine
from bench.timing import WARM_UP, median_milliseconds
from codec.bicodec import BiCodec, Decode
from codec.streaming import Span
from codec.vocoder import Vocoder
from random_bicodec import PUBLISHED_CONFIG, write_random_bicodec

TOKENS_PER_SECOND = 50
GFLOP_PER_SECOND = 58.8
"""Of audio; 55.9 of them are the wave generator's."""

TOGETHER_ROWS = 64
STEPS_AT_ONCE = 10
SPAN, BEFORE, LOOKAHEAD = 20, 100, 24

Batch = tuple[list[list[int]], list[list[int]]]
"""Semantic and global tokens of each utterance."""


def batch(codec: BiCodec, rows: int, seconds: Sequence[float]) -> Batch:
    rng = random.Random(rows)  # noqa: S311 - tokens, not secrets
    lengths = [round(TOKENS_PER_SECOND * rng.uniform(*seconds)) for _ in range(rows)]
    semantic = [[rng.randrange(codec.semantic_size) for _ in range(length)] for length in lengths]
    voices = [[rng.randrange(codec.global_size) for _ in range(codec.globals_per_voice)] for _ in range(rows)]
    return semantic, voices


def audio_seconds(work: Batch) -> float:
    return sum(map(len, work[0])) / TOKENS_PER_SECOND


class Decoding:
    """A thread that decodes without a pause; counts its steps."""

    def __init__(self, rows: int) -> None:
        from model.fast.forward import FastRWKV7

        subject = random_subject(24, 1024)
        self._bench = DeviceBench(FastRWKV7(subject.checkpoint, "cuda", subject.layout.head_size), rows, 64)
        self._rows = rows
        self._ended = threading.Event()
        self.steps = 0
        self._thread = threading.Thread(target=self._run)

    def alone(self) -> float:
        """Milliseconds of a step."""
        return self._bench.milliseconds([1] * self._rows, self._rows, 100)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @torch.inference_mode()
    def _run(self) -> None:
        while not self._ended.is_set():
            self._bench.milliseconds([1] * self._rows, self._rows, STEPS_AT_ONCE)
            self.steps += STEPS_AT_ONCE + WARM_UP


def together(decoding: Decoding, vocoder: Vocoder, work: Batch, repeats: int) -> dict[str, float]:
    """Both at once: audio seconds per second of the vocoder, and how long a decode step takes."""
    alone = decoding.alone()
    decoding.start()
    begin, steps = time.perf_counter(), decoding.steps
    taken = median_milliseconds(lambda: vocoder(*work), repeats)
    rate = (decoding.steps - steps) / (time.perf_counter() - begin)
    decoding.stop()
    return {"vocoder": 1000 * audio_seconds(work) / taken, "step_alone_ms": alone, "step_ms": 1000 / rate}


class Codecs:
    """The published codec of random weights, decoding in either way."""

    def __init__(self) -> None:
        from codec.fast.decoder import FastDecoder

        with TemporaryDirectory() as folder:
            write_random_bicodec(Path(folder), PUBLISHED_CONFIG, seed=0)
            self.codec = BiCodec.load(Path(folder), "cuda")
        self.vocoder = Vocoder(self.codec)
        self._fast = FastDecoder(self.codec)

    def measure(self, work: Batch, repeats: int) -> dict[str, float]:
        """Audio seconds per second of both, and how far apart they are."""
        from codec.fast.selftest import signal_to_noise

        expected, reference = self._run(None, work, repeats)
        waves, fast = self._run(self._fast, work, repeats)
        return {
            "rows": len(work[0]),
            "audio_seconds": audio_seconds(work),
            "reference": 1000 * audio_seconds(work) / reference,
            "fast": 1000 * audio_seconds(work) / fast,
            "fast_ms": fast,
            "span_ms": self._span(work, repeats),
            "tflops": GFLOP_PER_SECOND * audio_seconds(work) / fast,
            "decibels": signal_to_noise(waves, expected),
        }

    def _run(self, faster: Decode | None, work: Batch, repeats: int) -> tuple[list[torch.Tensor], float]:
        """Waves, and milliseconds."""
        self.codec.faster = faster
        waves = [torch.tensor(wave) for wave in self.vocoder(*work)]
        return waves, median_milliseconds(lambda: self.vocoder(*work), repeats)

    def _span(self, work: Batch, repeats: int) -> float:
        """Milliseconds of a window of a stream for each row, however short the row."""
        known = BEFORE + SPAN + LOOKAHEAD
        semantic = [(row * (1 + known // len(row)))[:known] for row in work[0]]
        spans = [Span(BEFORE, BEFORE + SPAN)] * len(semantic)
        return median_milliseconds(lambda: self.vocoder(semantic, work[1], spans), repeats)


def show(found: Sequence[Mapping[str, float]], both: Mapping[str, float], rows: int) -> None:
    table = Table(
        "rows", "audio s", "reference audio s/s", "fast audio s/s", "fast ms", "span ms", "TFLOP/s", "dB"
    )
    for one in found:
        table.add_row(*(f"{value:,.{int(name.endswith('ms'))}f}" for name, value in one.items()))
    console = Console(width=110)
    console.print(table)
    console.print(
        f"with decode steps of {rows} rows at once: {both['vocoder']:,.0f} audio s/s; a step takes "
        f"{both['step_ms']:.2f} ms, alone {both['step_alone_ms']:.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("vocoder", __doc__)
    add = parser.add_argument
    add("--rows", type=numbers(int), default=[1, 8, 64, 128], help="utterances at once")
    add("--seconds", type=numbers(float), default=[5.0, 10.0], help="their length, the least and the most")
    add("--decode-rows", type=at_least(1), default=512, help="that the language model decodes beside it")
    add("--repeats", type=at_least(1), default=5)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("it needs a CUDA device")
    codecs = Codecs()
    found = [codecs.measure(batch(codecs.codec, n, options.seconds), options.repeats) for n in options.rows]
    work = batch(codecs.codec, TOGETHER_ROWS, options.seconds)
    both = together(Decoding(options.decode_rows), codecs.vocoder, work, options.repeats)
    show(found, both, options.decode_rows)
    print(json.dumps({"machine": machine(torch.cuda.get_device_name()), "alone": found, "both": both}))
    return 0
