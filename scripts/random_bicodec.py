"""Write a BiCodec model of random weights in the published format, to test and measure without a checkpoint.

    python scripts/random_bicodec.py DIRECTORY [--full] [--seed N]

The weights are scaled so that activations keep their size from layer to layer, as in a trained network:
random tokens decode to noise of speech-like loudness.
"""

import argparse
from collections.abc import Mapping
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Generator, Tensor

from codec.bicodec import CONFIG_FILE, WEIGHTS_FILE, BiCodec
from codec.config import BiCodecConfig, read_config
from codec.vocos import FrameDecoder
from codec.weights import Shape, published_layout

PUBLISHED_CONFIG: Mapping[str, Any] = {
    "audio_tokenizer": {
        "mel_params": {
            "sample_rate": 16000,
            "n_fft": 1024,
            "win_length": 640,
            "hop_length": 320,
            "mel_fmin": 10,
            "mel_fmax": None,
            "num_mels": 128,
        },
        "encoder": {
            "input_channels": 1024,
            "vocos_dim": 384,
            "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 12,
            "out_channels": 1024,
            "sample_ratios": [1, 1],
        },
        "decoder": {
            "input_channel": 1024,
            "channels": 1536,
            "rates": [8, 5, 4, 2],
            "kernel_sizes": [16, 11, 8, 4],
        },
        "quantizer": {
            "input_dim": 1024,
            "codebook_size": 8192,
            "codebook_dim": 8,
            "commitment": 0.25,
            "codebook_loss_weight": 2.0,
            "use_l2_normlize": True,
            "threshold_ema_dead_code": 0.2,
        },
        "speaker_encoder": {
            "input_dim": 128,
            "out_dim": 1024,
            "latent_dim": 128,
            "token_num": 32,
            "fsq_levels": [4, 4, 4, 4, 4, 4],
            "fsq_num_quantizers": 1,
        },
        "prenet": {
            "input_channels": 1024,
            "vocos_dim": 384,
            "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 12,
            "out_channels": 1024,
            "condition_dim": 1024,
            "sample_ratios": [1, 1],
            "use_tanh_at_final": False,
        },
        "postnet": {
            "input_channels": 1024,
            "vocos_dim": 384,
            "vocos_intermediate_dim": 2048,
            "vocos_num_layers": 6,
            "out_channels": 1024,
            "use_tanh_at_final": False,
        },
    }
}
"""The configuration of Spark-TTS-0.5B."""

SMALL_CONFIG: Mapping[str, Any] = {
    "audio_tokenizer": {
        "mel_params": {**PUBLISHED_CONFIG["audio_tokenizer"]["mel_params"], "num_mels": 40},
        "encoder": {
            "input_channels": 40,
            "vocos_dim": 32,
            "vocos_intermediate_dim": 64,
            "vocos_num_layers": 2,
            "out_channels": 48,
            "sample_ratios": [1, 1],
        },
        "decoder": {
            "input_channel": 40,
            "channels": 64,
            "rates": [8, 5, 4, 2],
            "kernel_sizes": [16, 11, 8, 4],
        },
        "quantizer": {"input_dim": 48, "codebook_size": 8192, "codebook_dim": 8},
        "speaker_encoder": {
            "input_dim": 40,
            "out_dim": 40,
            "latent_dim": 16,
            "token_num": 32,
            "fsq_levels": [4, 4, 4, 4, 4, 4],
            "fsq_num_quantizers": 1,
            "ecapa_channels": 16,
        },
        "prenet": {
            "input_channels": 48,
            "vocos_dim": 32,
            "vocos_intermediate_dim": 64,
            "vocos_num_layers": 2,
            "out_channels": 40,
            "condition_dim": 40,
            "sample_ratios": [1, 1],
            "use_tanh_at_final": False,
        },
        "postnet": {
            "input_channels": 40,
            "vocos_dim": 32,
            "vocos_intermediate_dim": 64,
            "vocos_num_layers": 1,
            "out_channels": 40,
            "use_tanh_at_final": False,
        },
    }
}
"""Sizes that a test can afford, with the published tokens, rates and sample rate."""

LAST_CONV_GAIN = 0.03
RESIDUAL_GAIN = 0.4


def training_layout(config: BiCodecConfig) -> dict[str, Shape]:
    """What the published file holds that no inference reads: postnet, speaker embedding, code usage."""
    if config.postnet is None:
        raise ValueError("config: postnet is missing; the published format has one")
    channels, bottleneck = 3 * config.speaker_encoder.ecapa_channels, 128
    layout: dict[str, Shape] = {"quantizer.cluster_size": (config.quantizer.codebook_size,)}
    with torch.device("meta"):
        postnet = published_layout(FrameDecoder(config.postnet))
    layout |= {f"postnet.{name}": shape for name, shape in postnet.items()}
    embedding: dict[str, Shape] = {
        "pool.linear1.weight": (bottleneck, 3 * channels, 1),
        "pool.linear1.bias": (bottleneck,),
        "pool.linear2.weight": (channels, bottleneck, 1),
        "pool.linear2.bias": (channels,),
        "bn.weight": (2 * channels,),
        "bn.bias": (2 * channels,),
        "bn.running_mean": (2 * channels,),
        "bn.running_var": (2 * channels,),
        "bn.num_batches_tracked": (),
        "linear.weight": (config.speaker_encoder.out_dim, 2 * channels),
        "linear.bias": (config.speaker_encoder.out_dim,),
    }
    return layout | {f"speaker_encoder.speaker_encoder.{name}": shape for name, shape in embedding.items()}


def complete_layout(config: BiCodecConfig) -> dict[str, Shape]:
    """Names and shapes of every tensor in the published file, sorted by name."""
    with torch.device("meta"):
        layout = published_layout(BiCodec(config, encoder=True))
    return dict(sorted((layout | training_layout(config)).items()))


def weight_length(name: str, direction: Shape, config: BiCodecConfig) -> float:
    """Length of the slices of a weight-normed weight, so that its output is about as large as its input."""
    parts = name.split(".")
    if name.startswith("decoder.model.") and parts[3:5] == ["block", "1"] and len(parts) == 6:
        rate = config.decoder.rates[int(parts[2]) - 1]
        return sqrt(rate * direction[1] / direction[0])
    if name == f"decoder.model.{len(config.decoder.rates) + 2}.weight_g":
        return LAST_CONV_GAIN
    return RESIDUAL_GAIN if name.endswith(".block.3.weight_g") else 1.0


def random_tensor(
    name: str, shape: Shape, config: BiCodecConfig, layout: Mapping[str, Shape], rng: Generator
) -> Tensor:
    """A float32 tensor of the distribution that its name asks for."""
    normal = torch.randn(shape, generator=rng)
    stem, leaf = name.rsplit(".", 1)
    match leaf:
        case "num_batches_tracked":
            return torch.full(shape, 1000.0)
        case "running_var" | "cluster_size":
            return 0.5 + torch.rand(shape, generator=rng)
        case "running_mean":
            return 0.1 * normal
        case "weight_g":
            return weight_length(name, layout[f"{stem}.weight_v"], config) * (1 + 0.05 * normal)
        case "weight_v" | "latents":
            return normal
        case "gamma" if ".convnext." in name:
            return 0.3 * normal
        case "bias" if not name.endswith("norm.scale.bias"):
            return 0.05 * normal
    if leaf in ("alpha", "gamma", "bias") or len(shape) == 1:
        return 1 + 0.1 * normal
    fan_in = 1 if stem == "quantizer.codebook" else prod(shape[1:])
    return normal / sqrt(fan_in)


def write_random_bicodec(directory: Path, config: Mapping[str, Any], seed: int) -> None:
    """Write `config.yaml` and `model.safetensors` with the published names, shapes and types.

    `config` has the published keys under `audio_tokenizer`. Equal arguments write equal bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    sizes = read_config(directory / CONFIG_FILE)
    layout = complete_layout(sizes)
    rng = Generator().manual_seed(seed)
    tensors = {name: random_tensor(name, shape, sizes, layout, rng) for name, shape in layout.items()}
    save_file(tensors, directory / WEIGHTS_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--full", action="store_true", help="the published sizes instead of small ones")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = PUBLISHED_CONFIG if arguments.full else SMALL_CONFIG
    write_random_bicodec(arguments.directory, config, arguments.seed)


if __name__ == "__main__":
    main()
