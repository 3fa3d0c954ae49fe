"""Weights laid out for generating on CPU, where a step reads every weight once to multiply it with one row or few."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

from adaptgen.model.transformer import TiedEmbedding, Transformer

__all__ = ["pack_weights"]


def pack_weights(model: Transformer) -> Transformer:
    """A copy of a model for generating, whose products read weights in float16 and compute in float32.

    A product with one row takes as long as it takes to read the matrix, so half the bytes are half the time; with
    16 rows FBGEMM is ahead of float32 as well. Checkpoints hold bfloat16, of which float16 keeps every bit above
    6e-5 and is within 3e-8 below, so nothing is lost. The cache stays float32.

    Returns:
        The model itself where torch has no such product, that is anywhere but on x86, or where it is not float32.
    """
    weight = model.embeddings[0].weight
    if torch.backends.quantized.engine not in ("fbgemm", "x86") or weight.device.type != "cpu":
        return model
    if weight.dtype != torch.float32:
        return model
    packed = copy.deepcopy(model)
    for parent in list(packed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, PackedLinear(child.weight))
            elif isinstance(child, TiedEmbedding):
                setattr(parent, name, PackedEmbedding(child.weight))
    return packed


class PackedLinear(nn.Module):
    """`nn.Linear` without a bias."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.detach(), None)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic_fp16.default(x, self.packed)


class PackedEmbedding(nn.Module):
    """`TiedEmbedding`, which reads single rows, so in float32, and predicts with all of them."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.head = PackedLinear(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)

    def predict(self, x: Tensor) -> Tensor:
        return self.head(x)
