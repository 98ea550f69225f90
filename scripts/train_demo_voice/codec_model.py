"""The demo voice's codec while it is trained: the product's modules, with a forward that gradients pass through.

The parameters live in a `codec.bicodec.BiCodec` under the published names, so that an export is its state dict.
What inference replaces by look-ups is written out here: the periodic activation, both quantisers' rounding
(straight-through, Bengio et al. 2013), and the heads that only training has.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from codec.bicodec import CONFIG_FILE, WEIGHTS_FILE, BiCodec
from codec.config import BiCodecConfig
from codec.layers import SNAKE_EPSILON, RaggedConvTranspose1d, Snake, loaded
from codec.quantizers import FSQ_EPSILON, FactorizedQuantizer
from codec.speaker import SpeakerEncoder
from codec.vocos import AdaptiveLayerNorm, ConvNeXtBlock, VocosBackbone
from codec.wavegen import ResidualUnit
from codec.weights import stored_shapes

DEMO_CONFIG: Mapping[str, Any] = {
    "audio_tokenizer": {
        "mel_params": {
            "sample_rate": 16000,
            "n_fft": 1024,
            "win_length": 640,
            "hop_length": 320,
            "mel_fmin": 10,
            "mel_fmax": 8000,
            "num_mels": 80,
            "log": True,
        },
        "encoder": {
            "input_channels": 80,
            "vocos_dim": 192,
            "vocos_intermediate_dim": 384,
            "vocos_num_layers": 4,
            "out_channels": 128,
            "sample_ratios": [],
        },
        "decoder": {
            "input_channel": 128,
            "channels": 256,
            "rates": [8, 5, 4, 2],
            "kernel_sizes": [16, 11, 8, 4],
        },
        "quantizer": {"input_dim": 128, "codebook_size": 1024, "codebook_dim": 8},
        "speaker_encoder": {
            "input_dim": 80,
            "out_dim": 128,
            "latent_dim": 40,
            "token_num": 32,
            "fsq_levels": [4, 4, 4, 4, 4],
            "fsq_num_quantizers": 1,
            "ecapa_channels": 64,
        },
        "prenet": {
            "input_channels": 128,
            "vocos_dim": 192,
            "vocos_intermediate_dim": 384,
            "vocos_num_layers": 4,
            "out_channels": 128,
            "condition_dim": 128,
            "sample_ratios": [],
        },
    }
}
"""`config.yaml` of the demo voice: the published structure, smaller, over a log mel front end."""

INIT_STD = 0.02
OUTPUT_GAIN = 0.1
RESIDUAL_GAIN = 0.5
POSTNET_DIM, POSTNET_LAYERS = 128, 2


def eager_snake(x: Tensor, alpha: Tensor) -> Tensor:
    wave = torch.sin(alpha * x)
    return torch.addcmul(x, wave, wave / (alpha + SNAKE_EPSILON))


def eager_snake_gradient(x: Tensor, alpha: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `eager_snake` for x, and for alpha before the sum over rows and time."""
    inverse = (alpha + SNAKE_EPSILON).reciprocal()
    wave, double = torch.sin(alpha * x), torch.sin(2 * alpha * x)
    return torch.addcmul(grad, grad, double), grad * inverse * (x * double - wave * wave * inverse)


SnakeGradient = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
SnakeKernels = tuple[Callable[[Tensor, Tensor], Tensor], SnakeGradient]

SNAKE_CODE = """
template <typename T> T snake(T x, T alpha) {
    T wave = sinf(alpha * x);
    return x + wave * wave / (alpha + T(1e-9));
}
"""
SNAKE_GRADIENT_CODE = """
template <typename T> void snake_gradient(T x, T alpha, T grad, T& grad_x, T& grad_alpha) {
    T inverse = T(1) / (alpha + T(1e-9));
    T wave = sinf(alpha * x);
    T twice = sinf(T(2) * alpha * x);
    grad_x = grad + grad * twice;
    grad_alpha = grad * inverse * (x * twice - wave * wave * inverse);
}
"""
FUSION_VARIABLE = "TRAIN_DEMO_VOICE_NO_FUSION"
"""Environment variable that, when set, keeps the activation in plain torch operations."""


@cache
def fused_snake() -> SnakeKernels | None:
    """One CUDA kernel each way instead of five; None where they cannot be built or do not agree."""
    if os.environ.get(FUSION_VARIABLE):
        return None
    try:
        jiterator = torch.cuda.jiterator
        forward = jiterator._create_jit_fn(SNAKE_CODE)
        backward = jiterator._create_multi_output_jit_fn(SNAKE_GRADIENT_CODE, 2)
        x, grad = torch.randn(2, 3, 4, 5, device="cuda").unbind()
        alpha = torch.rand(1, 4, 1, device="cuda") + 0.5
        torch.testing.assert_close(forward(x, alpha), eager_snake(x, alpha), rtol=1e-3, atol=1e-4)
        for found, expected in zip(backward(x, alpha, grad), eager_snake_gradient(x, alpha, grad), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    except Exception as error:  # noqa: BLE001 (whatever is wrong with it, training goes on without)
        print(f"snake: not fused: {error}", flush=True)
        return None
    return forward, backward


def snake_kernels(x: Tensor) -> SnakeKernels:
    fused = fused_snake() if x.is_cuda and x.dtype == torch.float32 else None
    return fused or (eager_snake, eager_snake_gradient)


class SnakeFunction(torch.autograd.Function):
    """x + sin²(alpha x) / alpha that keeps only its inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, alpha)
        return snake_kernels(x)[0](x, alpha.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, alpha = ctx.saved_tensors
        grad_x, grad_alpha = snake_kernels(x)[1](x, alpha.to(x.dtype), grad.contiguous())
        return grad_x, grad_alpha.sum(dim=(0, 2), keepdim=True, dtype=alpha.dtype)


class TrainableSnake(nn.Module):
    """`codec.layers.Snake` with a gradient for alpha; the same key in the state dict."""

    def __init__(self, alpha: nn.Parameter) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 (pointwise in time)
        return cast(Tensor, SnakeFunction.apply(x, self.alpha))  # type: ignore[no-untyped-call]


def make_trainable(module: nn.Module) -> None:
    """Replace every activation that has a precomputed buffer."""
    for name, child in module.named_children():
        if isinstance(child, Snake):
            setattr(module, name, TrainableSnake(child.alpha))
        else:
            make_trainable(child)


def init_vocos(backbone: VocosBackbone) -> None:
    """As Vocos: small weights, residual branches of 1 / layers; conditioned norms start as plain ones."""
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
            nn.init.trunc_normal_(module.weight, std=INIT_STD)
            nn.init.zeros_(module.bias)
        elif isinstance(module, ConvNeXtBlock):
            nn.init.constant_(module.gamma, 1 / len(backbone.convnext))
    for module in backbone.modules():
        if isinstance(module, AdaptiveLayerNorm):
            nn.init.ones_(module.scale.bias)


def init_generator(decoder: nn.Module) -> None:
    """Weights that keep the size of activations, but for residual branches and the last convolution."""
    last = None
    for module in decoder.modules():
        if isinstance(module, nn.Conv1d | RaggedConvTranspose1d):
            inputs = module.in_channels * module.kernel_size[0] / module.stride[0]
            nn.init.normal_(module.weight, std=1 / sqrt(inputs))
            nn.init.zeros_(cast(Tensor, module.bias))
            last = module
    for module in decoder.modules():
        if isinstance(module, ResidualUnit):
            cast(nn.Conv1d, module.block[3]).weight.data.mul_(RESIDUAL_GAIN)
    if last is not None:
        last.weight.data.mul_(OUTPUT_GAIN)


def make_codec(config: Mapping[str, Any]) -> BiCodec:
    """A BiCodec with fresh weights and trainable activations, drawn from torch's global generator."""
    codec = BiCodec(BiCodecConfig.model_validate(config["audio_tokenizer"]), encoder=True)
    nn.init.normal_(codec.quantizer.codebook.weight)
    for module in codec.modules():
        if isinstance(module, VocosBackbone):
            init_vocos(module)
    init_generator(codec.decoder)
    nn.init.normal_(loaded(codec.speaker_encoder.perceiver_sampler).latents, std=INIT_STD)
    make_trainable(codec)
    return codec


def unit_vectors(projected: Tensor) -> Tensor:
    """Vectors [..., D] on the sphere of radius sqrt(D), where look-up by cosine is look-up by distance."""
    return F.normalize(projected.float(), dim=-1) * sqrt(projected.shape[-1])


@dataclass
class Quantized:
    """What the factorised quantiser made of B rows of T frames."""

    vectors: Tensor
    """float32 [B, out, T]: to the prenet."""
    points: Tensor
    """float32 [B, T, D]: what was looked up."""
    ids: Tensor
    """int64 [B, T]."""
    loss: Tensor
    """Commitment and codebook loss, scalar."""


def quantize_semantic(
    quantizer: FactorizedQuantizer, vectors: Tensor, share: Tensor, commitment: float
) -> Quantized:
    """Straight-through look-up of vectors [B, C, T].

    `share` is a scalar tensor: 1 quantises, 0 passes the unquantised points on, which warms the encoder up.
    """
    points = unit_vectors(quantizer.project(vectors).transpose(1, 2))
    codebook = quantizer.codebook.weight
    with torch.no_grad():
        ids = (points @ F.normalize(codebook, dim=1).T).argmax(dim=2)
    codes = codebook.index_select(0, ids.flatten()).view_as(points)
    loss = commitment * F.mse_loss(points, codes.detach()) + F.mse_loss(codes, points.detach())
    passed = points + share * (codes - points).detach()
    return Quantized(quantizer.out_project(passed.transpose(1, 2)), points, ids, share * loss)


def quantize_voice(speaker: SpeakerEncoder, latents: Tensor) -> Tensor:
    """Latents [B, N, latent] through finite scalar quantisation, straight-through, to voice vectors [B, out]."""
    fsq = speaker.quantizer
    half = fsq.levels // 2
    half_range = (fsq.levels - 1) * (1 + FSQ_EPSILON) / 2
    offset = 0.5 * (1 - fsq.levels % 2)
    bounded = torch.tanh(fsq.project(latents) + torch.atanh(offset / half_range)) * half_range - offset
    digits = bounded + (bounded.round() - bounded).detach()
    return cast(Tensor, speaker.project(fsq.project_out(digits / half).transpose(1, 2).flatten(1)))


class FrameHeads(nn.Module):
    """Training only: phones from a token's vector alone; mel frames and phones from the prenet's output."""

    def __init__(self, config: BiCodecConfig, phones: int) -> None:
        super().__init__()
        width = config.quantizer.input_dim
        self.phones = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, phones))
        self.postnet = VocosBackbone(config.prenet.out_channels, POSTNET_DIM, 2 * POSTNET_DIM, POSTNET_LAYERS)
        self.mel = nn.Linear(POSTNET_DIM, config.mel_params.num_mels)
        self.late_phones = nn.Linear(POSTNET_DIM, phones)
        init_vocos(self.postnet)


@dataclass
class Reconstruction:
    """One forward pass over B rows of T frames."""

    wave: Tensor
    """float32 [B, N]."""
    mel: Tensor
    """The encoder's input, float32 [B, T, num_mels]."""
    predicted_mel: Tensor
    quantized: Quantized
    phones: Tensor
    """Scores [B, T, phones] from the token alone."""
    late_phones: Tensor
    """Scores [B, T, phones] after the prenet."""


class TrainingCodec(nn.Module):
    """The codec and its training heads.

    With `mixed` precision all but the quantisers and the generator runs in bfloat16. The generator does only with
    `half_generator`: the noise of eight bits is as loud as the quiet parts of its spectrum.
    """

    def __init__(
        self, config: Mapping[str, Any], phones: int, *, mixed: bool = False, half_generator: bool = False
    ) -> None:
        super().__init__()
        self.bicodec = make_codec(config)
        self.heads = FrameHeads(self.bicodec.config, phones)
        self.mixed, self.half_generator = mixed, half_generator

    def precision(self, half: bool) -> AbstractContextManager[None]:
        # Without the cache of cast weights, which would outlive a captured graph's memory.
        context = torch.autocast(
            self.bicodec.device.type, torch.bfloat16, enabled=half and self.mixed, cache_enabled=False
        )
        return cast(AbstractContextManager[None], context)

    def forward(self, audio: Tensor, reference: Tensor, share: Tensor, commitment: float = 0.25) -> Reconstruction:
        """Waves [B, N] and clips of the same voices [B, M] to a reconstruction; see `quantize_semantic`."""
        codec = self.bicodec
        mel_frames = loaded(codec.mel)
        with torch.no_grad():
            mel, reference_mel = mel_frames(audio)[:, :-1], mel_frames(reference)
        with self.precision(half=True):
            encoded = loaded(codec.encoder)(mel)
            latents = codec.speaker_encoder.latents(reference_mel)
        with self.precision(half=False):
            quantized = quantize_semantic(codec.quantizer, encoded.float(), share, commitment)
            voice = quantize_voice(codec.speaker_encoder, latents.float())
        with self.precision(half=True):
            frames = codec.prenet(quantized.vectors, voice)
            late = self.heads.postnet(frames)
            predicted_mel, late_phones = self.heads.mel(late), self.heads.late_phones(late)
            phones = self.heads.phones(quantized.vectors.transpose(1, 2))
        wave = self.generate(frames.float() + voice.unsqueeze(2))
        return Reconstruction(wave, mel, predicted_mel, quantized, phones, late_phones)

    def generate(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """The generator's input float32 [B, C, T] to waves float32 [B, T * hop]."""
        with self.precision(half=self.half_generator):
            wave = self.bicodec.decoder(frames, mask)
        return cast(Tensor, wave[:, 0].float())

    def decode(self, semantic: Tensor, globals_: Tensor, mask: Tensor, context: int = 0) -> Tensor:
        """Tokens to waves, without `context` tokens on either side that only the prenet sees.

        `semantic` int64 [B, T], `globals_` int64 [B, N], `mask` float32 [B, 1, T], one inside the utterance.
        Returns float32 [B, (T - 2 * context) * hop], zero outside the utterance. `quantizer.prepare()` must
        have run since the codebook last changed.
        """
        codec = self.bicodec
        inside = slice(context, semantic.shape[1] - context)
        with torch.no_grad():
            vectors, voice = codec.dequantize(semantic), codec.speaker_vector(globals_)
        with self.precision(half=True):
            frames = codec.prenet(vectors, voice, mask)
        mask = mask[:, :, inside]
        wave = self.generate(frames[:, :, inside].float() + voice.unsqueeze(2), mask)
        return wave * mask[:, 0].repeat_interleave(codec.hop, dim=1)


def stored_tensors(codec: BiCodec) -> dict[str, Tensor]:
    """The state dict under published names, in half precision.

    Lengths of weight-normed slices stay float32, so that folding gives back the rounded weights; counters are
    int32, because half precision ends at 65504.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in codec.state_dict().items():
        names = list(stored_shapes(name, tuple(value.shape)))
        rounded = value.half() if value.is_floating_point() else value.int()
        if len(names) == 1:
            tensors[name] = rounded
            continue
        length_name, direction_name = names
        tensors[direction_name] = rounded
        tensors[length_name] = torch.linalg.vector_norm(rounded.float(), dim=(1, 2), keepdim=True)
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def write_codec(codec: BiCodec, config: Mapping[str, Any], directory: Path) -> None:
    """Write `config.yaml` and `model.safetensors`, each in one piece, for `BiCodec.load`."""
    directory.mkdir(parents=True, exist_ok=True)
    config_file, weights_file = directory / f"{CONFIG_FILE}.part", directory / f"{WEIGHTS_FILE}.part"
    config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    save_file(stored_tensors(codec), weights_file)
    config_file.replace(directory / CONFIG_FILE)
    weights_file.replace(directory / WEIGHTS_FILE)


def parameter_count(module: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in module.parameters())
