"""What the codec is trained on: spectral distances, and discriminators that tell its waves from recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from codec.config import MelConfig
from codec.mel import mel_filters

WINDOWS = (64, 128, 256, 512, 1024, 2048)
MEL_BINS = (5, 10, 20, 40, 80, 160)
OVERLAP = 4
AMPLITUDE_FLOOR = 1e-4  # of full scale, per bin

LOG_MAGNITUDE_WEIGHT = 0.15
CONVERGENCE_WEIGHT = 0.5

PERIODS = (2, 3, 5, 7, 11)
PERIOD_WIDTHS = (32, 64, 128, 192, 192)
SPECTROGRAM_WINDOWS = (1024, 512, 256)
SPECTROGRAM_WIDTH = 32
LEAK = 0.1


def short_time_spectrum(waves: Tensor, window: Tensor) -> Tensor:
    """Spectra complex64 [B, T, n // 2 + 1] of waves [B, N] at hops of a quarter window, ends reflected.

    Unlike `torch.stft` its backward pass adds overlapping frames without atomic operations.
    """
    size = len(window)
    padded = F.pad(waves.unsqueeze(1), (size // 2, size // 2), mode="reflect")[:, 0]
    return cast(Tensor, torch.fft.rfft(padded.unfold(1, size, size // OVERLAP) * window))


class SpectrogramDistance(nn.Module):
    """Distance of waves float32 [B, N] at one resolution: log mel, log magnitude and spectral convergence.

    Magnitudes are in units of amplitude: a sine of amplitude a peaks at a, whatever the window.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, size: int, mels: int, sample_rate: int) -> None:
        super().__init__()
        config = MelConfig(
            sample_rate=sample_rate,
            n_fft=size,
            win_length=size,
            hop_length=size // OVERLAP,
            mel_fmin=0,
            num_mels=mels,
        )
        filters = torch.from_numpy(mel_filters(config)).float()
        window = torch.hann_window(size)
        self.register_buffer("window", window * 2 / window.sum(), persistent=False)
        self.register_buffer("filters", filters / filters.sum(dim=0), persistent=False)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        found = short_time_spectrum(predicted, self.window).abs()
        with torch.no_grad():
            expected = short_time_spectrum(target, self.window).abs()
        mel = F.l1_loss(log_amplitude(found @ self.filters), log_amplitude(expected @ self.filters))
        magnitude = F.l1_loss(log_amplitude(found), log_amplitude(expected))
        convergence = norm(found - expected) / norm(expected)
        return mel + LOG_MAGNITUDE_WEIGHT * magnitude + CONVERGENCE_WEIGHT * convergence


def log_amplitude(magnitudes: Tensor) -> Tensor:
    return magnitudes.clamp(min=AMPLITUDE_FLOOR).log()


def norm(x: Tensor) -> Tensor:
    """Frobenius norm, with a gradient where x is zero."""
    return (x.square().sum() + AMPLITUDE_FLOOR).sqrt()


class SpectralLoss(nn.Module):
    """Mean over resolutions (after Yamamoto et al. 2020, with the mel scales of Kumar et al. 2023)."""

    def __init__(self, sample_rate: int, windows: Sequence[int] = WINDOWS, mels: Sequence[int] = MEL_BINS) -> None:
        super().__init__()
        pairs = zip(windows, mels, strict=True)
        self.distances = nn.ModuleList(SpectrogramDistance(size, bins, sample_rate) for size, bins in pairs)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        return torch.stack([distance(predicted, target) for distance in self.distances]).mean()


Features = list[Tensor]
"""A discriminator's activations, first to last; the last one is its verdict."""


class PeriodDiscriminator(nn.Module):
    """Sees waves float32 [B, N] folded to [B, 1, N / period, period] (Kong et al. 2020)."""

    def __init__(self, period: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(widths) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), padding=(2, 0)))
            for inputs, outputs, stride in zip([1, *widths[:-1]], widths, strides, strict=True)
        )
        self.verdict = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waves: Tensor) -> Features:
        padded = F.pad(waves.unsqueeze(1), (0, -waves.shape[1] % self.period), mode="reflect")
        return judge(padded.reshape(*padded.shape[:2], -1, self.period), self.convs, self.verdict)


class SpectrogramDiscriminator(nn.Module):
    """Sees the complex spectrogram of waves float32 [B, N] as two channels over time and frequency."""

    window: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        window = torch.hann_window(size)
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        self.convs = nn.ModuleList(
            [
                weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4))),
                *(
                    weight_norm(
                        nn.Conv2d(width, width, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1))
                    )
                    for dilation in (1, 2, 4)
                ),
                weight_norm(nn.Conv2d(width, width, (3, 3), padding=(1, 1))),
            ]
        )
        self.verdict = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, waves: Tensor) -> Features:
        with torch.autocast(waves.device.type, enabled=False):
            spectra = torch.view_as_real(short_time_spectrum(waves.float(), self.window))
        image = spectra.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return judge(image, self.convs, self.verdict)


def judge(x: Tensor, convs: nn.ModuleList, verdict: nn.Module) -> Features:
    features: Features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), LEAK)
        features.append(x)
    return [*features, verdict(x)]


class Discriminators(nn.Module):
    """All discriminators, each over the same waves float32 [B, N]."""

    def __init__(
        self,
        periods: Sequence[int] = PERIODS,
        period_widths: Sequence[int] = PERIOD_WIDTHS,
        windows: Sequence[int] = SPECTROGRAM_WINDOWS,
        width: int = SPECTROGRAM_WIDTH,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            [
                *(PeriodDiscriminator(period, period_widths) for period in periods),
                *(SpectrogramDiscriminator(size, width) for size in windows),
            ]
        )

    def forward(self, waves: Tensor) -> list[Features]:
        return [member(waves) for member in self.members]


def discriminator_loss(features: list[Features], recordings: int) -> Tensor:
    """Least-squares loss (Mao et al. 2017) of features whose first rows are recordings and the rest made."""
    losses = []
    for *_, verdict in features:
        real, made = verdict[:recordings].float(), verdict[recordings:].float()
        losses.append((real - 1).square().mean() + made.square().mean())
    return torch.stack(losses).sum()


@dataclass
class GeneratorLoss:
    adversarial: Tensor
    matching: Tensor
    """L1 of features relative to the recordings', mean over layers, sum over discriminators."""


def generator_loss(made: list[Features], recorded: list[Features]) -> GeneratorLoss:
    """Losses of made waves, given the features of the recordings that they imitate."""
    adversarial = torch.stack([(features[-1].float() - 1).square().mean() for features in made]).sum()
    matching = torch.stack([feature_distance(*pair) for pair in zip(made, recorded, strict=True)]).sum()
    return GeneratorLoss(adversarial, matching)


def feature_distance(made: Features, recorded: Features) -> Tensor:
    distances = []
    for found, expected in zip(made[:-1], recorded[:-1], strict=True):
        fixed = expected.detach().float()
        distances.append((found.float() - fixed).abs().mean() / fixed.abs().mean().clamp(min=AMPLITUDE_FLOOR))
    return torch.stack(distances).mean()


def recordings_of(features: list[Features], count: int) -> list[Features]:
    """The detached features of the first `count` rows."""
    return [[feature[:count].detach() for feature in member] for member in features]


def phone_loss(scores: Tensor, phones: Tensor) -> Tensor:
    """Cross entropy of scores [B, T, P] against phones int64 [B, T]."""
    return F.cross_entropy(scores.flatten(0, 1).float(), phones.flatten())


def phone_accuracy(scores: Tensor, phones: Tensor) -> Tensor:
    return (scores.argmax(dim=2) == phones).float().mean()
