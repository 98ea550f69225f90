"""Mel spectrogram: what the speaker encoder reads, and the semantic encoder of models without wav2vec 2.0.

Published models read magnitudes. With ``log`` in the configuration the frames are logarithms instead.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from codec.config import MelConfig

# The mel scale of Slaney's Auditory Toolbox (1998): linear to 1 kHz, then 27 steps for a factor of 6.4.
BREAK_HERTZ = 1000.0
BREAK_MEL = 15.0
LOG_STEP = np.log(6.4) / 27

# Logarithms of speech, from the floor up, then lie between about -1.7 and 3.
LOG_FLOOR = 1e-4
LOG_OFFSET = 4.0
LOG_SCALE = 3.0


def hertz_to_mel(hertz: float) -> float:
    """A frequency on Slaney's mel scale."""
    if hertz < BREAK_HERTZ:
        return hertz / BREAK_HERTZ * BREAK_MEL
    return float(BREAK_MEL + np.log(hertz / BREAK_HERTZ) / LOG_STEP)


def mel_to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``hertz_to_mel``, for values float64 [N]."""
    logarithmic = BREAK_HERTZ * np.exp(LOG_STEP * (mel - BREAK_MEL))
    return np.where(mel < BREAK_MEL, mel / BREAK_MEL * BREAK_HERTZ, logarithmic)


def mel_filters(config: MelConfig) -> NDArray[np.float64]:
    """Triangles of area one, evenly spaced in mel, over the spectrum: float64 [n_fft // 2 + 1, num_mels]."""
    nyquist = config.sample_rate / 2
    ends = hertz_to_mel(config.mel_fmin), hertz_to_mel(config.mel_fmax or nyquist)
    edges = mel_to_hertz(np.linspace(*ends, config.num_mels + 2))
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, nyquist, config.n_fft // 2 + 1)[:, None]
    triangles = np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak))
    return np.maximum(0, triangles) * 2 / (right - left)


class MelSpectrogram(nn.Module):
    """Waveforms float32 [B, N] to mel frames float32 [B, N // hop_length + 1, num_mels].

    Frame t is centred on sample ``t * hop_length``. The ends are reflected, so N must exceed ``n_fft // 2``.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        filters = torch.from_numpy(mel_filters(config)).float()
        # On the CPU also when the model around is built on the meta device: no file holds these two.
        self.register_buffer("window", torch.hann_window(config.win_length, device="cpu"), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        spectrum = torch.stft(
            waves,
            self.config.n_fft,
            self.config.hop_length,
            self.config.win_length,
            window=self.window,
            return_complex=True,
        )
        mel = spectrum.abs().transpose(1, 2) @ self.filters
        return (mel.clamp(min=LOG_FLOOR).log() + LOG_OFFSET) / LOG_SCALE if self.config.log else mel
