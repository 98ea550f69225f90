"""Counter-based randomness: a draw depends on (seed, phase, step) and on nothing else."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ROUNDS = 10
_BLOCK = 64

Words = npt.NDArray[np.uint64]


def philox4x32(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, ...]:
    """Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), vectorised.

    Args:
        counter: Four arrays of 32-bit words held in uint64.
        key: Two arrays of 32-bit words held in uint64.

    Returns:
        Four arrays of 32-bit words held in uint64.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0 = (k0 + _KEY_STEPS[0]) & _LOW
        k1 = (k1 + _KEY_STEPS[1]) & _LOW
    return c0, c1, c2, c3


@dataclass
class Draws:
    """The draws of one seed and phase, worked out a block of steps at a time."""

    seed: int
    phase: int
    _first: int = field(init=False, default=0, compare=False)
    _block: list[float] = field(init=False, default_factory=list, compare=False)

    def at(self, step: int) -> float:
        """The draw of a step, as ``uniform`` gives it."""
        if not self._first <= step < self._first + len(self._block):
            self._first = step
            seeds, phases = np.full(_BLOCK, self.seed, np.uint64), np.full(_BLOCK, self.phase)
            self._block = uniform(seeds, phases, np.arange(step, step + _BLOCK)).tolist()
        return self._block[step - self._first]


def uniform(seed: npt.ArrayLike, phase: npt.ArrayLike, step: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Draw one float32 in [0, 1) for each (seed, phase, step), with 24 random bits.

    Args:
        seed: uint64 [n], the request's seed.
        phase: [n], the phase's number.
        step: [n], the position inside the phase.
    """
    seeds = np.asarray(seed, dtype=np.uint64)
    zero = np.zeros_like(seeds)
    counter = (np.asarray(step, dtype=np.uint64), np.asarray(phase, dtype=np.uint64), zero, zero)
    word = philox4x32(counter, (seeds & _LOW, seeds >> _SHIFT))[0]
    return ((word >> np.uint64(8)).astype(np.float32)) * np.float32(2.0**-24)
