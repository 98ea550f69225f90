"""Measure what a reference recording costs before synthesis starts: reading it and encoding its voice.

    python scripts/bench_cloning.py [--seconds 6] [--repeats 5] [--no-wav2vec2] [--device cpu] [--threads 0]

Two models of random weights: the published sizes of BiCodec with wav2vec2-large-xlsr-53's (both built here; 17
of its layers, as they are loaded), and a small one with the mel front end. `read` is from the bytes of a WAV
file of 44.1 kHz to speech at 16 kHz; `encode` is that speech to tokens; a cached reference costs what finding
its tokens by the bytes' SHA-256 does. Medians, in milliseconds for each reference; the last line is JSON.
"""

import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.table import Table

from codec.bicodec import BiCodec
from codec.features import LAYERS_NEEDED, SemanticFeatures
from codec.recording import read_recording
from codec.voice_encoder import VoiceEncoder
from random_bicodec import PUBLISHED_CONFIG, SMALL_CONFIG, write_random_bicodec

BATCHES = (1, 8)
FILE_RATE = 44100

WAV2VEC2_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": LAYERS_NEEDED,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
"""What the configuration of wav2vec2-large-xlsr-53 has that transformers' defaults have not."""


def recordings(count: int, seconds: float) -> list[bytes]:
    """WAV files of different noise."""
    files = []
    for seed in range(count):
        file = io.BytesIO()
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * FILE_RATE))
        soundfile.write(file, noise, FILE_RATE, format="WAV", subtype="PCM_16")
        files.append(file.getvalue())
    return files


def published_encoder(device: str, wav2vec2: bool) -> VoiceEncoder:
    """The published sizes; without wav2vec 2.0 its features are zeros that cost nothing."""
    codec = random_codec(PUBLISHED_CONFIG, device)
    if wav2vec2:
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        build: Any = Wav2Vec2Model
        model = build(Wav2Vec2Config(**WAV2VEC2_LARGE)).eval().requires_grad_(False)
        return VoiceEncoder(codec, SemanticFeatures(model.to(device)))
    width = codec.config.encoder.input_channels
    return VoiceEncoder(codec, lambda waves: [torch.zeros(len(wave) // codec.hop, width) for wave in waves])


def mel_encoder(device: str) -> VoiceEncoder:
    codec = random_codec(SMALL_CONFIG, device)
    return VoiceEncoder(codec, codec.mel_features)


def random_codec(config: Any, device: str) -> BiCodec:
    with tempfile.TemporaryDirectory() as directory:
        write_random_bicodec(Path(directory), config, seed=0)
        return BiCodec.load(Path(directory), device, encoder=True)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median of several, after one that does not count. Results are lists on the CPU: nothing is pending."""
    spans = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        spans.append(time.perf_counter() - start)
    return statistics.median(spans[1:]) * 1000


def measure(name: str, encoder: VoiceEncoder, files: list[bytes], repeats: int) -> dict[str, Any]:
    """Milliseconds for each reference of a batch of these files."""
    waves = [read_recording(file) for file in files]
    voices = encoder(waves)
    cache = {hashlib.sha256(file).digest(): voice for file, voice in zip(files, voices, strict=True)}
    spans = {
        "read": milliseconds(lambda: [read_recording(file) for file in files], repeats),
        "encode": milliseconds(lambda: encoder(waves), repeats),
        "cached": milliseconds(lambda: [cache[hashlib.sha256(file).digest()] for file in files], repeats),
    }
    return {"model": name, "batch": len(files)} | {key: span / len(files) for key, span in spans.items()}


def report(rows: list[dict[str, Any]]) -> None:
    table = Table("model", "batch", "read ms", "encode ms", "cached ms")
    for row in rows:
        spans = (f"{row[key]:.2f}" for key in ("read", "encode", "cached"))
        table.add_row(row["model"], str(row["batch"]), *spans)
    Console().print(table)


def main(
    seconds: Annotated[float, typer.Option(help="Length of each reference.")] = 6.0,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    wav2vec2: Annotated[bool, typer.Option(help="Measure wav2vec 2.0, which needs transformers.")] = True,
    device: str = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of PyTorch; 0 is its own default.")] = 0,
) -> None:
    if threads:
        torch.set_num_threads(threads)
    encoders = {
        "small mel": mel_encoder(device),
        f"published{'' if wav2vec2 else ' without wav2vec2'}": published_encoder(device, wav2vec2),
    }
    rows = [
        measure(name, encoder, recordings(batch, seconds), repeats)
        for name, encoder in encoders.items()
        for batch in BATCHES
    ]
    report(rows)
    used = {"seconds": seconds, "repeats": repeats, "device": device, "threads": torch.get_num_threads()}
    print(json.dumps(used | {"milliseconds_per_reference": rows}))


if __name__ == "__main__":
    typer.run(main)
