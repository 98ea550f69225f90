"""Write a complete model directory of seeded random weights: it makes noise, not speech.

    python scripts/make_random_model.py OUT [--layers 3] [--width 128] [--format pth] ...

Every file has the published names and shapes, so such a directory tests loading, batching and the whole
worker without a checkpoint. Activations keep their size from layer to layer, and utterances end by EOS at
different lengths: every row of the head is orthogonal to ``ln_out.bias``, but that of EOS.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from model.checkpoint import HEAD_SIZE, Sizes
from model.tokenizer import BYTES_TEXT_SIZE, WORLD_TEXT_SIZE, TokenizerName
from random_bicodec import PUBLISHED_CONFIG, SMALL_CONFIG, write_random_bicodec
from rwkv_tts.voices import dump_raf
from sampler.layout import TokenLayout
from worker.speech.config import ModelConfig, TokenConfig, write_config

Format = Literal["blinkdl", "pth", "fla", "web-rwkv"]
Dtype = Literal["fp32", "fp16", "bf16"]
Weights = dict[str, Tensor]

FILES: Mapping[Format, str] = {
    "blinkdl": "rwkv7.safetensors",
    "pth": "rwkv7.pth",
    "fla": "rwkv7.safetensors",
    "web-rwkv": "rwkv7.st",
}
DTYPES: Mapping[Dtype, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
TEXT_SIZES: Mapping[TokenizerName, int] = {"world": WORLD_TEXT_SIZE, "bytes": BYTES_TEXT_SIZE}
VOICES = ("first", "second")

LOGIT_STD = 3.0
EOS_LOGIT = 8.0
"""With the default sampling, rows of the default model then speak for 100 to 200 tokens on average."""
EOS_SPREAD = 0.3
"""Standard deviation of the EOS logit around its offset."""


@dataclass(frozen=True)
class RandomModel:
    """What to write; equal options write equal bytes.

    Attributes:
        ffn: Width of the feed-forward layers; four times ``width`` when None.
        ranks: Of the LoRA pairs w, a, v, g.
        full_codec: BiCodec in the published sizes instead of small ones.
        eos_logit: The higher, the shorter utterances are.
    """

    layers: int = 3
    width: int = 128
    ffn: int | None = None
    ranks: tuple[int, int, int, int] = (32, 32, 16, 64)
    tokenizer: TokenizerName = "world"
    full_codec: bool = False
    eos_logit: float = EOS_LOGIT
    seed: int = 0
    format: Format = "blinkdl"
    dtype: Dtype = "fp16"

    def layout(self) -> TokenLayout:
        return TokenLayout(text_size=TEXT_SIZES[self.tokenizer])

    def sizes(self) -> Sizes:
        """The checkpoint's sizes.

        Raises:
            ValueError: A size that no RWKV-7 model can have.
        """
        ffn = 4 * self.width if self.ffn is None else self.ffn
        if self.width < HEAD_SIZE or self.width % HEAD_SIZE:
            raise ValueError(f"width {self.width}: must be a multiple of the head size, {HEAD_SIZE}")
        if min(self.layers, ffn, *self.ranks) < 1:
            raise ValueError(f"layers {self.layers}, ffn {ffn}, ranks {self.ranks}: must be at least 1")
        return Sizes(
            layers=self.layers,
            width=self.width,
            heads=self.width // HEAD_SIZE,
            ffn=ffn,
            vocabulary=self.layout().vocabulary_size,
            head_rows=self.layout().head_size,
            ranks=dict(zip("wavg", self.ranks, strict=True)),
        )


def random_checkpoint(sizes: Sizes, seed: int, eos_logit: float = EOS_LOGIT) -> Weights:
    """Weights under BlinkDL names, in BlinkDL shapes, float32; the head's last row is that of EOS."""
    rng = Generator().manual_seed(seed)
    width = sizes.width
    weights = {
        "emb.weight": torch.randn(sizes.vocabulary, width, generator=rng),
        **_norm("blocks.0.ln0", width, rng),
        **_norm("ln_out", width, rng),
    }
    bias = torch.randn(width, generator=rng)
    weights["ln_out.bias"] = bias
    weights["head.weight"] = _head(sizes.head_rows, bias, eos_logit, rng)
    for layer in range(sizes.layers):
        block = _time_mix(layer, sizes, rng) | _channel_mix(sizes, rng)
        weights |= {f"blocks.{layer}.{name}": tensor for name, tensor in block.items()}
    return weights


def _head(rows: int, bias: Tensor, eos_logit: float, rng: Generator) -> Tensor:
    """Rows orthogonal to the final norm's bias; it lifts the last one's logit to ``eos_logit``."""
    head = torch.randn(rows, len(bias), generator=rng) * (LOGIT_STD / sqrt(len(bias)))
    head[-1] *= EOS_SPREAD / LOGIT_STD
    direction = bias / bias.norm()
    head -= (head @ direction)[:, None] * direction
    head[-1] += eos_logit / bias.norm() * direction
    return head


def _norm(name: str, width: int, rng: Generator) -> Weights:
    return {
        f"{name}.weight": 1 + 0.1 * torch.randn(width, generator=rng),
        f"{name}.bias": 0.1 * torch.randn(width, generator=rng),
    }


def _matrix(rows: int, columns: int, fan_in: int, rng: Generator, gain: float = 1.0) -> Tensor:
    return torch.randn(rows, columns, generator=rng) * (gain / sqrt(fan_in))


def _vector(width: int, mean: float, spread: float, rng: Generator) -> Tensor:
    return mean + spread * torch.randn(1, 1, width, generator=rng)


def _time_mix(layer: int, sizes: Sizes, rng: Generator) -> Weights:
    """Tensors of a layer's attention part; decays reach from one token to hundreds."""
    width = sizes.width
    block = _norm("ln1", width, rng) | _norm("att.ln_x", width, rng)
    block |= {f"att.x_{letter}": torch.rand(1, 1, width, generator=rng) for letter in "rwkvag"}
    block |= {"att.k_k": _vector(width, 0.85, 0.05, rng), "att.k_a": _vector(width, 1.0, 0.05, rng)}
    block["att.r_k"] = 0.1 * torch.randn(sizes.heads, HEAD_SIZE, generator=rng)
    offsets = {"w": (-3.0, 2.0), "a": (0.0, 0.5), "v": (0.5, 0.3)}
    for letter, rank in sizes.ranks.items():
        if letter == "v" and layer == 0:
            continue
        block[f"att.{letter}1"] = _matrix(width, rank, width, rng)
        block[f"att.{letter}2"] = _matrix(rank, width, rank, rng, 1.5 if letter == "g" else 0.5)
        if letter in offsets:
            block[f"att.{letter}0"] = _vector(width, *offsets[letter], rng)
    for name in ("receptance", "key", "value", "output"):
        block[f"att.{name}.weight"] = _matrix(width, width, width, rng)
    return block


def _channel_mix(sizes: Sizes, rng: Generator) -> Weights:
    width, ffn = sizes.width, sizes.ffn
    return {
        **_norm("ln2", width, rng),
        "ffn.x_k": torch.rand(1, 1, width, generator=rng),
        "ffn.key.weight": _matrix(ffn, width, width, rng),
        "ffn.value.weight": _matrix(width, ffn, ffn, rng, 0.7),
    }


def to_fla(weights: Mapping[str, Tensor], layout: TokenLayout) -> Weights:
    """The names of fla/HF files, where the four blocks of the vocabulary have embeddings of their own."""
    blocks = [layout.head_size, 3, layout.global_size, layout.text_size + layout.control_size]
    names = ("embeddings", "tts_tag_embedder", "global_embedder", "text_embedder")
    tables = torch.split(weights["emb.weight"], blocks)
    named = {f"model.{name}.weight": table.clone() for name, table in zip(names, tables, strict=True)}
    named["lm_head.weight"] = weights["head.weight"]
    named |= {f"model.norm.{part}": weights[f"ln_out.{part}"] for part in ("weight", "bias")}
    for name, tensor in weights.items():
        if name.startswith("blocks."):
            new = _fla_name(name)
            # A LoRA pair's offset is the bias of a linear layer there.
            named[new] = tensor.flatten() if new.endswith(".bias") else _turned(name, tensor)
    return named


def _fla_name(name: str) -> str:
    """``blocks.3.att.w1`` to ``model.layers.3.attn.w_lora.lora.0.weight``, and so on."""
    parts = {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm", "att": "attn", "ffn": "ffn"}
    modules = {
        "receptance": "r_proj",
        "key": "k_proj",
        "value": "v_proj",
        "output": "o_proj",
        "ln_x": "g_norm",
    }
    leaves = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}
    _, layer, part, tail = name.split(".", 3)
    module, dot, leaf = tail.partition(".")
    if part == "att" and module[1:] in leaves:
        module = f"{module[0]}_lora.lora.{leaves[module[1:]]}"
    elif part == "att":
        module = modules.get(module, module)
    return f"model.layers.{layer}.{parts[part]}.{module}{dot}{leaf}"


def _is_lora(name: str) -> bool:
    stem = name.rpartition(".")[2]
    return len(stem) == 2 and stem[0] in "wavg" and stem[1] in "12"


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.t().contiguous() if _is_lora(name) else tensor


def to_web_rwkv(weights: Mapping[str, Tensor]) -> Weights:
    """Lower-case names, LoRA matrices turned, and the head padded with rows of zeros to the vocabulary."""
    named = {name.lower(): _turned(name, tensor) for name, tensor in weights.items()}
    head = torch.zeros_like(weights["emb.weight"])
    head[: len(weights["head.weight"])] = weights["head.weight"]
    return named | {"head.weight": head}


def write_checkpoint(directory: Path, options: RandomModel) -> Path:
    """Write the ``rwkv7.*`` file alone and return its path."""
    weights = random_checkpoint(options.sizes(), options.seed, options.eos_logit)
    weights = {name: tensor.to(DTYPES[options.dtype]) for name, tensor in weights.items()}
    path = directory / FILES[options.format]
    match options.format:
        case "pth":
            torch.save(weights, path)
        case "fla":
            save_file(to_fla(weights, options.layout()), path)
        case "web-rwkv":
            save_file(to_web_rwkv(weights), path)
        case "blinkdl":
            save_file(weights, path)
    return path


def write_random_model(directory: Path, options: RandomModel) -> None:
    """Write a model directory that ``worker.speech.directory.open_model`` opens.

    Raises:
        ValueError: The options hold a size that no model can have.
    """
    options.sizes()
    write_config(directory, _config(options))
    write_checkpoint(directory, options)
    codec = PUBLISHED_CONFIG if options.full_codec else SMALL_CONFIG
    write_random_bicodec(directory / "bicodec", codec, options.seed)
    _write_voices(directory / "voices", options)


def _config(options: RandomModel) -> ModelConfig:
    return ModelConfig(
        name="random",
        tokens=TokenConfig(tokenizer=options.tokenizer),
        features="wav2vec2" if options.full_codec else "mel",
        trained=False,
        licence="Apache-2.0",
        provenance=f"random weights, seed {options.seed}: they make noise, not speech",
    )


def _write_voices(directory: Path, options: RandomModel) -> None:
    directory.mkdir(exist_ok=True)
    rng = Generator().manual_seed(options.seed)
    layout = options.layout()
    for voice in VOICES:
        fields = {
            "id": voice,
            "name": f"Random {voice}",
            "prompt_text": "",
            "created_at": "2025-01-01T00:00:00.000000000Z",
            "global_tokens": _tokens(layout.global_size, layout.globals_per_voice, rng),
            "semantic_tokens": _tokens(layout.semantic_size, 50, rng),
            "audio_duration": 1.0,
            "sample_rate": 16000,
        }
        (directory / f"{voice}.raf.json").write_text(dump_raf(fields), encoding="utf-8")


def _tokens(size: int, count: int, rng: Generator) -> list[int]:
    return [int(token) for token in torch.randint(size, (count,), generator=rng)]


def _parse(arguments: Sequence[str] | None) -> tuple[Path, RandomModel]:
    default = RandomModel()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the directory to write")
    parser.add_argument("--layers", type=int, default=default.layers)
    parser.add_argument("--width", type=int, default=default.width, help="a multiple of 64")
    parser.add_argument("--ffn", type=int, help="four times the width when absent")
    parser.add_argument("--ranks", type=int, nargs=4, default=default.ranks, metavar=tuple("wavg"))
    parser.add_argument("--tokenizer", choices=get_args(TokenizerName), default=default.tokenizer)
    parser.add_argument("--full-codec", action="store_true", help="BiCodec in the published sizes")
    parser.add_argument("--eos-logit", type=float, default=default.eos_logit, help="higher ends rows earlier")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--format", choices=get_args(Format), default=default.format)
    parser.add_argument("--dtype", choices=get_args(Dtype), default=default.dtype)
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    return out, RandomModel(**options | {"ranks": tuple(options["ranks"])})


def main(arguments: Sequence[str] | None = None) -> int:
    out, options = _parse(arguments)
    start = time.monotonic()
    try:
        write_random_model(out, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sizes = options.sizes()
    megabytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    print(
        f"{out}: {sizes.layers} layers x {sizes.width}, {sizes.vocabulary} tokens, {options.tokenizer} text, "
        f"{options.format} {options.dtype}, {megabytes:.1f} MB in {time.monotonic() - start:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
