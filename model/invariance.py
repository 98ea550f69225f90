"""Finds out how many rows this machine's matrix kernels need to round every row alike.

A BLAS picks its kernel by the number of rows: one row is a vector product, three are an edge case, and each
kernel adds in another order. A row's logits would then depend on its batch mates. Padding the batch to a
multiple of a few rows keeps it on one kernel; which multiple suffices is measured, once, when a model is loaded.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

_MULTIPLES = (1, 2, 4, 8, 16, 32)
_PROBE_ROWS = 512


def row_multiple(matrices: Iterable[Tensor]) -> int:
    """The smallest multiple of rows for which every product ``x @ matrix`` rounds each row alike.

    Args:
        matrices: float32 [in, out] each; those of equal shape are tried once.

    Raises:
        RuntimeError: No multiple up to 32 makes this machine's kernels consistent.
    """
    by_shape = {matrix.shape: matrix for matrix in matrices}
    for multiple in _MULTIPLES:
        if all(_is_consistent(matrix, multiple) for matrix in by_shape.values()):
            return multiple
    raise RuntimeError(f"matrix products on this machine depend on the batch for any multiple of {_MULTIPLES}")


def _is_consistent(matrix: Tensor, multiple: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBE_ROWS, matrix.shape[0], generator=generator)
    whole = x @ matrix
    sizes = sorted({*range(multiple, 17 * multiple, multiple), 64, 96, 256})
    return all(torch.equal(x[1 : 1 + n].contiguous() @ matrix, whole[1 : 1 + n]) for n in sizes)
