"""The teacher: speech with phone labels from the ``flite`` program, in our speakers, pitches and speeds."""

import os
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import istft, resample_poly, stft

from codec.clip import normalize_volume
from train_demo_voice.speakers import HOP, PHONES, SAMPLE_RATE, Speaker

HEAD_SECONDS = 0.06
TAIL_SECONDS = 0.10
RESAMPLE_DENOMINATOR = 200
STEADY_PITCH_VOICES = frozenset({"rms"})
"""Voices that ignore ``f0_shift``: their pitch is moved by resampling, and their formants put back."""

Audio = NDArray[np.float64]
Segments = list[tuple[str, float]]

_FRAME = 512
_ENVELOPE_CEPSTRA = 50
_GAIN_LIMIT = 10.0
_PHONE_IDS = {name: i for i, name in enumerate(PHONES)}
_TIMEOUT_SECONDS = 60


class TeacherError(RuntimeError):
    """flite is missing or unfit."""


class UnspeakableError(TeacherError):
    """flite failed on this text, or found nothing to say in it."""


def render(text: str, speaker: Speaker, pitch: float, speed: float) -> tuple[Audio, NDArray[np.uint8]]:
    """Speak ``text``: float64 samples [N] at 16 kHz, N a multiple of 320, and phone ids uint8 [N / 320].

    ``pitch`` and ``speed`` are the factors of ``speakers.PITCHES`` (of F0) and ``speakers.SPEEDS`` (of duration).
    Silence is trimmed to 60 ms before and 100 ms after the speech; the volume is that of reference audio.

    Raises:
        TeacherError: flite is missing; the environment variable FLITE may name it.
        UnspeakableError: it could not say this text.
    """
    steady = speaker.voice in STEADY_PITCH_VOICES
    shift = pitch if steady else 1.0
    factor = speaker.resample * shift
    audio, segments = _flite(text, speaker.voice, 1.0 if steady else pitch, speed * factor)
    audio = raise_frequencies(audio, factor)
    if shift != 1.0:
        audio = restore_formants(audio, shift)
    segments = [(name, end / factor) for name, end in segments]
    audio, start = _trim(audio, segments)
    return normalize_volume(audio), _frame_phones(segments, start, len(audio) // HOP)


def check_teacher() -> None:
    """Raise TeacherError when flite cannot be found."""
    if shutil.which(_program()) is None:
        raise TeacherError(f"no program {_program()!r}: install flite, or name it in the variable FLITE")


def _program() -> str:
    return os.environ.get("FLITE", "flite")


def _flite(text: str, voice: str, f0_shift: float, duration_stretch: float) -> tuple[Audio, Segments]:
    """What flite says: samples [N] at 16 kHz, and each phone with its end in seconds."""
    check_teacher()
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        command = [_program(), "-voice", voice, "--setf", f"f0_shift={f0_shift:.4f}"]
        command += ["--setf", f"duration_stretch={duration_stretch:.4f}", "-psdur", "-t", text, "-o", str(wav)]
        try:
            run = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_TIMEOUT_SECONDS)
        except subprocess.SubprocessError as error:
            raise UnspeakableError(f"flite failed on {text!r}: {error}") from error
        return _read_wav(wav), _segments(run.stdout)


def _read_wav(path: Path) -> Audio:
    """Samples [N] of flite's 16-bit mono file, full scale 1."""
    with wave.open(str(path)) as file:
        if file.getframerate() != SAMPLE_RATE:
            raise TeacherError(f"flite spoke at {file.getframerate()} Hz, expected {SAMPLE_RATE}")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0


def _segments(printed: str) -> Segments:
    """``pau:0.164 hh:0.255`` as [("pau", 0.164), ("hh", 0.255)]."""
    pairs = (item.rsplit(":", 1) for item in printed.split())
    return [(name, float(end)) for name, end in pairs]


def raise_frequencies(audio: Audio, factor: float) -> Audio:
    """Multiply every frequency of samples [N] by ``factor``, formants included; [N / factor] come back."""
    if factor == 1.0:
        return audio
    return np.asarray(resample_poly(audio, RESAMPLE_DENOMINATOR, round(RESAMPLE_DENOMINATOR * factor)))


def restore_formants(audio: Audio, factor: float) -> Audio:
    """Undo what ``raise_frequencies`` did to the formants of samples [N], and leave the pitch.

    In every frame the spectral envelope E, the real cepstrum's slow part, is moved back: the spectrum is
    multiplied by E(factor f) / E(f).
    """
    _, _, spectrum = stft(audio, SAMPLE_RATE, nperseg=_FRAME, noverlap=_FRAME * 3 // 4)
    envelope = _log_envelope(np.abs(spectrum))
    bins = np.arange(envelope.shape[0])
    source = np.minimum(bins * factor, bins[-1])
    low = np.floor(source).astype(np.int64)
    part = (source - low)[:, None]
    moved = (1 - part) * envelope[low] + part * envelope[np.minimum(low + 1, bins[-1])]
    gain = np.exp(np.clip(moved - envelope, -np.log(_GAIN_LIMIT), np.log(_GAIN_LIMIT)))
    _, restored = istft(spectrum * gain, SAMPLE_RATE, nperseg=_FRAME, noverlap=_FRAME * 3 // 4)
    return np.asarray(restored[: len(audio)])


def _log_envelope(magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smooth log spectrum of magnitudes [bins, frames]."""
    cepstrum = np.fft.irfft(np.log(magnitude + 1e-6), axis=0)
    cepstrum[_ENVELOPE_CEPSTRA:-_ENVELOPE_CEPSTRA] = 0
    return np.asarray(np.fft.rfft(cepstrum, axis=0).real)


def _trim(audio: Audio, segments: Segments) -> tuple[Audio, float]:
    """The speech with a little silence around it, a multiple of 320 samples, and its first second in ``audio``."""
    spoken = [i for i, (name, _) in enumerate(segments) if name != PHONES[0]]
    if not spoken:
        raise UnspeakableError("flite found nothing to say")
    first = segments[spoken[0] - 1][1] if spoken[0] else 0.0
    start = max(0, round((first - HEAD_SECONDS) * SAMPLE_RATE))
    end = round((segments[spoken[-1]][1] + TAIL_SECONDS) * SAMPLE_RATE)
    length = -(-(min(end, len(audio)) - start) // HOP) * HOP
    clip = audio[start : start + length]
    return np.pad(clip, (0, length - len(clip))), start / SAMPLE_RATE


def _frame_phones(segments: Segments, start: float, frames: int) -> NDArray[np.uint8]:
    """The phone at the middle of each 20 ms frame, uint8 [frames]; silence after the last one."""
    ends = np.array([end for _, end in segments]) - start
    ids = np.array([*(_PHONE_IDS[name] for name, _ in segments), 0], np.uint8)
    middles = (np.arange(frames) + 0.5) * HOP / SAMPLE_RATE
    return ids[np.searchsorted(ends, middles, side="right")]
