"""Normalisation of a vector by its root mean square."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RMSNorm"]

MIN_ROOT_MEAN_SQUARE = torch.finfo(torch.float32).eps ** 0.5


class RMSNorm(nn.Module):
    """A vector over its root mean square, times a gain per dimension (arXiv:1910.07467).

    torch's own is eleven operations on CPU, and for one frame takes as long as a product with a matrix.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` from `[..., C]`."""
        root_mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / root_mean_square.clamp_min(MIN_ROOT_MEAN_SQUARE) * self.weight
