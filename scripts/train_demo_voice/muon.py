"""Optimisers over flat memory: Muon for hidden matrices, AdamW for the rest, one mean of the weights.

Every parameter of a model is a view into one vector, and so is its gradient. Clipping, AdamW and the running
mean are then a few kernels whatever the number of tensors, and Muon sees all matrices of one shape as a stack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

import torch
from torch import Tensor, nn

ORTHOGONAL_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = ORTHOGONAL_STEPS) -> Tensor:
    """Push all singular values of a stack of matrices to about 1 (0.7..1.2).

    The quintic Newton-Schulz iteration of Muon (Jordan et al. 2024), in bfloat16 on a GPU.

    Args:
        matrices: float32 [n, rows, columns].
    """
    turned = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if turned else matrices
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.to(matrices.dtype)
    return x.mT if turned else x


@dataclass(frozen=True)
class FlatParameters:
    """A model's parameters and gradients as two vectors: first the hidden matrices by shape, then the rest.

    Attributes:
        values, gradients: float32 [N].
        stacks: Slices of the vectors and the shapes [n, rows, columns] of the matrices that they hold.
        rest: Where the other parameters begin.
    """

    values: Tensor
    gradients: Tensor
    stacks: tuple[tuple[slice, tuple[int, int, int]], ...]
    rest: int

    @staticmethod
    def of(matrices: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> "FlatParameters":
        """Move the parameters into one vector; they become views and keep their values."""
        ordered = sorted(matrices, key=lambda p: tuple(p.shape))
        values = torch.cat([p.detach().reshape(-1) for p in [*ordered, *others]])
        gradients = torch.zeros_like(values)
        start = 0
        for parameter in [*ordered, *others]:
            end = start + parameter.numel()
            parameter.data = values[start:end].view(parameter.shape)
            parameter.grad = gradients[start:end].view(parameter.shape)
            start = end
        return FlatParameters(values, gradients, _stacks(ordered), sum(p.numel() for p in ordered))

    def clip(self, norm: float) -> Tensor:
        """Scale the gradients to at most ``norm``, or to zero where they are not finite; return their norm."""
        total: Tensor = torch.linalg.vector_norm(self.gradients)
        scale = (norm / (total + 1e-6)).clamp(max=1.0).masked_fill(~total.isfinite(), 0.0)
        self.gradients.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).mul_(scale)
        return total


def _stacks(ordered: Sequence[nn.Parameter]) -> tuple[tuple[slice, tuple[int, int, int]], ...]:
    stacks, start = [], 0
    for (rows, columns), group in groupby(tuple(p.shape) for p in ordered):
        shape = (len(list(group)), rows, columns)
        end = start + shape[0] * rows * columns
        stacks.append((slice(start, end), shape))
        start = end
    return tuple(stacks)


@dataclass(frozen=True)
class Rates:
    """Learning rates at the height of the schedule, and what goes with them."""

    muon: float = 0.02
    adam: float = 2e-3
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.01
    mean: float = 0.999


class FlatOptimizer:
    """Muon and AdamW in place, without a word to the host: a step can be part of a CUDA graph.

    Attributes:
        factor: float32 [], what the schedule makes of the learning rates; write into it before a step.
        mean: float32 [N], the running mean of the parameters.
    """

    def __init__(self, flat: FlatParameters, rates: Rates = Rates()) -> None:
        self.flat, self.rates = flat, rates
        self.factor = torch.ones((), device=flat.values.device)
        self.mean = flat.values.clone()
        self.momentum = torch.zeros_like(flat.values)
        self.square = torch.zeros_like(flat.values[flat.rest :])
        self.count = torch.zeros((), device=flat.values.device)

    def step(self) -> None:
        """Update the parameters from the gradients, which it uses up."""
        for where, shape in self.flat.stacks:
            self._muon(where, shape)
        self._adam(slice(self.flat.rest, None))
        self.mean.lerp_(self.flat.values, 1 - self.rates.mean)

    def state(self) -> dict[str, Tensor]:
        """The tensors that a later run needs."""
        return {name: getattr(self, name) for name in ("mean", "momentum", "square", "count")}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            getattr(self, name).copy_(tensor)

    def _muon(self, where: slice, shape: tuple[int, int, int]) -> None:
        gradients, momentum, values = (t[where] for t in (self.flat.gradients, self.momentum, self.flat.values))
        momentum.lerp_(gradients, 1 - self.rates.momentum)
        update = orthogonalize(gradients.lerp(momentum, self.rates.momentum).view(shape))
        rate = self.rates.muon * self.factor
        values.mul_(1 - rate * self.rates.decay)
        values.sub_(update.reshape(-1) * (rate * sqrt(max(1.0, shape[1] / shape[2]))))

    def _adam(self, where: slice) -> None:
        first, second = self.rates.betas
        gradients, momentum, values = (t[where] for t in (self.flat.gradients, self.momentum, self.flat.values))
        self.count += 1
        momentum.lerp_(gradients, 1 - first)
        self.square.mul_(second).addcmul_(gradients, gradients, value=1 - second)
        root = (self.square / (1 - second**self.count)).sqrt_().add_(1e-8)
        values.sub_(momentum / root * (self.rates.adam * self.factor / (1 - first**self.count)))
