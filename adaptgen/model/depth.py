"""Other ways for a layer to read earlier ones, to compare shortcuts with: each at the same position only.

DenseFormer and attention residuals change what a block reads; value residuals, in `transformer.SelfAttention`, what
its attention mixes. All are written from the papers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AttentionResidual", "DepthWeightedAverage"]


class DepthWeightedAverage(nn.Module):
    """A learned weighted sum of the embedding and all block outputs so far; at first, the last of them.

    Source: Pagliardini et al., "DenseFormer", arXiv:2402.02622, section 3; no dilation.
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        weights = torch.zeros(num_inputs)
        weights[-1] = 1.0
        self.weights = nn.Parameter(weights)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """`[B, T, C]` from as many `[B, T, C]` as there are weights."""
        return sum(weight * x for weight, x in zip(self.weights, inputs, strict=True))


class AttentionResidual(nn.Module):
    """Softmax attention over the outputs of the embedding and of all attention and MLP branches so far.

    The query is learned, one for each place where a branch reads; keys are the normalised outputs. It begins at
    zero, that is with the mean.

    Source: Kimi Team, "Attention Residuals", arXiv:2603.15031, the full form, not the block form.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        # Without a gain of its own: the query is one.
        self.key_norm = nn.RMSNorm(width, elementwise_affine=False)

    def forward(self, outputs: list[Tensor]) -> Tensor:
        """`[B, T, C]` from any number of `[B, T, C]`."""
        stacked = torch.stack(outputs)
        shares = (self.key_norm(stacked) @ self.query).softmax(dim=0)
        return (shares.unsqueeze(-1) * stacked).sum(dim=0)
