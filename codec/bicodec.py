"""BiCodec: tokens to waveforms and features to tokens, for batches of rows of unequal length."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from codec.checks import check_globals, check_numbers, check_semantic
from codec.config import BiCodecConfig, read_config
from codec.layers import Mask, length_mask, loaded
from codec.mel import MelSpectrogram
from codec.quantizers import FactorizedQuantizer
from codec.speaker import SpeakerEncoder
from codec.streaming import Span, check_spans, cut, reach
from codec.vocos import FrameDecoder, FrameEncoder
from codec.wavegen import WaveGenerator
from codec.weights import load_weights
from codec.windows import Windowed, WindowedWaveGenerator

Decode = Callable[[Sequence[Tensor], Sequence[Span], Tensor], list[Tensor]]
"""What ``BiCodec.decode`` does, of arguments that are right and spans that are given."""

_ROOM = 32
"""Tokens that the prenet's inputs are a multiple of: a CPU prepares its convolutions anew for every other length,
and keeps what it has prepared."""

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"

# What the published file holds beyond a decoder.
ENCODER_KEYS = (
    "encoder.",
    "quantizer.in_project.",
    "speaker_encoder.speaker_encoder.",
    "speaker_encoder.perceiver_sampler.",
    "speaker_encoder.quantizer.project_in.",
)
TRAINING_KEYS = (
    "postnet.",
    "quantizer.cluster_size",
    "speaker_encoder.speaker_encoder.pool.",
    "speaker_encoder.speaker_encoder.bn.",
    "speaker_encoder.speaker_encoder.linear.",
    "mel_transformer.",  # constants, absent from the published file
)


class BiCodec(nn.Module):
    """The codec of Spark-TTS (Wang et al. 2025), for inference in float32.

    Args:
        config: The sizes of its parts.
        encoder: Whether to have the parts that only encoding needs.

    Attributes:
        sample_rate: Of waveforms, in hertz.
        hop: Samples of one semantic token.
        semantic_size: Semantic ids are below it.
        global_size: Global ids are below it.
        globals_per_voice: Global ids of one voice.
        faster: Decodes where it is given, in place of plain torch.
        make_waves: Makes the waveform of some frames of an utterance; plain torch, unless another is given.
    """

    def __init__(self, config: BiCodecConfig, *, encoder: bool) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.mel_params.sample_rate
        self.hop = config.hop
        self.semantic_size = config.quantizer.codebook_size
        self.global_size = config.global_size
        self.globals_per_voice = config.speaker_encoder.token_num
        self.quantizer = FactorizedQuantizer(config.quantizer, encoder=encoder)
        self.speaker_encoder = SpeakerEncoder(config.speaker_encoder, encoder=encoder)
        self.prenet = FrameDecoder(config.prenet)
        self.decoder = WaveGenerator(config.decoder)
        self.faster: Decode | None = None
        self.make_waves: Windowed = WindowedWaveGenerator(self.decoder, config.decoder)
        self._reach = reach(config)
        self.mel = MelSpectrogram(config.mel_params) if encoder else None
        self.encoder = FrameEncoder(config.encoder) if encoder else None

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu", *, encoder: bool = False) -> Self:
        """Load ``config.yaml`` and ``model.safetensors`` as published with Spark-TTS.

        On CUDA the precision of convolutions is torch's own setting, TF32 unless
        ``torch.backends.cudnn.allow_tf32`` is off.

        Args:
            directory: Where both files are.
            device: Where the weights live and the codec runs.
            encoder: Whether to load what only encoding needs.

        Raises:
            FileNotFoundError: One of the files is missing.
            ValueError: The message names the file and what in it is wrong.
        """
        config = read_config(directory / CONFIG_FILE)
        with torch.device("meta"):
            codec = cls(config, encoder=encoder)
        ignored = TRAINING_KEYS if encoder else TRAINING_KEYS + ENCODER_KEYS
        load_weights(codec, directory / WEIGHTS_FILE, ignored=ignored, device=torch.device(device))
        return codec.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.quantizer.table.device

    @torch.inference_mode()
    def decode(
        self,
        semantic: Sequence[Tensor],
        globals_: Tensor,
        spans: Sequence[Span] | None = None,
        lookahead: int | None = None,
        alone: bool = False,
    ) -> list[Tensor]:
        """Tokens to waveforms, every row equal to what it is alone.

        Args:
            semantic: B tensors int64 [T_i] of at least one id.
            globals_: int64 [B, globals_per_voice].
            spans: The tokens of each whose samples are wanted, all of them when None; see ``codec.streaming``.
            lookahead: Tokens after its span that are looked at; all that matter when None.
            alone: Whether nothing else computes; with compiled code several threads may then.

        Returns:
            B waveforms float32 [(end - begin) * hop] in [-1, 1] on the codec's device.

        Raises:
            ValueError: An id is out of range, a row or a span is empty or not within its row, or a shape or type
                is wrong.
        """
        check_semantic(semantic, self.semantic_size)
        check_globals(globals_, (len(semantic), self.globals_per_voice), self.global_size)
        lengths = [len(row) for row in semantic]
        spans = [Span(0, length) for length in lengths] if spans is None else spans
        check_spans(spans, lengths)
        after = self._reach if lookahead is None else min(lookahead, self._reach)
        return (self.faster or partial(self._decode, alone))(*cut(semantic, spans, self._reach, after), globals_)

    def _decode(
        self, alone: bool, semantic: Sequence[Tensor], spans: Sequence[Span], globals_: Tensor
    ) -> list[Tensor]:
        lengths = [len(row) for row in semantic]
        room = -(-max(lengths) // _ROOM) * _ROOM
        mask = length_mask([*lengths, room], self.device)
        ids = F.pad(pad_sequence(list(semantic), batch_first=True), (0, room - max(lengths))).to(self.device)
        frames = self.frames(ids, globals_.to(self.device), None if mask is None else mask[:-1])
        return [
            self.make_waves(of_row[:, : len(row)], *span, alone)
            for of_row, row, span in zip(frames, semantic, spans, strict=True)
        ]

    @torch.inference_mode()
    def mel_features(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """What ``encode_semantic`` takes of models without wav2vec 2.0: mel frames, one for each token.

        Args:
            waves: B tensors float32 [N_i] at ``sample_rate``.

        Returns:
            B tensors float32 [N_i // hop, num_mels], each as if alone.

        Raises:
            ValueError: A shape or value is wrong.
            RuntimeError: The codec was loaded without its encoder.
        """
        mel = loaded(self.mel)
        for row, wave in enumerate(waves):
            self._check_wave(f"waves[{row}]", wave, dimensions=1)
        return [mel(wave.to(self.device)[None])[0, : len(wave) // self.hop] for wave in waves]

    @torch.inference_mode()
    def encode_globals(self, clips: Tensor) -> Tensor:
        """Clips to voices.

        Published models were trained on ``codec.clip.voice_clip``, 6 s of audio of normalised volume.

        Args:
            clips: float32 [B, N] at ``sample_rate``.

        Returns:
            Global ids int64 [B, globals_per_voice].

        Raises:
            ValueError: A shape or value is wrong.
            RuntimeError: The codec was loaded without its encoder.
        """
        self._check_wave("clips", clips, dimensions=2)
        return self.speaker_encoder.quantize(loaded(self.mel)(clips.to(self.device)))

    @torch.inference_mode()
    def encode_semantic(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features to semantic ids, each row as if alone.

        Published models take ``codec.features.SemanticFeatures`` of the whole utterance, others ``mel_features``.

        Args:
            features: B tensors float32 [T_i, C].

        Returns:
            B tensors int64 [T_i] on the codec's device.

        Raises:
            ValueError: A shape or value is wrong.
            RuntimeError: The codec was loaded without its encoder.
        """
        self._check_features(features)
        lengths = [len(row) for row in features]
        padded = pad_sequence(list(features), batch_first=True).to(self.device)
        vectors = loaded(self.encoder)(padded, length_mask(lengths, self.device))
        ids = self.quantizer.quantize(self.quantizer.project(vectors))
        return [row[:length] for row, length in zip(ids, lengths, strict=True)]

    def frames(self, semantic: Tensor, globals_: Tensor, mask: Mask = None) -> Tensor:
        """Ids int64 [B, T] and [B, globals_per_voice] to the wave generator's input float32 [B, C, T]."""
        voice = self.speaker_vector(globals_)
        frames: Tensor = self.prenet(self.dequantize(semantic), voice, mask)
        return frames + voice.unsqueeze(2)

    def dequantize(self, semantic: Tensor) -> Tensor:
        """Semantic ids int64 [B, T] to their vectors float32 [B, C, T]."""
        return self.quantizer.dequantize(semantic)

    def speaker_vector(self, globals_: Tensor) -> Tensor:
        """Global ids int64 [B, globals_per_voice] to the voice's vector float32 [B, C]."""
        return self.speaker_encoder.dequantize(globals_)

    def _check_wave(self, field: str, wave: Tensor, dimensions: int) -> None:
        shortest = self.config.mel_params.n_fft // 2 + 1
        if wave.ndim != dimensions or wave.shape[-1] < shortest:
            shape, expected = list(wave.shape), "[N]" if dimensions == 1 else "[B, N]"
            raise ValueError(f"{field}: got shape {shape}, expected {expected} with N at least {shortest}")
        check_numbers(field, wave)

    def _check_features(self, features: Sequence[Tensor]) -> None:
        if not features:
            raise ValueError("features: got no rows, expected at least one")
        width = self.config.encoder.input_channels
        for row, values in enumerate(features):
            if values.ndim != 2 or not len(values) or values.shape[1] != width:
                shape = list(values.shape)
                raise ValueError(f"features[{row}]: got shape {shape}, expected [T, {width}], T at least 1")
            check_numbers(f"features[{row}]", values)
