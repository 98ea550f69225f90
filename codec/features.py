"""Semantic features of speech: hidden states of wav2vec 2.0 (Baevski et al. 2020)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SAMPLES_NEEDED = 400
"""What the convolutions of wav2vec 2.0 see of the waveform for one frame: 25 ms."""
LAYERS = (11, 14, 16)
"""The features are the mean of the hidden states after these transformer layers."""
LAYERS_NEEDED = max(LAYERS) + 1
"""One layer more: transformers before version 5 normalised the last hidden state of the stack."""
VARIANCE_EPSILON = 1e-7
UNUSED_KEY = "masked_spec_embed"


def standardize(wave: Tensor) -> Tensor:
    """Samples float [N] to mean zero and variance one, float32 [N]: what wav2vec 2.0 expects."""
    wave = wave.double()
    variance, mean = torch.var_mean(wave, correction=0)
    return ((wave - mean) / (variance + VARIANCE_EPSILON).sqrt()).float()


class SemanticFeatures:
    """Waveforms at 16 kHz to features, 50 frames a second.

    Args:
        model: A ``transformers.Wav2Vec2Model`` with at least ``LAYERS_NEEDED`` layers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Load ``config.json`` and the weights of a wav2vec 2.0 model as published.

        Args:
            directory: Where they are.
            device: Where the weights live and the model runs.

        Raises:
            ImportError: There is no transformers.
            OSError: A file is missing.
            ValueError: A weight is missing.
        """
        try:
            from transformers import Wav2Vec2Model
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ImportError(
                "cloning a voice needs transformers: pip install 'rwkv-tts-worker[clone]'"
            ) from error
        disable_progress_bar()  # type: ignore[no-untyped-call]  # a worker has no terminal
        published: Any = Wav2Vec2Model
        model, report = published.from_pretrained(
            directory, num_hidden_layers=LAYERS_NEEDED, local_files_only=True, output_loading_info=True
        )
        missing = [key for key in report["missing_keys"] if key != UNUSED_KEY]
        if missing:
            raise ValueError(f"{directory}: {missing[0]}: missing (and {len(missing) - 1} more)")
        return cls(model.float().eval().requires_grad_(False).to(device))

    @torch.inference_mode()
    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms to features, each as if alone.

        Args:
            waves: B tensors float [N_i].

        Returns:
            B tensors float32 [T_i, C]; ``T_i = (N_i - 80) // 320`` for the published model.

        Raises:
            ValueError: There is no waveform, or one has no full frame.
        """
        if not waves:
            raise ValueError("waves: got no rows, expected at least one")
        for row, wave in enumerate(waves):
            if len(wave) < SAMPLES_NEEDED:
                raise ValueError(f"waves[{row}]: got {len(wave)} samples, expected at least {SAMPLES_NEEDED}")
        features = torch.stack(self.hidden_states([standardize(wave) for wave in waves])).mean(dim=0)
        return [row[: self.frame_count(len(wave))] for row, wave in zip(features, waves, strict=True)]

    def hidden_states(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Standardised waveforms, B tensors float32 [N_i], to the three hidden states float32 [B, T, C], padded.

        Without the attention mask every frame of a padded row would be wrong.
        """
        mask = pad_sequence([torch.ones_like(row, dtype=torch.int64) for row in values], batch_first=True)
        output = self.model(
            pad_sequence(list(values), batch_first=True).to(self.model.device),
            attention_mask=mask.to(self.model.device),
            output_hidden_states=True,
        )
        return [output.hidden_states[layer] for layer in LAYERS]

    def frame_count(self, samples: int) -> int:
        """Frames that the convolutions make of so many samples."""
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples
