"""The compiled forward: where it lies, and what is passed to it."""

import ctypes
import platform
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

PANEL = 64
"""Columns of a matrix that lie together in memory."""
BLOCK = 96
"""Tokens that go through the layers at once, at most."""

COMPILED = "_forward"
"""The file beside this one, less its suffix."""

_NUMBERS = ctypes.c_void_p
_VECTORS = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}
"""Of processors with x86-64, by what torch uses of them; the best first."""


class UnavailableError(ValueError):
    """There is no compiled forward for this machine or this model; the message says why, in half a sentence."""


class Matrix(ctypes.Structure):
    """A matrix [in, out] in panels of 16-bit numbers."""

    _fields_ = (("panels", _NUMBERS), ("in_", ctypes.c_int64), ("out", ctypes.c_int64))


class Lora(ctypes.Structure):
    """Two matrices."""

    _fields_ = (("down", Matrix), ("up", Matrix))


VECTORS = (
    *("ln1_weight", "ln1_bias", "ln2_weight", "ln2_bias", "mix", "w_bias", "a_bias", "v_bias"),
    *("k_k", "k_a", "r_k", "norm_weight", "norm_bias", "ffn_mix"),
)
MATRICES = ("receptance", "key", "value", "output", "ffn_key", "ffn_value")
LORAS = ("w", "a", "v", "g")


class Layer(ctypes.Structure):
    """The weights of a layer."""

    _fields_ = (
        *((name, _NUMBERS) for name in VECTORS),
        *((name, Matrix) for name in MATRICES),
        *((name, Lora) for name in LORAS),
    )


class Model(ctypes.Structure):
    """The weights of a model."""

    _fields_ = (
        *((name, _NUMBERS) for name in ("embedding", "out_weight", "out_bias")),
        ("layers", ctypes.POINTER(Layer)),
        ("head", Matrix),
        *((name, ctypes.c_int64) for name in ("depth", "width", "vocabulary")),
    )


class Pools(ctypes.Structure):
    """The states of all slots."""

    _fields_ = (*((name, _NUMBERS) for name in ("wkv", "att_shift", "ffn_shift")), ("slots", ctypes.c_int64))


BUFFERS = ("x", "y", "first_value", "mixed", "r", "k", "v", "decay", "rate", "gate", "out", "low", "inner")


class Scratch(ctypes.Structure):
    """Where a block of tokens is worked on."""

    _fields_ = tuple((name, _NUMBERS) for name in BUFFERS)


class Library:
    """The compiled functions for one kind of vectors; a call lets other threads run.

    Args:
        vectors: One of ``supported()``.

    Attributes:
        vectors: The same.

    Raises:
        UnavailableError: They were not compiled.
    """

    def __init__(self, vectors: str) -> None:
        self.vectors = vectors
        compiled = ctypes.CDLL(str(_path()))
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        self.forward = compiled[f"forward_{vectors}"]
        self.forward.argtypes = (pointer, pointer, pointer, pointer, pointer, pointer, count, pointer)
        self.logits = compiled[f"logits_{vectors}"]
        self.logits.argtypes = (pointer, pointer, pointer, count, pointer, count)
        self.forward.restype = self.logits.restype = None


def supported() -> tuple[str, ...]:
    """The vectors that this processor has, the best first.

    Raises:
        UnavailableError: None that anything was written for.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return ("neon",)
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _VECTORS:
        raise UnavailableError(f"there is none for a processor like this one ({platform.machine()}, {capability})")
    return _VECTORS[capability]


def _path() -> Path:
    stem = Path(__file__).with_name(COMPILED)
    for suffix in EXTENSION_SUFFIXES:
        if (path := stem.with_suffix(suffix)).exists():
            return path
    raise UnavailableError("it was not compiled when this was installed, which needs a C compiler such as gcc")


def panels(matrix: Tensor) -> Tensor:
    """A matrix [in, out] in 16 bits as [ceil(out / PANEL), in, PANEL], filled up with zeros."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -columns % PANEL)).half()
    return padded.view(rows, -1, PANEL).transpose(0, 1).contiguous()
