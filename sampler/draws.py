"""What the sampler on a device is told of each draw, as one array; without Triton, which only the kernel needs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sampler.decoding import Decoding

Ints = npt.NDArray[np.int32]

DRAW_FIELDS = 8
ALLOWED, STEP = 0, 3
"""The fields that change from one draw of a phase to the next."""


def draw_fields(decodings: Sequence[Decoding]) -> Ints:
    """The next draw of each, int32 [DRAW_FIELDS, n]; the fields are those of ``sampler.device.DrawRows``."""
    counters, samplings = [], []
    for d in decodings:
        sampling, allowed = d.sampling, d.allowed
        counters.append((allowed, sampling.top_k or allowed, d.phase, d.step, d.seed & 0xFFFFFFFF, d.seed >> 32))
        samplings.append((sampling.temperature, sampling.top_p))
    fields = np.empty((DRAW_FIELDS, len(counters)), np.int32)
    fields[:-2] = np.array(counters, np.uint32).reshape(-1, DRAW_FIELDS - 2).T.view(np.int32)
    fields[-2:] = np.array(samplings, np.float32).reshape(-1, 2).T.view(np.int32)
    return fields
