"""What a comparison with golden vectors finds, array by array."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Arrays = Mapping[str, Tensor]

NOT_COMPUTED = "nothing computes an array of this name"


@dataclass(frozen=True)
class ArrayError:
    """How far one array is from its golden one; infinitely, when the shapes differ."""

    max_abs: float
    rms: float
    tolerance: float

    @classmethod
    def between(cls, found: Tensor, golden: Tensor, tolerance: float) -> "ArrayError":
        if found.shape != golden.shape:
            return cls(float("inf"), float("inf"), tolerance)
        difference = found.double() - golden.double()
        return cls(float(difference.abs().max()), float(difference.square().mean().sqrt()), tolerance)

    @property
    def ok(self) -> bool:
        return self.max_abs <= self.tolerance


@dataclass(frozen=True)
class Report:
    """Golden arrays are compared, an input that nothing computes, or left out with a reason."""

    arrays: dict[str, ArrayError]
    inputs: list[str]
    not_compared: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is within its tolerance."""
        return bool(self.arrays) and all(error.ok for error in self.arrays.values())


def make_report(
    found: Arrays,
    golden: Arrays,
    tolerance: Callable[[str], float],
    inputs: str,
    reasons: Mapping[str, str],
) -> Report:
    """Compare what was computed with what is golden.

    Args:
        tolerance: The largest absolute error allowed for an array of the given name.
        inputs: Pattern of the names of golden arrays that nothing computes.
        reasons: Why arrays were not computed, by name.
    """
    given = [name for name in golden if re.fullmatch(inputs, name)]
    compared = {
        name: ArrayError.between(found[name], golden[name], tolerance(name))
        for name in golden
        if name in found and name not in given
    }
    others = [name for name in golden if name not in compared and name not in given]
    return Report(compared, given, {name: reasons.get(name, NOT_COMPUTED) for name in others})
