"""Where the shortcut looks: its attention weights, which the fused kernel that computes it does not give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adaptgen.errors import CheckpointError
from adaptgen.model.cache import KeyValueStore
from adaptgen.model.transformer import Shortcut, Transformer, band_mask

__all__ = ["DISTANCES", "AttentionMap", "map_attention"]

PIECE_FRAMES = 256
DISTANCES = ("0", "1 to 7", "8 to 63", "64 or more")
"""Classes of how many frames a frame lies before the newest that the query sees."""
LAST_OF_CLASS = (0, 7, 63)


@dataclass(frozen=True)
class AttentionMap:
    """What the last block's shortcut attended to when it predicted each of T frames, averaged over heads.

    Attributes:
        depths: which layers it reads; 0 is the embedding, i the output of block i.
        depth_shares: float `[T, N]`, the attention that falls on each depth; rows sum to one.
        distance_shares: float `[T, 4]`, the attention that falls on the frames of each class of `DISTANCES`; rows sum
            to one.
        link_frames, link_depths, link_weights: `[T, R]`, the R frames with most attention, the depth that has most
            of it there, and how much the frame has over all depths. A frame that is not there is -1.
        nats: float `[T]`, what each frame cost, over all streams.

    Row t is of the query at t - 1, which predicts frame t. Frame 0 is given, so row 0 is of nothing: both kinds of
    shares and nats are NaN.
    """

    depths: tuple[int, ...]
    depth_shares: np.ndarray
    distance_shares: np.ndarray
    link_frames: np.ndarray
    link_depths: np.ndarray
    link_weights: np.ndarray
    nats: np.ndarray


@torch.no_grad()
def map_attention(
    model: Transformer,
    tokens: np.ndarray,
    *,
    num_links: int = 5,
    on_progress: Callable[[int], None] = lambda num_frames: None,
) -> AttentionMap:
    """Read frames int `[K, T]`, T >= 2, with a model that has a shortcut and is in evaluation mode.

    `on_progress` is called with the number of frames read since the last call.

    Raises:
        CheckpointError: the model is a plain one.
    """
    shortcut = model.blocks[-1].shortcut
    if shortcut is None:
        raise CheckpointError("a plain model has no shortcut to look at", "Give one that was trained with a shortcut")
    frames = torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None]
    length, num_depths = frames.shape[2], len(shortcut.depths)
    depth_shares, distance_shares = (np.full((length, count), np.nan) for count in (num_depths, len(DISTANCES)))
    link_frames, link_depths = (np.full((length, num_links), -1) for _ in range(2))
    link_weights, nats = np.zeros((length, num_links)), np.full(length, np.nan)
    cache = model.new_cache(1)
    seen: list[Tensor] = []
    hook = shortcut.register_forward_hook(lambda module, args, output: seen.append(_weights(module, *args)))
    try:
        # The model cuts what is longer than its window into several pieces, and the hook would see each of them.
        step = min(PIECE_FRAMES, model.config.attention_window)
        for start in range(0, length - 1, step):
            stop = min(start + step, length - 1)
            logits = model(frames[:, :, start:stop], cache)
            targets = frames[:, :, start + 1 : stop + 1]
            costs = logits.log_softmax(-1).gather(3, targets.unsqueeze(3)).squeeze(3)
            rows = slice(start + 1, stop + 1)
            nats[rows] = -costs.sum(dim=(0, 1)).numpy()
            weights = seen.pop()
            depth_shares[rows] = weights.sum(dim=1).numpy()
            attention, first_frame = weights.sum(dim=2), stop - weights.shape[1]
            distance_shares[rows] = _by_distance(attention).numpy()
            top = attention.topk(min(num_links, weights.shape[1]), dim=1)
            deepest = weights.gather(1, top.indices.unsqueeze(2).expand(-1, -1, num_depths)).argmax(dim=2)
            is_there, count = top.values > 0, top.indices.shape[1]
            link_frames[rows, :count] = (top.indices + first_frame).where(is_there, -1).numpy()
            link_depths[rows, :count] = torch.tensor(shortcut.depths)[deepest].where(is_there, -1).numpy()
            link_weights[rows, :count] = top.values.numpy()
            on_progress(stop - start)
    finally:
        hook.remove()
    return AttentionMap(shortcut.depths, depth_shares, distance_shares, link_frames, link_depths, link_weights, nats)


def _by_distance(attention: Tensor) -> Tensor:
    """`[T, S]`, of queries of which the last stands at frame S - 1, summed over the classes of `DISTANCES`."""
    num_queries, num_frames = attention.shape
    back = torch.arange(num_frames - num_queries, num_frames)[:, None] - torch.arange(num_frames)
    classes = torch.bucketize(back, torch.tensor(LAST_OF_CLASS))
    return attention.new_zeros(num_queries, len(DISTANCES)).scatter_add(1, classes, attention)


def _weights(
    shortcut: Shortcut, x: Tensor, layers: list[Tensor], rotary: tuple[Tensor, Tensor], store: KeyValueStore
) -> Tensor:
    """Mean over heads `[T, S, N]` of what `attend` weighs values with; B = 1."""
    query = shortcut.queries(x, rotary)[0]
    keys, _ = store.in_view(query.shape[1])
    scores = torch.einsum("htd,hsnd->htsn", query, keys[0]) / query.shape[-1] ** 0.5
    mask = band_mask(query.shape[1], keys.shape[2], 1, shortcut.window, query.device)
    if mask is not None:
        scores = scores + mask.unsqueeze(-1)
    return scores.flatten(2).softmax(-1).view_as(scores).mean(dim=0)
