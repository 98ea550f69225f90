"""Recordings that a hostile or broken producer may send, and good ones to make them of."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000

GOOD_ENCODINGS = {
    "wav_u8": ("WAV", "PCM_U8"),
    "wav_16": ("WAV", "PCM_16"),
    "wav_24": ("WAV", "PCM_24"),
    "wav_32": ("WAV", "PCM_32"),
    "wav_float": ("WAV", "FLOAT"),
    "wav_double": ("WAV", "DOUBLE"),
    "wav_alaw": ("WAV", "ALAW"),
    "wav_ulaw": ("WAV", "ULAW"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aiff_24": ("AIFF", "PCM_24"),
    "aiff_float": ("AIFF", "FLOAT"),
    "flac_8": ("FLAC", "PCM_S8"),
    "flac_16": ("FLAC", "PCM_16"),
    "flac_24": ("FLAC", "PCM_24"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What is read, as libsndfile's container and encoding."""

COMPRESSED = ("flac_16", "vorbis", "opus", "mp3")

OTHER_ENCODINGS = [
    ("WAV", "GSM610"),
    ("WAV", "G721_32"),
    ("WAV", "NMS_ADPCM_24"),
    ("W64", "PCM_16"),
    ("AIFF", "GSM610"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("VOC", "PCM_16"),
    ("NIST", "PCM_16"),
    ("IRCAM", "PCM_16"),
    ("PAF", "PCM_16"),
    ("SVX", "PCM_16"),
    ("AVR", "PCM_16"),
    ("HTK", "PCM_16"),
    ("MAT5", "PCM_16"),
    ("XI", "DPCM_16"),
    ("RAW", "PCM_16"),
]
"""What libsndfile would read and we do not."""


def encode(audio: NDArray[np.float64], rate: int, container: str, encoding: str) -> bytes:
    """Samples [N] or [N, channels] to the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=container, subtype=encoding)
    return file.getvalue()


def speech(seconds: float = 0.5, rate: int = RATE) -> NDArray[np.float64]:
    """Something that is not silent anywhere: a tone of changing loudness with noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, len(time))
    return 0.4 * np.sin(2 * np.pi * 220 * time) * (1.5 + np.sin(2 * np.pi * 3 * time)) / 2 + noise


def good(name: str, seconds: float = 0.5) -> bytes:
    return encode(speech(seconds), RATE, *GOOD_ENCODINGS[name])


def noise(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


def patched(data: bytes, offset: int, layout: str, value: float) -> bytes:
    """`data` with a number of another value at an offset."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


def chunk(name: bytes, payload: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(payload) if size is None else size) + payload


def wav(*chunks: bytes, riff: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return riff + struct.pack("<I", len(body) if size is None else size) + body


def wav_format(tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    frame = channels * bits // 8 & 0xFFFF
    values = (tag, channels, rate, frame * rate & 0xFFFFFFFF, frame, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *values))


def pcm(audio: NDArray[np.float64]) -> bytes:
    return (audio * 32767).astype("<i2").tobytes()


# Truncated, flipped, renamed


def truncated() -> Iterator[tuple[str, bytes]]:
    for name in ("wav_16", "wavex", "wav_float", "aiff", *COMPRESSED):
        data = good(name)
        for cut in (1, 3, 4, 11, 12, 20, 36, 43, 44, 46, 58, 100, len(data) // 3, len(data) // 2, len(data) - 1):
            yield f"{name} of {cut} bytes", data[:cut]


def flipped(seeds: int = 12) -> Iterator[tuple[str, bytes]]:
    """Some bytes are others: anywhere, and among the first hundred."""
    for row, name in enumerate(("wav_16", *COMPRESSED, "aiff")):
        data = good(name)
        for seed in range(seeds):
            rng = np.random.default_rng([row, seed])
            changed = bytearray(data)
            for _ in range(1 + 5 * (seed // 2)):
                changed[rng.integers(4, 100 if seed % 2 else len(data))] = rng.integers(256)
            yield f"{name} flipped {seed}", bytes(changed)


def spliced() -> Iterator[tuple[str, bytes]]:
    """A head of one format on the body of another, a file twice, a hole, a file of one byte value."""
    for name in ("wav_16", *COMPRESSED):
        data, other = good(name), good("mp3" if name != "mp3" else "opus")
        yield f"{name} before another format", data[:60] + other
        yield f"{name} twice", data + data
        yield f"{name} with a hole", data[: len(data) // 3] + data[len(data) // 2 :]
        yield f"{name} magic and zeros", data[:12] + bytes(5000)
        yield f"{name} magic and ones", data[:12] + b"\xff" * 5000
        yield f"{name} magic and noise", data[:12] + noise(50_000)


def no_audio() -> Iterator[tuple[str, bytes]]:
    text = b"This is no audio at all, whatever its name says.\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.wav", bytes(100_000_000))
    yield "nothing", b""
    yield "text renamed to .wav", text
    yield "long text", text * 10_000
    yield "html", b"<!doctype html><html><body>404</body></html>"
    yield "playlist", b"#EXTM3U\nhttp://127.0.0.1/a.mp3\n"
    yield "path", b"/etc/passwd"
    yield "url", b"file:///etc/passwd"
    yield "zip bomb", archive.getvalue()
    yield "gzip bomb", gzip.compress(bytes(100_000_000), compresslevel=1)
    yield "gzip of a good file", gzip.compress(good("wav_16"))
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "elf", b"\x7fELF" + bytes(1000)
    yield "mp4", b"\x00\x00\x00\x20ftypM4A " + bytes(1000)
    yield "matroska", b"\x1a\x45\xdf\xa3" + bytes(1000)
    yield "zeros", bytes(1_000_000)
    yield "ones", b"\xff" * 1_000_000
    yield "noise", noise(1_000_000)
    yield "utf-16 text", "RIFF WAVE".encode("utf-16")
    for container, encoding in OTHER_ENCODINGS:
        rate = 8000 if "GSM" in encoding else 44100 if container == "XI" else RATE
        yield f"{container} {encoding}", encode(speech(rate=rate), rate, container, encoding)


# Headers that lie, by format


def wav_headers() -> Iterator[tuple[str, bytes]]:
    body = chunk(b"data", pcm(speech()))
    for rate in (0, 1, 100, 7999, 192_001, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"wav {rate} Hz", wav(wav_format(rate=rate), body)
    for channels in (0, 9, 64, 255, 1024, 65535):
        yield f"wav {channels} channels", wav(wav_format(channels=channels), body)
    for bits in (0, 1, 7, 12, 33, 64, 65535):
        yield f"wav {bits} bits", wav(wav_format(bits=bits), body)
    for tag in (0, 3, 0x11, 0x50, 0x55, 0x161, 0xFFFE, 0xFFFF):
        yield f"wav format tag {tag:#x}", wav(wav_format(tag=tag), body)
    for size in (0, 1, 3, 4, 2**30, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"wav claims {size} bytes", wav(wav_format(), body, size=size)
        yield f"wav data claims {size} bytes", wav(wav_format(), chunk(b"data", pcm(speech()), size))
        yield f"wav list claims {size} bytes", wav(wav_format(), chunk(b"LIST", b"INFO", size), body)
        yield f"wav format claims {size} bytes", wav(chunk(b"fmt ", wav_format()[8:], size), body)
    odd = chunk(b"junk", b"odd")
    yield "wav of odd chunks", wav(odd, wav_format(), odd, odd, body)
    yield "wav of many chunks", wav(wav_format(), *[chunk(b"junk", b"") for _ in range(500_000)], body)
    yield "wav of many formats", wav(*[wav_format()] * 100_000, body)
    yield "wav without format", wav(body)
    yield "wav without data", wav(wav_format())
    yield "wav of empty data", wav(wav_format(), chunk(b"data", b""))
    yield "wav data before format", wav(body, wav_format())
    yield "wav of two datas", wav(wav_format(), body, body)
    yield "wav odd bytes of data", wav(wav_format(), chunk(b"data", pcm(speech()) + b"x"))
    yield "wav big endian", wav(wav_format(), body, riff=b"RIFX")
    yield "wav RF64", wav(wav_format(), body, riff=b"RF64", size=2**32 - 1)
    yield "wav riff only", wav()


def flac_headers() -> Iterator[tuple[str, bytes]]:
    """The sizes lie in 8 bytes at 18: 20 bits of rate, 3 of channels, 5 of bits, 36 of samples."""
    data = good("flac_16")
    sizes = int.from_bytes(data[18:26])
    fields = {"rate": (44, 20), "channels": (41, 3), "bits": (36, 5), "samples": (0, 36)}
    for field, (shift, width) in fields.items():
        for value in {0, 1, (1 << width) - 1, (1 << width) // 2}:
            cleared = sizes & ~(((1 << width) - 1) << shift)
            changed = (cleared | value << shift).to_bytes(8)
            yield f"flac {field} {value}", data[:18] + changed + data[26:]
    for block in (1, 4, 6, 126, 127):
        header = bytes([block]) + b"\xff\xff\xff"
        yield f"flac block {block} of 16 MB", data[:42] + header + data[42:]
    yield "flac block sizes 0", data[:8] + bytes(4) + data[12:]
    yield "flac block sizes 65535", data[:8] + b"\xff" * 4 + data[12:]


def ogg_headers() -> Iterator[tuple[str, bytes]]:
    """Fields of the two identification headers, which follow the 28 bytes of the first page's header."""
    opus, vorbis = good("opus"), good("vorbis")
    for channels in (0, 2, 9, 64, 255):
        yield f"opus {channels} channels", with_page_checksum(patched(opus, 28 + 9, "<B", channels))
        yield f"vorbis {channels} channels", with_page_checksum(patched(vorbis, 28 + 11, "<B", channels))
    for rate in (0, 1, 2**31, 2**32 - 1):
        yield f"opus {rate} Hz", with_page_checksum(patched(opus, 28 + 12, "<I", rate))
        yield f"vorbis {rate} Hz", with_page_checksum(patched(vorbis, 28 + 12, "<I", rate))
    yield "opus of mapping 255", with_page_checksum(patched(opus, 28 + 18, "<B", 255))
    yield "opus of skip 65535", with_page_checksum(patched(opus, 28 + 10, "<H", 65535))
    yield "opus of gain 32767", with_page_checksum(patched(opus, 28 + 16, "<h", 32767))
    yield "opus of gain -32768", with_page_checksum(patched(opus, 28 + 16, "<h", -32768))
    yield "vorbis of block sizes 255", with_page_checksum(patched(vorbis, 28 + 28, "<B", 255))
    for name, data in (("opus", opus), ("vorbis", vorbis)):
        last = data.rindex(b"OggS")
        for position in (-1, 0, 1, 2**40, 2**62, 2**63 - 1):
            changed = patched(data, last + 6, "<q", position)
            yield f"{name} ends at {position}", with_page_checksum(changed, last)
        yield f"{name} of many streams", data * 100
        yield f"{name} of first pages", data[: data.index(b"OggS", 4)] * 2000


def with_page_checksum(data: bytes, start: int = 0) -> bytes:
    """The file with the checksum of an OGG page made right: a CRC-32 without reflection."""
    segments = data[start + 26]
    end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
    page = bytearray(data[start:end])
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", checksum)
    return data[:start] + bytes(page) + data[end:]


def mp3_headers() -> Iterator[tuple[str, bytes]]:
    data = good("mp3")
    yield "mp3 of a 256 MB tag", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + data
    yield "mp3 of a wrong tag size", b"ID3\x04\x00\x00\xff\xff\xff\xff" + data
    yield "mp3 of a big tag", b"ID3\x04\x00\x00" + bytes([0x01, 0, 0, 0]) + bytes(2 << 20) + data
    yield "mp3 of a 4 GB frame in the tag", b"ID3\x03\x00\x00\x00\x00\x01\x00TIT2\xff\xff\xff\xff" + data
    yield "mp3 of an unsynchronised tag", b"ID3\x04\x00\xff\x00\x00\x10\x00" + b"\xff\x00" * 1024 + data
    yield "mp3 of tags only", b"ID3\x04\x00\x00\x00\x00\x00\x00" * 100_000
    yield "mp3 of a tag only", b"ID3\x04\x00\x00\x00\x00\x00\x10" + bytes(16)
    yield "mp3 of syncs only", b"\xff\xfb\x90\x00" * 100_000
    yield "mp3 of a free bit rate", b"\xff\xfb\x00\x00" * 100_000
    yield "mp3 of reserved values", b"\xff\xfb\xfc\x00" * 1000
    yield "mp3 after noise", b"\xff\xfb" + noise(100_000) + data
    yield "mp3 of changing rates", data + encode(speech(rate=48000), 48000, "MP3", "MPEG_LAYER_III")
    for value in (0, 1, 2**31, 2**32 - 1):
        # Frames, as the first frame of a file of variable rate tells them.
        at = next(data.index(tag) for tag in (b"Xing", b"Info") if tag in data)
        yield f"mp3 of {value} frames", patched(data, at + 8, ">I", value)


# Audio that no voice speaks


def odd_samples() -> Iterator[tuple[str, bytes]]:
    kinds: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "nan": lambda x: x * np.nan,
        "one nan": lambda x: np.where(np.arange(len(x)) == 4000, np.nan, x),
        "inf": lambda x: np.where(x > 0.3, np.inf, x),
        "-inf": lambda x: np.where(x > 0.3, -np.inf, x),
        "denormal": lambda x: x * 1e-40,
        "huge": lambda x: x * 1e30,
        "loud": lambda x: x * 1e5,
    }
    for name, change in kinds.items():
        for encoding in ("FLOAT", "DOUBLE"):
            yield f"{name} {encoding}", encode(change(speech()), RATE, "WAV", encoding)
    yield "denormal DOUBLE of 64 bits", encode(speech() * 1e-310, RATE, "WAV", "DOUBLE")
    yield "beyond DOUBLE together", encode(np.full((8000, 8), 1.7e308), RATE, "WAV", "DOUBLE")
    yield "opposite channels", encode(np.stack([speech(), -speech()], axis=1), RATE, "WAV", "PCM_16")


def odd_lengths() -> Iterator[tuple[str, bytes]]:
    for name, (container, encoding) in GOOD_ENCODINGS.items():
        yield f"{name} silent", encode(np.zeros(RATE), RATE, container, encoding)
        yield f"{name} too short", encode(speech(0.05), RATE, container, encoding)
        yield f"{name} of no samples", encode(np.zeros(0), RATE, container, encoding)
    for name in ("wav_u8", *COMPRESSED):
        yield f"{name} too long", encode(speech(61), RATE, *GOOD_ENCODINGS[name])
        yield f"{name} constant", encode(np.full(RATE, 0.5), RATE, *GOOD_ENCODINGS[name])
    click = np.zeros(RATE)
    click[8000] = 1
    yield "a click", encode(click, RATE, "WAV", "PCM_16")
    yield "a low offset", encode(np.full(RATE, 0.004), RATE, "WAV", "PCM_16")
    yield "too many bytes", wav(wav_format(), chunk(b"data", bytes(9 << 20)))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files of much audio."""
    constant = np.full((192_000 * 5, 8), 0.5)
    yield "flac of 8 channels", encode(constant, 192_000, "FLAC", "PCM_16")
    hour = encode(np.zeros(8000 * 3600), 8000, "FLAC", "PCM_16")
    yield "flac of an hour", hour
    unknown = int.from_bytes(hour[18:26]) & ~((1 << 36) - 1)
    yield "flac of an hour that does not say so", hour[:18] + unknown.to_bytes(8) + hour[26:]
    minutes = encode(np.zeros(8000 * 600), 8000, "OGG", "OPUS")
    yield "opus of ten minutes", minutes
    last = minutes.rindex(b"OggS")
    lying = with_page_checksum(patched(minutes, last + 6, "<q", 48000), last)
    yield "opus of ten minutes that claims one second", lying
    yield "mp3 of ten minutes", encode(np.zeros(16000 * 600), 16000, "MP3", "MPEG_LAYER_III")


def hostile_recordings() -> Iterator[tuple[str, bytes]]:
    """Several hundred files, each with what is wrong with it; names are unique."""
    for kind in (
        truncated,
        flipped,
        spliced,
        no_audio,
        wav_headers,
        flac_headers,
        ogg_headers,
        mp3_headers,
        odd_samples,
        odd_lengths,
        bombs,
    ):
        yield from kind()
