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


NUM_LIKELIHOODS = 256


class Decoder(ABC):
    """Goes on from a prompt; may be started again with another one.

    Attributes:
        prompt_states: float32 `[T, C]`, the state that the prediction after each frame of the prompt is read from, up
            to a factor.
        prompt_likelihoods: `[K, n]`, the probabilities that the prompt's last n frames were given, at most
            `NUM_LIKELIHOODS`.
        states: float32 `[B, C]`, those of the last predictions.
    """

    prompt_states: np.ndarray
    prompt_likelihoods: np.ndarray
    states: np.ndarray

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

    def _read_prompt(self, model: Transformer, prompt: np.ndarray, cache: Cache, num_rows: int) -> np.ndarray:
        """What `start` gives, by the model itself and a cache of one row."""
        device = model.embeddings[0].weight.device
        tokens = torch.from_numpy(prompt[None]).to(device)
        states = model.encode(tokens, cache)
        logits = model.predict(states[:, -1 - NUM_LIKELIHOODS :]).float()
        followers = tokens[:, :, 1:][:, :, -NUM_LIKELIHOODS:, None]
        likelihoods = logits[:, :, :-1].softmax(dim=3).gather(3, followers)
        self.prompt_likelihoods = likelihoods[0, :, :, 0].cpu().numpy()
        self.prompt_states = states[0].float().cpu().numpy()
        self.states = self.prompt_states[-1:].repeat(num_rows, axis=0)
        return logits[:, :, -1].cpu().numpy().repeat(num_rows, axis=0)


class ForwardDecoder(Decoder):
    """By `Transformer.forward` and its cache: every model, on every device, in every dtype."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.cache: Cache | None = None

    @torch.inference_mode()
    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        self.cache = self.model.new_cache(1)
        logits = self._read_prompt(self.model, prompt, self.cache, num_rows)
        self.cache.repeat(num_rows)
        return logits

    @torch.inference_mode()
    def step(self, frames: np.ndarray) -> np.ndarray:
        device = self.model.embeddings[0].weight.device
        states = self.model.encode(torch.from_numpy(frames[:, :, None]).to(device), self.cache)
        self.states = states[:, -1].float().cpu().numpy()
        return self.model.predict(states)[:, :, -1].float().cpu().numpy()

    def keep(self, rows: Sequence[int]) -> None:
        self.cache.keep(rows)


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
