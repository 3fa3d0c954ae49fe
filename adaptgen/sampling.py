"""How the next token is drawn from what the model predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adaptgen.errors import UsageError

__all__ = ["Sampling"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature, then the filters, each of which leaves the likeliest token in.

    Args:
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: keep the k likeliest tokens.
        top_p: keep the smallest set of likeliest tokens that holds this probability (arXiv:1904.09751).
        min_p: keep tokens at least this likely relative to the likeliest (arXiv:2407.01082); 0 keeps all.

    Raises:
        UsageError: a value is out of its range or not a number.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"--temperature is {self.temperature}", "Give a number from 0 up, such as 1.0")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"--top-k is {self.top_k}", "Give a whole number from 1 up")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p is {self.top_p}", "Give a number above 0 and up to 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise UsageError(f"--min-p is {self.min_p}", "Give a number from 0 to 1")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities float64 `[..., V]` to draw from, for `[..., V]` logits of which some may be -inf."""
        logits = logits.astype(np.float64)
        if self.temperature == 0:
            probabilities = np.zeros_like(logits)
            np.put_along_axis(probabilities, logits.argmax(-1, keepdims=True), 1.0, axis=-1)
            return probabilities
        # The largest logit becomes 0 first, so that no temperature however small makes it infinite.
        with np.errstate(over="ignore"):
            probabilities = np.exp((logits - logits.max(-1, keepdims=True)) / self.temperature)
        probabilities /= probabilities.sum(-1, keepdims=True)
        if self.min_p is not None:
            probabilities[probabilities < self.min_p * probabilities.max(-1, keepdims=True)] = 0
        if self.top_k is not None or self.top_p is not None:
            order = np.argsort(-probabilities, axis=-1, kind="stable")
            ordered = np.take_along_axis(probabilities, order, axis=-1)
            if self.top_p is not None:
                before = ordered.cumsum(-1) - ordered
                ordered[before >= self.top_p * ordered.sum(-1, keepdims=True)] = 0
            if self.top_k is not None:
                ordered[..., self.top_k :] = 0
            np.put_along_axis(probabilities, order, ordered, axis=-1)
        return probabilities / probabilities.sum(-1, keepdims=True)
