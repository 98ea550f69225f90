"""The frames of an MP3 stream, ISO/IEC 11172-3 and 13818-3, and nothing else that a file may hold.

mpg123, which decodes them, searches what is no frame byte by byte and writes a line about each to standard
error: 8 MB of false headers keep it busy for half a minute and fill half a gigabyte of log.
"""

import re
from collections.abc import Iterator

MAX_JUNK = 1 << 16
"""Bytes between frames, of tags only their headers, that are skipped before the rest is left out."""
CANDIDATE = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]|ID3")
"""How a frame of layer III or a tag starts."""
HEADER_BYTES = 4
TAG_HEADER_BYTES = 10
SAME_STREAM = 0xFFFE0C00
"""Bits of the header that all frames of a stream share: sync, version, layer, sample rate."""
SYNC_OF_LAYER_3 = (0xFFE60000, 0xFFE20000)

# kbit/s and Hz by version: 1 and, at lower rates, 2.
KILOBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KILOBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES = (44100, 48000, 32000)
RATE_DIVISORS = {3: 1, 2: 2, 0: 4}


def only_frames(data: bytes) -> bytes:
    """A file's frames of layer III in a row: of the first stream in it, without tags and damaged places.

    Frames of a free bit rate are left out. What is found is empty if there is no frame.
    """
    return b"".join(frames(data))


def frames(data: bytes) -> Iterator[bytes]:
    """The frames that ``only_frames`` joins."""
    position, junk, stream = 0, 0, None
    while junk < MAX_JUNK and position < len(data):
        header = header_at(data, position)
        length = frame_length(header)
        if length and stream in (None, header & SAME_STREAM) and followed(data, position, length):
            stream = header & SAME_STREAM
            yield data[position : position + length]
            position += length
        elif tag := tag_length(data, position):
            position += tag
            junk += TAG_HEADER_BYTES
        else:
            candidate = CANDIDATE.search(data, position + 1)
            end = candidate.start() if candidate else len(data)
            junk += end - position
            position = end


def followed(data: bytes, position: int, length: int) -> bool:
    """Whether a frame is the file's last or has one of its own kind, or a tag, after it."""
    end = position + length
    if end + HEADER_BYTES > len(data):
        return end <= len(data)
    after = header_at(data, end)
    alike = (header_at(data, position) ^ after) & SAME_STREAM == 0
    return data[end : end + 3] in (b"TAG", b"ID3", b"APE") or (alike and frame_length(after) > 0)


def header_at(data: bytes, position: int) -> int:
    """The four bytes there, or what is left of them, as a number."""
    return int.from_bytes(data[position : position + HEADER_BYTES])


def frame_length(header: int) -> int:
    """Bytes of the frame with this header; 0 if it is none."""
    mask, sync = SYNC_OF_LAYER_3
    version, kilobits, rate = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
    if header & mask != sync or version == 1 or kilobits in (0, 15) or rate == 3:
        return 0
    slots, table = (144_000, KILOBITS_1) if version == 3 else (72_000, KILOBITS_2)
    return slots * table[kilobits - 1] // (RATES[rate] // RATE_DIVISORS[version]) + (header >> 9 & 1)


def tag_length(data: bytes, position: int) -> int:
    """Bytes of the ID3v2 tag there; 0 if there is none. Its size has seven bits in each byte."""
    header = data[position : position + TAG_HEADER_BYTES]
    if len(header) < TAG_HEADER_BYTES or header[:3] != b"ID3" or max(header[6:]) > 0x7F:
        return 0
    size = sum(digit << 7 * place for place, digit in enumerate(reversed(header[6:])))
    footer = TAG_HEADER_BYTES if header[5] & 0x10 else 0
    return TAG_HEADER_BYTES + size + footer
