"""From a recording, as it came in a request, to the tokens of its voice; what was encoded is remembered."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from loguru import logger
from torch import Tensor

from codec.features import SemanticFeatures
from codec.recording import Recorded, RecordingError, RecordingLimits, decode, recorded
from codec.voice_encoder import EncodedVoice
from rwkv_tts.refusal import Cause, Refusal
from rwkv_tts.schema import MAX_REFERENCE_BYTES
from worker.compute.contract import ComputeLostError, EncodesVoices

CACHE_SIZE = 256
"""Voices that are remembered; one with the tokens of a minute's speech takes 100 kB, others 1 kB."""

_LIMITS = RecordingLimits(max_bytes=MAX_REFERENCE_BYTES)


@dataclass(frozen=True)
class Recording:
    """A recording whose voice is wanted.

    Attributes:
        audio: An audio file.
        transcript: Whether the request says what is spoken in it, so that semantic tokens are of use.
    """

    audio: bytes
    transcript: bool


@dataclass(frozen=True)
class _Key:
    """What a voice is remembered by."""

    digest: bytes
    transcript: bool


class Cloner:
    """Encodes recordings in batches; not thread-safe, one thread uses it.

    Semantic tokens, and so wav2vec 2.0, are only asked for where a transcript is there to go with them.

    Args:
        encoder: Of the loaded model.
        capacity: Voices to remember; the one whose last use is longest ago is forgotten first.
    """

    def __init__(self, encoder: EncodesVoices, capacity: int = CACHE_SIZE) -> None:
        self._encoder = encoder
        self._capacity = capacity
        self._voices: OrderedDict[_Key, EncodedVoice] = OrderedDict()

    def __call__(self, recordings: Sequence[Recording]) -> list[EncodedVoice | Refusal]:
        """The voice of each recording, or why it has none; equal ones are encoded once.

        Raises:
            torch.AcceleratorError: The device cannot be used any more.
        """
        keys = [_Key(hashlib.sha256(one.audio).digest(), one.transcript) for one in recordings]
        known = {key: self._voices[key] for key in keys if key in self._voices}
        new = {key: one.audio for key, one in zip(keys, recordings, strict=True) if key not in known}
        outcomes: dict[_Key, EncodedVoice | Refusal] = {**known, **self._encode(new)}
        self._remember(outcomes)
        return [outcomes[key] for key in keys]

    def _remember(self, outcomes: Mapping[_Key, EncodedVoice | Refusal]) -> None:
        for key, outcome in outcomes.items():
            if isinstance(outcome, EncodedVoice):
                self._voices[key] = outcome
                self._voices.move_to_end(key)
        while len(self._voices) > self._capacity:
            self._voices.popitem(last=False)

    def _encode(self, files: Mapping[_Key, bytes]) -> dict[_Key, EncodedVoice | Refusal]:
        outcomes: dict[_Key, EncodedVoice | Refusal] = {}
        waves: dict[bool, dict[_Key, Recorded]] = {False: {}, True: {}}
        for key, audio in files.items():
            read = _read(audio, self._encoder.sample_rate)
            if isinstance(read, Refusal):
                outcomes[key] = read
            else:
                waves[key.transcript][key] = read
        for transcript, some in waves.items():
            outcomes |= zip(some, self._encode_waves(list(some.values()), transcript), strict=True)
        return outcomes

    def _encode_waves(self, waves: list[Recorded], transcript: bool) -> list[EncodedVoice | Refusal]:
        """Encode a batch; if it fails, each alone, so that only the faulty fail."""
        if not waves:
            return []
        found = self._attempt(waves, transcript)
        if isinstance(found, Refusal):
            # Not where the error was caught: it would keep the failed batch's tensors in memory.
            return [found] if len(waves) == 1 else [self._encode_waves([one], transcript)[0] for one in waves]
        return [*found]

    def _attempt(self, waves: list[Recorded], transcript: bool) -> list[EncodedVoice] | Refusal:
        """Encode a batch, or say why that failed."""
        try:
            voices = self._encoder([wave.speech for wave in waves], semantic=transcript)
        except (torch.AcceleratorError, ComputeLostError):  # nothing can go on
            raise
        except Exception as error:  # noqa: BLE001 - one recording's fault must not end the thread
            if len(waves) == 1:
                logger.exception("the voice encoder failed")
            return Refusal("voice encoder", Cause.INTERNAL, _line(error))
        return [
            replace(voice, faults=wave.faults, cut_off=wave.cut_off)
            for voice, wave in zip(voices, waves, strict=True)
        ]


def _read(audio: bytes, sample_rate: int) -> Recorded | Refusal:
    """What is spoken in a file, or why there is nothing."""
    try:
        return recorded(decode(audio, _LIMITS, sample_rate), _LIMITS, sample_rate)
    except RecordingError as error:
        return Refusal("reference", Cause.INVALID, str(error))
    except Exception as error:  # noqa: BLE001 - one recording's fault must not end the thread
        logger.exception("reading a recording failed")
        return Refusal("reference", Cause.INVALID, _line(error))


def _line(error: Exception) -> str:
    """An error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class LazyFeatures:
    """wav2vec 2.0 features whose model is loaded when they are needed first: it takes a gigabyte.

    Args:
        directory: Of the published model.
        device: Where it is to run.
    """

    def __init__(self, directory: Path, device: str) -> None:
        self._directory = directory
        self._device = device
        self._loaded: SemanticFeatures | None = None

    def __call__(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """As ``SemanticFeatures``, whose errors of loading it raises, too."""
        if self._loaded is None:
            self._loaded = SemanticFeatures.load(self._directory, self._device)
        return self._loaded(waves)

    def obstacle(self) -> str | None:
        """Why the model cannot be loaded, as far as that is seen without loading it."""
        if not (self._directory / "config.json").is_file():
            return f"the model directory has no {self._directory.name}/config.json"
        if find_spec("transformers") is None:
            return "the worker lacks transformers (pip install 'rwkv-tts-worker[clone]')"
        return None
