"""Refusals of what a codec cannot decode or encode."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_semantic(semantic: Sequence[Tensor], size: int) -> None:
    """Refuse what are not rows of semantic ids, int64 [T_i] below ``size``.

    Raises:
        ValueError: The message names the row.
    """
    if not semantic:
        raise ValueError("semantic: got no rows, expected at least one")
    for row, ids in enumerate(semantic):
        if ids.ndim != 1 or not len(ids):
            raise ValueError(f"semantic[{row}]: got shape {list(ids.shape)}, expected [T] with T at least 1")
    one_type = all(ids.dtype == torch.int64 for ids in semantic)
    if not (one_type and right_ids(torch.cat(list(semantic)), size)):  # each alone takes longer
        for row, ids in enumerate(semantic):
            check_ids(f"semantic[{row}]", ids, size)


def check_globals(globals_: Tensor, shape: tuple[int, int], size: int) -> None:
    """Refuse what are not global ids, int64 of this shape and below ``size``.

    Raises:
        ValueError: The message names the field.
    """
    if globals_.shape != shape:
        raise ValueError(f"globals_: got shape {list(globals_.shape)}, expected {list(shape)}")
    check_ids("globals_", globals_, size)


def right_ids(ids: Tensor, size: int) -> bool:
    """Whether all are in ``0..size-1``."""
    low, high = ids.aminmax()
    return bool(low >= 0 and high < size)


def check_ids(field: str, ids: Tensor, size: int) -> None:
    """Refuse ids that are not int64 in ``0..size-1``.

    Raises:
        ValueError: The message names the field.
    """
    if ids.dtype != torch.int64:
        raise ValueError(f"{field}: got {ids.dtype}, expected torch.int64")
    if not right_ids(ids, size):
        low, high = (int(bound) for bound in ids.aminmax())
        raise ValueError(f"{field}: got ids from {low} to {high}, expected 0 to {size - 1}")


def check_numbers(field: str, values: Tensor) -> None:
    """Refuse values that are not finite float32 numbers.

    Raises:
        ValueError: The message names the field.
    """
    if values.dtype != torch.float32:
        raise ValueError(f"{field}: got {values.dtype}, expected torch.float32")
    if not values.isfinite().all():
        raise ValueError(f"{field}: got values that are infinite or not a number, expected finite ones")
