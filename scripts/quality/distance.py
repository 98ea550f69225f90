"""How far two recordings are apart: cepstra, dynamic time warping, and a plain spectral picture of a speaker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec.config import MelConfig
from codec.mel import mel_filters
from quality.recording import SAMPLE_RATE, Audio, active_frames, framed

Array = NDArray[np.float64]

HOP = 160
"""Samples from one analysis frame to the next: 10 ms."""
WINDOW = 400
"""Samples of an analysis frame: 25 ms."""
CEPSTRA = 13
FLOOR = 10 ** (-60 / 20)
"""Mel magnitudes are compared down to 60 dB below the loudest, so that neither gain nor digital zeros matter."""
DECIBELS = 10 * np.sqrt(2) / np.log(10)
"""Euclidean distance of cepstra of ln|S| to dB (Kubichek 1993): the root mean square difference of the spectra."""

_MEL = MelConfig(
    sample_rate=SAMPLE_RATE, n_fft=512, win_length=WINDOW, hop_length=HOP, mel_fmin=60, mel_fmax=7600, num_mels=40
)
_FILTERS = mel_filters(_MEL)
_HANN = np.hanning(WINDOW)
_COSINES = np.cos(np.pi / _MEL.num_mels * np.outer(np.arange(_MEL.num_mels) + 0.5, np.arange(1, CEPSTRA + 1)))


def cepstra(audio: Audio) -> Array:
    """Mel cepstra 1 to 13 of samples [N]: [T, 13], those of which ln|S| is c0 + sum of c_k cos(k w)."""
    spectrum = np.abs(np.fft.rfft(framed(audio, WINDOW, HOP) * _HANN, _MEL.n_fft)) @ _FILTERS
    logarithms = np.log(np.maximum(spectrum, max(spectrum.max(), 1e-9) * FLOOR))
    return np.asarray(logarithms @ _COSINES * (2 / _MEL.num_mels))


def normalized_cepstra(audio: Audio) -> Array:
    """Cepstra [T, 13] of mean zero: without what the channel and the voice's long-term colour add."""
    values = cepstra(audio)
    return np.asarray(values - values.mean(axis=0))


def warped_distances(query: Array, references: Sequence[Array]) -> Array:
    """Mel-cepstral distortion in dB [R] after dynamic time warping of a query [T, C] with R references [T_r, C].

    The warping is the symmetric one of Sakoe and Chiba (1978): a diagonal step counts twice, and the sum is
    divided by both lengths, which makes it the mean over the path. Anti-diagonals are computed at once, and so are
    all references.
    """
    rows, lengths = len(query), [len(reference) for reference in references]
    totals = np.empty(len(references))
    last = np.full((len(references), rows + 1), np.inf)  # column i + 1: the sum up to row i of the query
    before = last.copy()
    before[:, 0] = 0.0  # the cell before both first frames
    for diagonal, cost in enumerate(_skewed_costs(query, references, max(lengths))):
        now = np.full_like(last, np.inf)
        straight = np.minimum(last[:, 1:], last[:, :-1]) + cost
        now[:, 1:] = np.minimum(straight, before[:, :-1] + 2 * cost)
        before, last = last, now
        for r, length in enumerate(lengths):
            if diagonal == rows + length - 2:
                totals[r] = now[r, rows]
    return np.asarray(totals / (rows + np.array(lengths)) * DECIBELS)


def distance_table(queries: Sequence[Array], references: Sequence[Array]) -> Array:
    """Distortion in dB of each query with each reference: [Q, R]."""
    return np.stack([warped_distances(query, references) for query in queries])


def _skewed_costs(query: Array, references: Sequence[Array], longest: int) -> NDArray[np.float32]:
    """Distances of frames on anti-diagonals: [T + longest - 1, R, T], infinite outside the rectangle."""
    rows = len(query)
    skewed = np.full((rows + longest - 1, len(references), rows), np.inf, dtype=np.float32)
    steps = np.arange(rows)
    for r, reference in enumerate(references):
        squares = (query**2).sum(1)[:, None] + (reference**2).sum(1) - 2 * query @ reference.T
        columns = np.arange(len(reference))
        skewed[steps[:, None] + columns, r, steps[:, None]] = np.sqrt(np.maximum(squares, 0))
    return skewed


def distortion(one: Audio, other: Audio) -> float:
    """Mel-cepstral distortion in dB of two recordings after warping."""
    return float(warped_distances(normalized_cepstra(one), [normalized_cepstra(other)])[0])


def timbre(audio: Audio, pitch: float) -> Array:
    """Who speaks, as a vector [27]: mean and deviation of the cepstra of speech, and ln of the pitch in Hz."""
    values = cepstra(audio)
    active = active_frames(audio, WINDOW, HOP)
    values = values[active] if active.any() else values
    return np.concatenate([values.mean(axis=0), values.std(axis=0), [np.log(max(pitch, 1.0))]])


@dataclass(frozen=True)
class Centroids:
    """Mean vectors [S, D] of known speakers, and the deviation [D] of their recordings around them."""

    names: tuple[str, ...]
    means: Array
    deviation: Array

    @classmethod
    def of(cls, examples: Mapping[str, Sequence[Array]]) -> "Centroids":
        means = np.stack([np.mean(vectors, axis=0) for vectors in examples.values()])
        spread = [np.stack(vectors) - mean for vectors, mean in zip(examples.values(), means, strict=True)]
        deviation = np.sqrt(np.mean(np.concatenate(spread) ** 2, axis=0))
        return cls(tuple(examples), means, np.maximum(deviation, 1e-6))

    def nearest(self, vector: Array) -> str:
        """The speaker whose mean is nearest, every dimension in its own deviations."""
        return self.names[int(np.argmin((((vector - self.means) / self.deviation) ** 2).sum(axis=1)))]
