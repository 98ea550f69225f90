"""Audio files with damaged places; by hand, ``python tests/support/mutations.py 500 0`` tells what they cost."""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from codec.recording import RecordingError, read_recording
from hostile_audio import encode, good, speech
from media_files import encode_media

Bytes = NDArray[np.uint8]

INTACT: dict[str, Callable[[], bytes]] = {
    "m4a": lambda: encode_media(speech(1.0, 44100), 44100, "m4a"),
    "webm": lambda: encode_media(speech(1.0, 48000), 48000, "webm"),
    "ogg": lambda: encode(speech(1.0), 16000, "OGG", "OPUS"),
    "mp3": lambda: good("mp3", 1.0),
    "flac": lambda: good("flac_16", 1.0),
    "wav": lambda: good("wav_16", 1.0),
    "adpcm": lambda: encode(speech(1.0), 16000, "WAV", "MS_ADPCM"),
    "aiff": lambda: good("aiff", 1.0),
}


def flipped(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Some bytes are others, at places that are more often early."""
    count = 1 << rng.integers(0, 8)
    places = (rng.random(count) ** rng.choice([1, 4]) * len(data)).astype(int)
    data[places] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, *rng.integers(0, 256, 8)], count)
    return data


def resized(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Four bytes in a row are a number that may be a size."""
    at = int(rng.random() ** 4 * (len(data) - 4))
    value = int(rng.choice([0, 1, 7, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1]))
    data[at : at + 4] = np.frombuffer(value.to_bytes(4, "big" if rng.integers(2) else "little"), np.uint8)
    return data


def torn(data: Bytes, rng: np.random.Generator) -> Bytes:
    """A piece is missing, twice there, somewhere else, or all that there is."""
    begin, end = sorted(int(place) for place in rng.integers(0, len(data), 2))
    piece = data[begin:end]
    return [
        np.concatenate((data[:begin], data[end:])),
        np.concatenate((data[:end], piece, data[end:])),
        np.concatenate((data[:begin], data[end:], piece)),
        data[:end],
    ][int(rng.integers(4))]


def mutated(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many files, each with its name."""
    intact = {kind: np.frombuffer(make(), np.uint8) for kind, make in INTACT.items()}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = list(intact)[number % len(intact)]
        data = intact[kind].copy()
        for _ in range(rng.integers(1, 4)):
            change = (flipped, resized, torn)[int(rng.integers(3))]
            data = change(data, rng) if len(data) > 8 else data
        yield f"{kind} {number}", data.tobytes()


def ended(data: bytes) -> str:
    """How reading a file ends: it is read, or refused in one line; anything else raises."""
    try:
        audio = read_recording(data)
    except RecordingError as error:
        return "refused" if str(error).isprintable() else "refused in lines"
    assert np.isfinite(audio).all()
    assert 1600 <= len(audio) <= 960_000
    return "read"


def main() -> None:
    seconds, ends = 0.0, Counter[str]()
    for name, data in mutated(int(sys.argv[1]), int(sys.argv[2])):
        start = time.perf_counter()
        end = ended(data)
        ends[f"{name.split()[0]} {end}"] += 1
        seconds = max(seconds, time.perf_counter() - start)
    own, child = (
        resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{dict(sorted(ends.items()))}; slowest {seconds:.2f} s; most memory {own} MiB, in a child {child} MiB")  # noqa: T201


if __name__ == "__main__":
    main()
