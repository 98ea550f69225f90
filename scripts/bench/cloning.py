"""Measure what a reference recording costs before synthesis starts: reading it and encoding its voice.

    python scripts/bench cloning [--seconds 6] [--repeats 5] [--no-wav2vec2] [--device cpu] [--threads 0]

Two models of random weights: the published sizes of BiCodec with wav2vec2-large-xlsr-53's (both built here; 17
of its layers, as they are loaded), and a small one with the mel front end. `read` is from the bytes of a WAV
file of 44.1 kHz to speech at 16 kHz; `encode` is that speech to tokens; a cached reference costs what finding
its tokens by the bytes' SHA-256 does. Medians, in milliseconds for each reference; the last line is JSON.
"""

import argparse
import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from bench.arguments import at_least, command_line
from bench.machine import machine
from bench.timing import median_milliseconds
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


def measure(name: str, encoder: VoiceEncoder, files: list[bytes], repeats: int) -> dict[str, Any]:
    """Milliseconds for each reference of a batch of these files."""
    waves = [read_recording(file) for file in files]
    voices = encoder(waves)
    cache = {hashlib.sha256(file).digest(): voice for file, voice in zip(files, voices, strict=True)}
    spans = {
        "read": median_milliseconds(lambda: [read_recording(file) for file in files], repeats),
        "encode": median_milliseconds(lambda: encoder(waves), repeats),
        "cached": median_milliseconds(lambda: [cache[hashlib.sha256(file).digest()] for file in files], repeats),
    }
    return {"model": name, "batch": len(files)} | {key: span / len(files) for key, span in spans.items()}


def report(rows: list[dict[str, Any]]) -> None:
    table = Table("model", "batch", "read ms", "encode ms", "cached ms")
    for row in rows:
        spans = (f"{row[key]:.2f}" for key in ("read", "encode", "cached"))
        table.add_row(row["model"], str(row["batch"]), *spans)
    Console().print(table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_line("cloning", __doc__)
    add = parser.add_argument
    add("--seconds", type=at_least(0.1), default=6.0, help="length of each reference")
    add("--repeats", type=at_least(1), default=5)
    add("--wav2vec2", action=argparse.BooleanOptionalAction, default=True, help="which needs transformers")
    add("--device", default="cpu")
    add("--threads", type=at_least(0), default=0, help="of torch; 0 is its own default")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    encoders = {
        "small mel": mel_encoder(options.device),
        f"published{'' if options.wav2vec2 else ' without wav2vec2'}": published_encoder(
            options.device, options.wav2vec2
        ),
    }
    rows = [
        measure(name, encoder, recordings(batch, options.seconds), options.repeats)
        for name, encoder in encoders.items()
        for batch in BATCHES
    ]
    report(rows)
    used = vars(options) | {"threads": torch.get_num_threads(), "machine": machine()}
    print(json.dumps(used | {"milliseconds_per_reference": rows}))
    return 0
