"""Recordings of voices to the tokens that speak for them, for batches of unequal length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.bicodec import BiCodec
from codec.clip import voice_clip

BATCH_SECONDS = 60
"""Audio of one pass, padding included; it bounds the memory that wav2vec 2.0 needs, not the speed."""

Features = Callable[[Sequence[Tensor]], list[Tensor]]
"""B waveforms float32 [N_i] at the codec's sample rate to what its encoder takes, B tensors float32 [T_i, C]."""


@dataclass(frozen=True)
class EncodedVoice:
    """What a prompt needs of a recording.

    Attributes:
        globals_: The voice, ``BiCodec.globals_per_voice`` ids.
        semantic: What is said and how, 50 ids a second.
        seconds: Length of the recording as encoded, without the silence at its ends.
        faults: Why the voice may not be the speaker's, one line each.
        cut_off: Whether the recording ends within a word.
    """

    globals_: list[int]
    semantic: list[int]
    seconds: float
    faults: tuple[str, ...] = ()
    cut_off: bool = False


class VoiceEncoder:
    """Recordings, as ``codec.recording.read_recording`` returns them, to tokens.

    Args:
        codec: Loaded with its encoder.
        features: ``codec.features.SemanticFeatures`` for published models, the codec's own ``mel_features`` for
            models of that front end.

    Attributes:
        sample_rate: Of the waveforms, in hertz.
    """

    def __init__(self, codec: BiCodec, features: Features) -> None:
        self.codec = codec
        self.features = features
        self.sample_rate = codec.sample_rate

    def __call__(self, waves: Sequence[NDArray[np.float64]], *, semantic: bool = True) -> list[EncodedVoice]:
        """Waveforms to voices, each as if alone.

        The voice is that of ``codec.clip.voice_clip``, the semantic tokens are those of the whole waveform. Memory
        is that of one minute of audio, or of the longest waveform.

        Args:
            waves: B waveforms float64 [N_i] at the codec's sample rate.
            semantic: Whether to make semantic tokens; without them ``features`` is spared.

        Returns:
            B voices.

        Raises:
            ValueError: There is no waveform, or one is too short or has bad values.
            RuntimeError: The codec was loaded without its encoder.
        """
        if not waves:
            raise ValueError("waves: got no rows, expected at least one")
        spoken = self._spoken(waves) if semantic else [[] for _ in waves]
        seconds = [len(wave) / self.codec.sample_rate for wave in waves]
        return [EncodedVoice(*parts) for parts in zip(self._globals(waves), spoken, seconds, strict=True)]

    def _spoken(self, waves: Sequence[NDArray[np.float64]]) -> list[list[int]]:
        """The semantic ids of waveforms of any lengths, in passes of bounded memory."""
        found: dict[int, list[int]] = {}
        for rows in batches([len(wave) for wave in waves], BATCH_SECONDS * self.codec.sample_rate):
            found.update(zip(rows, self._semantic([waves[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(waves))]

    def _globals(self, waves: Iterable[NDArray[np.float64]]) -> list[list[int]]:
        clips = [voice_clip(wave, self.codec.sample_rate, self.codec.hop) for wave in waves]
        ids: list[list[int]] = self.codec.encode_globals(torch.from_numpy(np.stack(clips)).float()).tolist()
        return ids

    def _semantic(self, waves: Iterable[NDArray[np.float64]]) -> list[list[int]]:
        features = self.features([torch.from_numpy(wave).float() for wave in waves])
        return [ids.tolist() for ids in self.codec.encode_semantic(features)]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows in groups of similar length, each with at most ``budget`` samples once padded, or of one row."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[row] > budget:
            yield group
            group = []
        group.append(row)
    if group:
        yield group
