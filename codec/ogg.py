"""The pages of an OGG file, RFC 3533, and nothing else that a file may hold.

libogg searches what is no page for the next one at a cost that grows faster than the file: 8 MB of nothing
but page starts keep it busy for a quarter of a minute.
"""

import zlib
from collections.abc import Iterator

MAX_JUNK = 1 << 16
"""Bytes between pages that are skipped before the rest of the file is left out."""
CAPTURE = b"OggS\0"
"""How a page starts: its pattern and its version."""
HEADER_BYTES = 27
SERIAL = slice(14, 18)
CHECKSUM = slice(22, 26)
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def only_pages(data: bytes) -> bytes:
    """A file's whole pages of right checksum in a row; empty if there is none."""
    return b"".join(pages(data))


def pages(data: bytes) -> Iterator[bytes]:
    """The pages that ``only_pages`` joins."""
    position, junk = 0, 0
    while junk < MAX_JUNK and position < len(data):
        page = page_at(data, position)
        if page:
            yield page
            position += len(page)
        else:
            found = data.find(CAPTURE, position + 1)
            end = found if found > 0 else len(data)
            junk += end - position
            position = end


def page_at(data: bytes, position: int) -> bytes:
    """The page there; empty if there is none, or not all of it, or its checksum is another."""
    header = data[position : position + HEADER_BYTES]
    if len(header) < HEADER_BYTES or not header.startswith(CAPTURE):
        return b""
    segments = data[position + HEADER_BYTES : position + HEADER_BYTES + header[-1]]
    length = HEADER_BYTES + header[-1] + sum(segments)
    page = data[position : position + length]
    whole = len(page) == length and checksum(page) == int.from_bytes(header[CHECKSUM], "little")
    return page if whole else b""


def with_serial(page: bytes, serial: int) -> bytes:
    """The page as one of another stream; ``serial`` is unsigned 32-bit."""
    moved = page[: SERIAL.start] + serial.to_bytes(4, "little") + page[SERIAL.stop :]
    return moved[: CHECKSUM.start] + checksum(moved).to_bytes(4, "little") + moved[CHECKSUM.stop :]


def checksum(page: bytes) -> int:
    """The CRC-32 of a page with its checksum taken as zero: zlib's polynomial, but bits in the other order."""
    blank = page[: CHECKSUM.start] + bytes(4) + page[CHECKSUM.stop :]
    mirrored = zlib.crc32(blank.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
