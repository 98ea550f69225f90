"""The format and the samples of a WAV or RF64 file, and nothing else that a file may hold.

What writes to a pipe, or is cut off, leaves sizes in the header that are not those of the file.
"""

from collections.abc import Iterator
from struct import Struct

HEADER = Struct("<4sI")
"""Of a chunk, and of the file: a name and a size."""
FIRST_CHUNK = 12
MAX_CHUNKS = 1000
"""Before the samples; more are no recording."""
UNKNOWN = 0xFFFFFFFF
SIZE_IN_DS64 = slice(8, 16)
"""Where RF64 keeps the size of the samples."""


def only_audio(data: bytes) -> bytes:
    """A WAV file of the same samples of right sizes; empty if there is no format or there are no samples."""
    found: dict[bytes, bytes] = {}
    for name, begin, size in chunks(data, FIRST_CHUNK):
        if name == b"data":
            return rebuilt(found.get(b"fmt ", b""), data[begin : samples_end(data, begin, size, found)])
        found.setdefault(name, data[begin : begin + size])
        if len(found) > MAX_CHUNKS:
            break
    return b""


def chunks(data: bytes, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and size of each chunk, as their headers tell them; a size may be beyond the file."""
    for _ in range(MAX_CHUNKS):
        if position + HEADER.size > len(data):
            return
        name, size = HEADER.unpack_from(data, position)
        yield name, position + HEADER.size, size
        position += HEADER.size + size + size % 2


def samples_end(data: bytes, begin: int, size: int, before: dict[bytes, bytes]) -> int:
    """Where the samples end: as told, if only chunks come after them, else with the file."""
    if size == UNKNOWN:
        size = int.from_bytes(before.get(b"ds64", b"")[SIZE_IN_DS64], "little") or size
    after = list(chunks(data, begin + size + size % 2))
    plausible = all(name.replace(b" ", b"").isalnum() and start + more <= len(data) for name, start, more in after)
    return min(begin + size, len(data)) if plausible else len(data)


def rebuilt(form: bytes, samples: bytes) -> bytes:
    """A file of two chunks; empty if one of them is."""
    if not form or not samples:
        return b""
    body = b"".join(
        HEADER.pack(name, len(content)) + content + bytes(len(content) % 2)
        for name, content in ((b"fmt ", form), (b"data", samples))
    )
    return HEADER.pack(b"RIFF", len(body) + 4) + b"WAVE" + body
