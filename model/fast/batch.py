"""Where the tokens of a step lie, in one int32 array that the kernels read by its views."""

from dataclasses import dataclass

from torch import Tensor

ROW_FIELDS = ("starts", "lengths", "slots", "fresh")


@dataclass(frozen=True)
class Shape:
    """Sizes that a graph is made for.

    Attributes:
        tokens, rows: Of the batch, padding included.
        single: Every row has one token: row and token are the same.
    """

    tokens: int
    rows: int
    single: bool

    @property
    def size(self) -> int:
        """int32 values of the array: tokens, their rows, the fields of all rows and of one that owns padding."""
        return 2 * aligned(self.tokens) + len(ROW_FIELDS) * aligned(self.rows + 1)


def aligned(count: int) -> int:
    """Rounded up to 16 bytes of int32: Triton compiles another kernel for pointers that are not aligned."""
    return -(-count // 4) * 4


@dataclass(frozen=True)
class Batch:
    """Views of one array, int32; row ``rows`` owns the padding tokens and takes no other part.

    Attributes:
        tokens: [N]; a negative one, -1 - offset, is the id that the row has drawn last plus the offset.
        owners: [N], the row of each token.
        starts, lengths: [rows + 1]; tokens of a row follow one another. Rows without tokens are padding.
        slots: [rows + 1].
        fresh: [rows + 1], 1 where the row's state is zero whatever its slot holds.
    """

    shape: Shape
    tokens: Tensor
    owners: Tensor
    starts: Tensor
    lengths: Tensor
    slots: Tensor
    fresh: Tensor

    @staticmethod
    def of(array: Tensor, shape: Shape) -> "Batch":
        """The views of int32 [>= shape.size]."""
        tokens, rows = aligned(shape.tokens), aligned(shape.rows + 1)
        fields = array[2 * tokens : shape.size].view(len(ROW_FIELDS), rows)
        return Batch(
            shape, array[: shape.tokens], array[tokens : tokens + shape.tokens], *fields[:, : shape.rows + 1]
        )
