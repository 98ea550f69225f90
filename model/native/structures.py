"""What the compiled forward is passed, as native/forward.c has it."""

import ctypes

import torch
from torch import Tensor

from native.library import NUMBERS

PANEL = 64
"""Columns of a matrix that lie together in memory."""
BLOCK = 96
"""Tokens that go through the layers at once, at most."""


class Matrix(ctypes.Structure):
    """A matrix [in, out] in panels of 16-bit numbers."""

    _fields_ = (("panels", NUMBERS), ("in_", ctypes.c_int64), ("out", ctypes.c_int64))


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
        *((name, NUMBERS) for name in VECTORS),
        *((name, Matrix) for name in MATRICES),
        *((name, Lora) for name in LORAS),
    )


class Model(ctypes.Structure):
    """The weights of a model."""

    _fields_ = (
        *((name, NUMBERS) for name in ("embedding", "out_weight", "out_bias")),
        ("layers", ctypes.POINTER(Layer)),
        ("head", Matrix),
        *((name, ctypes.c_int64) for name in ("depth", "width", "vocabulary")),
    )


class Pools(ctypes.Structure):
    """The states of all slots."""

    _fields_ = (*((name, NUMBERS) for name in ("wkv", "att_shift", "ffn_shift")), ("slots", ctypes.c_int64))


BUFFERS = ("x", "y", "first_value", "mixed", "r", "k", "v", "decay", "rate", "gate", "out", "low", "inner")


class Scratch(ctypes.Structure):
    """Where a block of tokens is worked on, and the team that helps."""

    _fields_ = (*((name, NUMBERS) for name in BUFFERS), ("team", ctypes.c_void_p))


def panels(matrix: Tensor) -> Tensor:
    """A matrix [in, out] in 16 bits as [ceil(out / PANEL), in, PANEL], filled up with zeros."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -columns % PANEL)).half()
    return padded.view(rows, -1, PANEL).transpose(0, 1).contiguous()
