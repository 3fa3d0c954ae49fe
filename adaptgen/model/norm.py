"""Normalisation of a vector by its root mean square."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["MIN_ROOT_MEAN_SQUARE", "RMSNorm"]

MIN_ROOT_MEAN_SQUARE = torch.finfo(torch.float32).eps ** 0.5


class RMSNorm(nn.Module):
    """A vector over its root mean square, times a gain per dimension (arXiv:1910.07467).

    torch's own is one kernel on CUDA. It has none on CPU: there it is eleven operations, and its gradient, as autograd
    derives it, passes over memory half as often again as it must.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., C]` from `[..., C]`."""
        if x.is_cuda:
            return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, eps=MIN_ROOT_MEAN_SQUARE**2)
        # Entering autograd takes longer than all of this does for one frame.
        normalized = Normalize.apply(x) if x.requires_grad else x * inverse_root_mean_square(x)
        return normalized * self.weight


class Normalize(torch.autograd.Function):
    """x over its root mean square, in the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = inverse_root_mean_square(x)
        normalized = x * scale
        ctx.save_for_backward(normalized, scale)
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """What is left of the gradient across the direction of x, scaled as x was; of an x so small that it was
        scaled by a constant, all of it."""
        normalized, scale = ctx.saved_tensors
        is_scaled_by_itself = scale < scale.new_full((), MIN_ROOT_MEAN_SQUARE).reciprocal()
        along = torch.linalg.vecdot(gradient, normalized).unsqueeze(-1) / normalized.shape[-1] * is_scaled_by_itself
        return torch.addcmul(gradient, normalized, along, value=-1) * scale


def inverse_root_mean_square(x: Tensor) -> Tensor:
    """`[..., 1]` of `[..., C]`."""
    root_mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)
    return root_mean_square.clamp_min_(MIN_ROOT_MEAN_SQUARE).reciprocal_()
