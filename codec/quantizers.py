"""The two quantisers: a factorised codebook for semantic tokens, finite scalars for global tokens.

Vectors and latents are float32.
"""

from itertools import accumulate
from operator import mul
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec.config import QuantizerConfig, SpeakerEncoderConfig
from codec.layers import loaded

FSQ_EPSILON = 1e-3


class FactorizedQuantizer(nn.Module):
    """Vector quantisation in a small space (Yu et al. 2022): cosine look-up in, raw codebook rows out.

    Args:
        config: Its sizes.
        encoder: Whether to have what only ``project`` needs.

    Attributes:
        table: float32 [codebook_size, input_dim]: every token's output vector.
        directions: float32 [codebook_size, codebook_dim]: the codebook with rows of unit length.
    """

    table: Tensor
    directions: Tensor

    def __init__(self, config: QuantizerConfig, *, encoder: bool) -> None:
        super().__init__()
        # Empty: random numbers on the meta device would import all of torch.compile, for 90 MB and a second.
        codes = torch.empty(config.codebook_size, config.codebook_dim)
        self.codebook = nn.Embedding.from_pretrained(codes, freeze=False)  # type: ignore[no-untyped-call]
        self.out_project = nn.Conv1d(config.codebook_dim, config.input_dim, 1)
        self.in_project = nn.Conv1d(config.input_dim, config.codebook_dim, 1) if encoder else None
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.register_buffer("directions", torch.empty(0), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.prepare())  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def prepare(self) -> None:
        """Compute what depends on the weights alone; runs after every load."""
        rows = self.codebook.weight
        self.table = F.linear(rows, self.out_project.weight[:, :, 0], self.out_project.bias)
        self.directions = F.normalize(rows, dim=1)

    def dequantize(self, ids: Tensor) -> Tensor:
        """Token ids int64 [B, T] to vectors [B, input_dim, T]."""
        return F.embedding(ids, self.table).transpose(1, 2)

    def project(self, vectors: Tensor) -> Tensor:
        """Vectors [B, input_dim, T] to the codebook's space [B, codebook_dim, T].

        Raises:
            RuntimeError: The codec was loaded without its encoder.
        """
        return cast(Tensor, loaded(self.in_project)(vectors))

    def quantize(self, projected: Tensor) -> Tensor:
        """Projected vectors [B, codebook_dim, T] to token ids int64 [B, T].

        The nearest of unit vectors has the largest inner product, whatever the length of the query.
        """
        return (projected.transpose(1, 2) @ self.directions.T).argmax(dim=2)


class FiniteScalarQuantizer(nn.Module):
    """FSQ (Mentzer et al. 2023) between a linear layer on either side: one token per latent vector.

    A token is a number whose i-th digit, least significant first, counts the levels of dimension i.

    Args:
        config: Its sizes.
        encoder: Whether to have what only ``project`` needs.

    Attributes:
        levels: int64 [dims]: ``fsq_levels``.
        basis: int64 [dims]: what each digit counts for.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, config: SpeakerEncoderConfig, *, encoder: bool) -> None:
        super().__init__()
        levels, dims = config.fsq_levels, len(config.fsq_levels)
        self.project_out = nn.Linear(dims, config.latent_dim)
        self.project_in = nn.Linear(config.latent_dim, dims) if encoder else None
        basis = list(accumulate(levels[:-1], mul, initial=1))
        self.register_buffer("levels", torch.tensor(levels, device="cpu"), persistent=False)
        self.register_buffer("basis", torch.tensor(basis, device="cpu"), persistent=False)

    def codes(self, ids: Tensor) -> Tensor:
        """Token ids [B, N] to what they stand for, -1 to 1, [B, N, len(fsq_levels)]."""
        digits = ids.unsqueeze(-1) // self.basis % self.levels
        half = self.levels // 2
        return (digits - half) / half

    def project(self, latents: Tensor) -> Tensor:
        """Latent vectors [B, N, latent_dim] to one number per dimension [B, N, len(fsq_levels)].

        Raises:
            RuntimeError: The codec was loaded without its encoder.
        """
        return cast(Tensor, loaded(self.project_in)(latents))

    def quantize(self, projected: Tensor) -> Tensor:
        """Projected latents [B, N, len(fsq_levels)] to token ids int64 [B, N].

        Squashing each dimension to its number of levels and rounding is equation 1 of the paper.
        """
        half_range = (self.levels - 1) * (1 + FSQ_EPSILON) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(projected + torch.atanh(offset / half_range)) * half_range - offset
        digits = bounded.round().long() + self.levels // 2
        return (digits * self.basis).sum(dim=-1)
