"""How many rows a step has room for, if it is to take little longer than without them; from measured steps.

On a CPU a step takes longer with every row; on a GPU it hardly does.
"""

from dataclasses import dataclass, field

import numpy as np

_MEMORY = 0.998
"""Weight of a step beside that of the next one: some hundred steps count."""

_LONGER = 1.25
"""A step of rows that do not yield takes so many times as long at most, for the sake of those that do."""


@dataclass
class Pace:
    """Seconds of a step as a straight line over its rows, fitted by least squares over the last steps."""

    _sums: "np.ndarray[tuple[int], np.dtype[np.float64]]" = field(default_factory=lambda: np.zeros(5))

    def count(self, rows: int, seconds: float) -> None:
        """A step of decoding rows has taken so long."""
        self._sums = self._sums * _MEMORY + (1, rows, rows * rows, seconds, rows * seconds)

    def room(self, rows: int) -> int | None:
        """Rows that may join ``rows`` others, at least one; None where nothing tells against any number."""
        steps, total, squares, seconds, products = self._sums.tolist()
        spread = steps * squares - total * total
        slope = steps * products - total * seconds
        if spread <= 0 or slope <= 0:
            return None
        slope /= spread
        alone = seconds / steps + slope * (rows - total / steps)
        return max(1, int((_LONGER - 1) * alone / slope))
