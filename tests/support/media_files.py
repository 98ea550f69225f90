"""Audio files as phones and browsers write them, made with PyAV."""

import io

import av
import numpy as np
from numpy.typing import NDArray

KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "m4a": ("ipod", "aac", {}),
    "m4a of a browser": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "m4a of ALAC": ("ipod", "alac", {}),
    "webm": ("webm", "libopus", {}),
    "webm of a browser": ("webm", "libopus", {"live": "1"}),
    "aac": ("adts", "aac", {}),
    "caf": ("caf", "alac", {}),
    "mov": ("mov", "pcm_s16le", {}),
}
"""FFmpeg's container, encoder and options."""


def encode_media(audio: NDArray[np.float64], rate: int, kind: str) -> bytes:
    """Samples [N] or [N, 2] to the bytes of a file."""
    container, encoder, options = KINDS[kind]
    layout = "mono" if audio.ndim == 1 else "stereo"
    planes = np.ascontiguousarray(np.atleast_2d(audio.T), np.float32)
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
    frame.sample_rate = rate
    content = io.BytesIO()
    with av.open(content, "w", format=container, options=options) as file:
        stream = file.add_stream(encoder, rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return content.getvalue()


def decode_media(data: bytes) -> tuple[NDArray[np.float64], int]:
    """The samples [N, channels] of a file, and its rate."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = [frame for frame in file.decode(audio=0) if isinstance(frame, av.AudioFrame)]
    rate, layout = frames[0].sample_rate, frames[0].layout
    resampler = av.AudioResampler("dblp", layout, rate)
    return np.concatenate(
        [one.to_ndarray() for frame in frames for one in resampler.resample(frame)], axis=1
    ).T, rate
