"""Decoding: read a prompt, then predict frame after frame, in one row or in several that share the prompt."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch

from adaptgen.model.cache import Cache
from adaptgen.model.transformer import Transformer

__all__ = ["Decoder", "ForwardDecoder", "new_decoder"]


class Decoder(ABC):
    """Goes on from a prompt; may be started again with another one."""

    @abstractmethod
    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        """Read a prompt int64 `[K, T]`, T >= 1, that all rows go on from, and predict the frame after it.

        Returns:
            Logits float32 `[B, K, V]`, V the largest vocabulary; those that a smaller one lacks are -inf.
        """

    @abstractmethod
    def step(self, frames: np.ndarray) -> np.ndarray:
        """Add one frame to each row, int64 `[B, K]`, and predict the next ones, as `start` does."""

    @abstractmethod
    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows; the next step is of these, which are given in ascending order."""


class ForwardDecoder(Decoder):
    """By `Transformer.forward` and its cache: every model, on every device, in every dtype."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.cache: Cache | None = None

    @torch.inference_mode()
    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        self.cache = self.model.new_cache(1)
        logits = self._predict(prompt[None])
        self.cache.repeat(num_rows)
        return logits.repeat(num_rows, axis=0)

    @torch.inference_mode()
    def step(self, frames: np.ndarray) -> np.ndarray:
        return self._predict(frames[:, :, None])

    def keep(self, rows: Sequence[int]) -> None:
        self.cache.keep(rows)

    def _predict(self, tokens: np.ndarray) -> np.ndarray:
        device = self.model.embeddings[0].weight.device
        logits = self.model(torch.from_numpy(tokens).to(device), self.cache)
        return logits[:, :, -1].float().cpu().numpy()


def new_decoder(model: Transformer, *, on_compiling: Callable[[], None] = lambda: None) -> Decoder:
    """The fastest decoder there is for a model in evaluation mode; arguments and errors as of `FastDecoder`."""
    weight = model.embeddings[0].weight
    shortcut = model.config.shortcut
    is_known = model.config.depth_mixing in (None, "value_residual") and (
        shortcut is None or (shortcut.place in ("add", "replace") and shortcut.feature_map in ("linear", "mlp"))
    )
    # Numba may be told, as for debugging, to leave loops to Python, which are far slower than the model itself then.
    may_compile = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and is_known and may_compile:
        # Numba takes half a second to import, and nothing but decoding needs it.
        from adaptgen.model.fast_decoder import FastDecoder

        return FastDecoder(model, on_compiling=on_compiling)
    return ForwardDecoder(model)
