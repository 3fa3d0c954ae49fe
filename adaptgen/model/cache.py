"""Keys and values of past frames, for every block and for every depth that the shortcut reads.

Each store is one preallocated buffer of twice the attention window. New frames are appended behind the old ones;
when the buffer is full, the last window of frames moves to its front. So the frames in view are always one
contiguous slice, nothing is reallocated, and memory stays the same however long the sequence grows. The price
is one copied frame per new frame on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Cache", "KeyValueStore"]


class KeyValueStore:
    """Keys and values of one attention, `[B, H, S, N, D]`: S frames in view, N depths per frame."""

    def __init__(self, shape: tuple[int, int, int, int], *, window: int, dtype: torch.dtype, device: torch.device):
        batch, heads, depths, head_dim = shape
        self.window = window
        self.keys = torch.zeros(batch, heads, 2 * window, depths, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.end = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add T <= window frames; return `in_view` of these T."""
        num_new = keys.shape[2]
        assert num_new <= self.window, "longer input is fed in pieces"
        if self.end + num_new > 2 * self.window:
            # No more than a window comes at once, so that there is one at least when the buffer is full.
            for buffer in (self.keys, self.values):
                buffer[:, :, : self.window] = buffer[:, :, self.end - self.window : self.end].clone()
            self.end = self.window
        self.keys.narrow(2, self.end, num_new).copy_(keys)
        self.values.narrow(2, self.end, num_new).copy_(values)
        self.end += num_new
        return self.in_view(num_new)

    def in_view(self, num_queries: int) -> tuple[Tensor, Tensor]:
        """Keys and values of all frames that the last so many frames may see."""
        start = max(0, self.end - num_queries - self.window + 1)
        length = self.end - start
        return self.keys.narrow(2, start, length), self.values.narrow(2, start, length)


class Cache:
    """The past of a batch of sequences, as `Transformer.new_cache` makes it.

    Attributes:
        blocks: one store per self-attention, N = 1.
        shortcut: the store of the shortcut, N = number of depths; None for a plain model.
        num_frames: frames seen so far, which is the rotary position of the next one.
    """

    def __init__(self, blocks: list[KeyValueStore | None], shortcut: KeyValueStore | None) -> None:
        self.blocks = blocks
        self.shortcut = shortcut
        self.num_frames = 0

    @property
    def _stores(self) -> list[KeyValueStore]:
        return [store for store in (*self.blocks, self.shortcut) if store is not None]

    def repeat(self, batch_size: int) -> None:
        """Make a cache of one sequence the past of several that go on from it."""
        for store in self._stores:
            assert store.keys.shape[0] == 1
            store.keys = store.keys.repeat(batch_size, 1, 1, 1, 1)
            store.values = store.values.repeat(batch_size, 1, 1, 1, 1)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other sequences."""
        for store in self._stores:
            store.keys, store.values = store.keys[list(rows)], store.values[list(rows)]

    @property
    def num_bytes(self) -> int:
        """Memory held by all buffers."""
        return sum(2 * store.keys.numel() * store.keys.element_size() for store in self._stores)
