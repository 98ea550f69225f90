"""The published ``BiCodec/config.yaml``: the keys that inference depends on, with their types.

Keys that only training reads (loss weights and the like) are ignored. The numbers that upstream keeps in its
code and not in its configuration are the constants of the modules that use them.
"""

from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Size = Annotated[int, Field(ge=1)]
SampleRatios = tuple[Literal[1], ...]
"""A ratio above 1 resamples the token sequence; no published model does."""

JOINTS = (
    ("speaker_encoder.input_dim", "mel_params.num_mels"),
    ("quantizer.input_dim", "encoder.out_channels"),
    ("prenet.input_channels", "quantizer.input_dim"),
    ("prenet.condition_dim", "speaker_encoder.out_dim"),
    ("prenet.out_channels", "speaker_encoder.out_dim"),
    ("decoder.input_channel", "prenet.out_channels"),
)
"""Where one part's output is another's input, so that the two sizes must be equal."""


class Section(BaseModel):
    """A part of the file; keys that it does not name are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MelConfig(Section):
    """How audio becomes mel frames; see ``codec.mel``.

    Attributes:
        sample_rate: In hertz.
        n_fft: Samples of one Fourier transform.
        win_length: Samples of its window.
        hop_length: Samples from one frame to the next.
        mel_fmin: Where the lowest filter begins, in hertz.
        mel_fmax: Where the highest ends, in hertz; at half the sample rate when None.
        num_mels: Filters.
        log: Frames are logarithms of magnitudes.
    """

    sample_rate: Size
    n_fft: Size
    win_length: Size
    hop_length: Size
    mel_fmin: float
    mel_fmax: float | None = None
    num_mels: Size
    log: bool = False


class VocosConfig(Section):
    """The keys that the semantic encoder, the prenet and the postnet share.

    Attributes:
        input_channels: Width of the input.
        vocos_dim: Width of the backbone.
        vocos_intermediate_dim: Width inside one of its blocks.
        vocos_num_layers: Its blocks.
        out_channels: Width of the output.
        condition_dim: Width of the condition; None where there is none.
        sample_ratios: One for each resampling stage.
        use_tanh_at_final: Whether a tanh comes last; in no published model.
    """

    input_channels: Size
    vocos_dim: Size
    vocos_intermediate_dim: Size
    vocos_num_layers: Size
    out_channels: Size
    condition_dim: Size | None = None
    sample_ratios: SampleRatios = (1, 1)
    use_tanh_at_final: Literal[False] = False


class WaveGeneratorConfig(Section):
    """The keys of the wave generator.

    Attributes:
        input_channel: Width of the input.
        channels: Width before the first block; every block halves it.
        rates: Positions that each block makes of one.
        kernel_sizes: Of each block's transposed convolution.
    """

    input_channel: Size
    channels: Size
    rates: Annotated[tuple[Size, ...], Field(min_length=1)]
    kernel_sizes: Annotated[tuple[Size, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if len(self.rates) != len(self.kernel_sizes):
            raise ValueError(f"rates has {len(self.rates)} entries but kernel_sizes {len(self.kernel_sizes)}")
        for rate, kernel in zip(self.rates, self.kernel_sizes, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(f"kernel size {kernel} must be its rate, {rate}, plus an even number")
        if self.channels % 2 ** len(self.rates):
            raise ValueError(f"channels {self.channels} cannot be halved {len(self.rates)} times")
        return self


class QuantizerConfig(Section):
    """The keys of the quantiser of semantic tokens.

    Attributes:
        input_dim: Width of the vectors.
        codebook_size: Different tokens.
        codebook_dim: Width of the codebook.
    """

    input_dim: Size
    codebook_size: Size
    codebook_dim: Size


class SpeakerEncoderConfig(Section):
    """The keys of what makes global tokens.

    Attributes:
        input_dim: Width of a mel frame.
        out_dim: Width of a voice's vector.
        latent_dim: Width of a latent.
        token_num: Global tokens of a voice, and its latents.
        fsq_levels: Levels of each dimension that a token holds.
        fsq_num_quantizers: Tokens of a latent.
        ecapa_channels: Width inside ECAPA-TDNN.
    """

    input_dim: Size
    out_dim: Size
    latent_dim: Size
    token_num: Size
    fsq_levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    fsq_num_quantizers: Literal[1] = 1
    ecapa_channels: Annotated[int, Field(ge=8, multiple_of=8)] = 512


class BiCodecConfig(Section):
    """``audio_tokenizer``, the root key of the file.

    Attributes:
        mel_params: Of mel frames.
        encoder: Of the semantic encoder.
        decoder: Of the wave generator.
        quantizer: Of semantic tokens.
        speaker_encoder: Of global tokens.
        prenet: Of what comes before the wave generator.
        postnet: Of a part that only training has.
    """

    mel_params: MelConfig
    encoder: VocosConfig
    decoder: WaveGeneratorConfig
    quantizer: QuantizerConfig
    speaker_encoder: SpeakerEncoderConfig
    prenet: VocosConfig
    postnet: VocosConfig | None = None

    @model_validator(mode="after")
    def _check_joints(self) -> Self:
        for name, other in JOINTS:
            size, other_size = attrgetter(name, other)(self)
            if size != other_size:
                raise ValueError(f"{name} is {size} but {other} is {other_size}; they must be equal")
        return self

    @property
    def hop(self) -> int:
        """Samples per semantic token."""
        return prod(self.decoder.rates)

    @property
    def global_size(self) -> int:
        """Number of different global tokens."""
        return prod(self.speaker_encoder.fsq_levels)


class _File(Section):
    audio_tokenizer: BiCodecConfig


def read_config(path: Path) -> BiCodecConfig:
    """Read a published ``config.yaml``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The message names the file and the keys that are wrong.
    """
    try:
        return _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).audio_tokenizer
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
