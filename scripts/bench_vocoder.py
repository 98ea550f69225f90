"""Measure BiCodec's decoder on a GPU: audio seconds per second, alone and while the language model decodes.

    python scripts/bench_vocoder.py [--rows 1,8,64,128] [--seconds 5,10] [--decode-rows 512]

Weights are random, of the full published size; utterances of a batch are of unequal length. `reference` is the
float32 codec in plain torch, `fast` that with the wave generator in float16; their difference is stated as signal
over noise. The last line is JSON.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench_engine import DeviceBench, random_model
from codec.bicodec import BiCodec
from codec.vocoder import Vocoder
from random_bicodec import PUBLISHED_CONFIG, write_random_bicodec

TOKENS_PER_SECOND = 50
GFLOP_PER_SECOND = 58.8
"""Of audio; 55.9 of them are the wave generator's."""

Batch = tuple[list[list[int]], list[list[int]]]


def batch(codec: BiCodec, rows: int, seconds: Sequence[float]) -> Batch:
    rng = random.Random(rows)  # noqa: S311 - tokens, not secrets
    lengths = [round(TOKENS_PER_SECOND * rng.uniform(*seconds)) for _ in range(rows)]
    semantic = [[rng.randrange(codec.semantic_size) for _ in range(length)] for length in lengths]
    voices = [[rng.randrange(codec.global_size) for _ in range(codec.globals_per_voice)] for _ in range(rows)]
    return semantic, voices


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """The median, ends of the work included."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return sorted(times)[repeats // 2]


class Decoding:
    """A thread that decodes without a pause; counts its steps."""

    def __init__(self, rows: int) -> None:
        from model.fast.forward import FastRWKV7

        _, checkpoint = random_model(24, 1024)
        self._bench = DeviceBench(FastRWKV7(checkpoint, "cuda", checkpoint.sizes.head_rows), rows, 64)
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
            self._bench.milliseconds([1] * self._rows, self._rows, 10)
            self.steps += 20  # with those of the warm-up


def together(decoding: Decoding, vocoder: Vocoder, work: Batch, repeats: int) -> dict[str, float]:
    """Both at once: audio seconds per second of each."""
    alone = decoding.alone()
    decoding.start()
    begin, steps = time.perf_counter(), decoding.steps
    taken = seconds_of(lambda: vocoder(*work), repeats)
    rate = (decoding.steps - steps) / (time.perf_counter() - begin)
    decoding.stop()
    audio = sum(map(len, work[0])) / TOKENS_PER_SECOND
    return {"vocoder": audio / taken, "step_alone_ms": alone, "step_ms": 1000 / rate}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 64, 128])
    parser.add_argument("--seconds", type=lambda text: [float(n) for n in text.split(",")], default=[5.0, 10.0])
    parser.add_argument("--decode-rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("it needs a CUDA device")
    from codec.fast.selftest import signal_to_noise
    from codec.fast.wavegen import FastWaveGenerator

    with TemporaryDirectory() as folder:
        write_random_bicodec(Path(folder), PUBLISHED_CONFIG, seed=0)
        codec = BiCodec.load(Path(folder), "cuda")
    plain, fast, vocoder = codec.make_waves, FastWaveGenerator(codec.decoder), Vocoder(codec)
    found: list[dict[str, Any]] = []
    for rows in options.rows:
        work = batch(codec, rows, options.seconds)
        audio = sum(map(len, work[0])) / TOKENS_PER_SECOND
        codec.make_waves = plain
        expected = vocoder(*work)
        reference = seconds_of(lambda work=work: vocoder(*work), options.repeats)  # type: ignore[misc]
        codec.make_waves = fast
        waves = vocoder(*work)
        taken = seconds_of(lambda work=work: vocoder(*work), options.repeats)  # type: ignore[misc]
        decibels = signal_to_noise([torch.tensor(w) for w in waves], [torch.tensor(w) for w in expected])
        found.append({
            "rows": rows, "audio_seconds": audio, "reference": audio / reference, "fast": audio / taken,
            "tflops": GFLOP_PER_SECOND * audio / taken / 1000, "decibels": decibels,
        })  # fmt: skip
    both = together(Decoding(options.decode_rows), vocoder, batch(codec, 64, options.seconds), options.repeats)
    table = Table("rows", "audio s", "reference audio s/s", "fast audio s/s", "TFLOP/s", "dB")
    for one in found:
        table.add_row(*(f"{one[name]:,.0f}" for name in one))
    console = Console(width=110)
    console.print(table)
    console.print(
        f"with decode steps of {options.decode_rows} rows at once: {both['vocoder']:,.0f} audio s/s; a step takes "
        f"{both['step_ms']:.2f} ms, alone {both['step_alone_ms']:.2f}"
    )
    print(
        json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "alone": found, "both": both})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
