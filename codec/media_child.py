"""A program that decodes one recording, bytes on standard input to samples on standard output, without any rights.

It is run by ``codec.media`` and imports nothing of ours. What comes is a stranger's and FFmpeg is large, so before
it looks at it the process gives up what it could do harm with: it can open nothing more, neither files nor
connections, start no process, and use no more than some memory and processor time.
"""

import base64
import ctypes
import io
import json
import os
import resource
import struct
import sys
from typing import BinaryIO

import av
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

MEMORY_BYTES = 512 << 20
"""Of address space, of which Python and FFmpeg take 120 MB."""
CPU_SECONDS = 5
CODECS = "aac,alac,amrnb,amrwb,flac,mp3,mp3float,opus,vorbis,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_f32le"
_LIMITS = {
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 0,
}
WARM_UP = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQgAAAAAAAAAAAAAAA=="
"""A WAV file of four samples: what PyAV imports when it is first used can no longer be opened later."""

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""With the kernel's numbers of them."""
CALLS = """
read 0 63, write 1 64, close 3 57, fstat 5 80, lseek 8 62, mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, readv 19 65, writev 20 66, sched_yield 24 124,
mremap 25 216, madvise 28 233, getpid 39 172, sigaltstack 131 132, gettid 186 178, futex 202 98,
clock_gettime 228 113, exit 60 93, exit_group 231 94, getrandom 318 278, rseq 334 293
"""
"""What Linux may still be asked for, with its numbers on these machines."""
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _MACHINE = 0, 4
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000


def give_up_rights() -> None:
    """Never to be had again: the hard limits are lowered, too."""
    for what, most in _LIMITS.items():
        resource.setrlimit(what, (most, most))
    machine = os.uname().machine
    if sys.platform == "linux" and machine in MACHINES:
        column = 1 + list(MACHINES).index(machine)
        refuse_calls(MACHINES[machine], [int(call.split()[column]) for call in CALLS.split(",")])


def refuse_calls(machine: int, calls: list[int]) -> None:
    """Have the kernel refuse all calls but these, with a program for its packet filter (seccomp)."""
    code = [
        (_LOAD, 0, 0, _MACHINE),
        (_JUMP_IF_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    code += [(_JUMP_IF_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    code += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = struct.pack("HP", len(code), ctypes.addressof(text))
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)


def decode(data: bytes, demuxer: str, to: BinaryIO) -> None:
    """Write one line of JSON, then float32 samples, channels interleaved, of the file's first audio stream."""
    options = {"codec_whitelist": CODECS, "format_whitelist": demuxer, "protocol_whitelist": ""}
    with av.open(io.BytesIO(data), "r", format=demuxer, options=options) as file:
        if not file.streams.audio:
            raise ValueError("it has no audio")
        stream = file.streams.audio[0]
        if stream.codec_context.name not in CODECS.split(","):
            raise ValueError(f"its encoding is {stream.codec_context.name}")
        stream.codec_context.thread_count = 1
        resampler = None
        for packet in file.demux(stream):
            for frame in decoded(packet):
                if resampler is None:
                    tell(to, rate=frame.sample_rate, channels=len(frame.layout.channels))
                    resampler = AudioResampler("flt", frame.layout, frame.sample_rate)
                for ready in resampler.resample(frame):
                    size = ready.samples * len(ready.layout.channels) * 4
                    to.write(memoryview(ready.planes[0])[:size])
    to.flush()


def decoded(packet: "av.Packet[av.AudioStream]") -> list[av.AudioFrame]:
    """The frames of a packet; none of a damaged one."""
    try:
        return packet.decode()
    except FFmpegError:
        return []


def tell(to: BinaryIO, **fields: object) -> None:
    """Write a line."""
    to.write(json.dumps(fields).encode() + b"\n")


def main() -> None:
    data, to = sys.stdin.buffer.read(), sys.stdout.buffer
    decode(base64.b64decode(WARM_UP), "wav", io.BytesIO())
    give_up_rights()
    try:
        decode(data, sys.argv[1], to)
    except (FFmpegError, ValueError) as error:
        tell(to, refused=getattr(error, "strerror", None) or str(error))


if __name__ == "__main__":
    main()
