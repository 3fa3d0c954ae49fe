"""A decoder-only transformer whose last block also attends to its earlier layers.

What is new here is `Shortcut`: the last block's queries attend to learned feature maps of the embedding and of
every earlier block, at every past frame and every depth, in one softmax (Verma & Pilanci, "Adaptive Large
Language Models By Layerwise Attention Shortcuts", arXiv:2409.10870). The rest is a pre-norm GPT with RMSNorm
(arXiv:1910.07467), rotary positions (arXiv:2104.09864), tied embeddings, no biases but for the shortcut's keys,
and sliding-window attention (arXiv:2004.05150), which is what lets a continuation go on without end in bounded
memory.

Input may be K parallel streams of tokens per frame (codebooks of an audio codec): their embeddings are summed
and K heads predict the next frame (arXiv:2306.05284). Text and music have K = 1.

Dimensions: B batch, T query frames, S key frames, N depths, L layers, H heads, D head width, C model width,
K streams, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

from adaptgen.config import ModelConfig, ShortcutConfig
from adaptgen.model.cache import Cache, KeyValueStore
from adaptgen.model.depth import AttentionResidual, DepthWeightedAverage
from adaptgen.model.norm import RMSNorm

__all__ = ["MLP", "ROPE_BASE", "Block", "Shortcut", "Transformer", "band_mask"]

ROPE_BASE = 10_000.0
GPT2_STD = 0.02
# Queries are attended in pieces, so that keys that a whole piece cannot see are never multiplied.
QUERIES_PER_PIECE = 256


def rotary_table(start: int, length: int, head_dim: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines `[T, D]` of frames start .. start + length - 1 (arXiv:2104.09864, eq. 34).

    Angles are computed in float64: at frame 100,000 float32 would be off by a hundredth of a radian.
    """
    # MPS has no float64. It is for training alone, where frames are few.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    frequencies = ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=dtype, device=device) / head_dim)
    frames = torch.arange(start, start + length, dtype=dtype, device=device)
    angles = torch.outer(frames, frequencies)
    cos, sin = angles.cos().float(), angles.sin().float()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (i, i + D/2) of `[..., D]` by their frames' angles; the table must broadcast against x."""
    cos, sin = rotary
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


@lru_cache(maxsize=16)
def band_mask(num_queries: int, num_keys: int, num_depths: int, window: int, device: torch.device) -> Tensor | None:
    """Additive mask `[T, S * N]`: the T queries are the last of S frames, each sees `window` frames, its own last.

    None if every query sees every key.
    """
    if num_queries == 1 and num_keys <= window:
        return None
    # A mask first made while decoding in inference mode may be used in training next.
    with torch.inference_mode(False):
        query = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
        key = torch.arange(num_keys, device=device)[None, :]
        visible = (key <= query) & (key > query - window)
        mask = torch.zeros(num_queries, num_keys, device=device).masked_fill_(~visible, -torch.inf)
        return mask.repeat_interleave(num_depths, dim=1)


def attend(query: Tensor, keys: Tensor, values: Tensor, *, window: int) -> Tensor:
    """Causal sliding-window attention over past frames and, in each of them, over depths, in one softmax.

    Args:
        query: `[B, H, T, D]`, the last T of the S frames.
        keys, values: `[B, H, S, N, D]`. Frames outside depths, so that any range of frames is one contiguous
            block of keys: neither decoding from a cache nor the pieces below copy them.
        window: how many frames a query sees, its own included.

    Returns:
        `[B, H, T, D]`.
    """
    num_queries, num_keys, num_depths = query.shape[2], keys.shape[2], keys.shape[3]
    if query.is_cuda and num_depths == 1 and num_queries == num_keys <= window:
        # Flash attention, which is several times faster there, takes no mask.
        return F.scaled_dot_product_attention(query, keys.squeeze(3), values.squeeze(3), is_causal=True)
    outputs = []
    last = num_keys - num_queries
    for piece in query.split(QUERIES_PER_PIECE, dim=2):
        first = max(0, last - window + 1)
        last += piece.shape[2]
        mask = band_mask(piece.shape[2], last - first, num_depths, window, query.device)
        outputs.append(
            F.scaled_dot_product_attention(
                piece,
                keys[:, :, first:last].flatten(2, 3),
                values[:, :, first:last].flatten(2, 3),
                attn_mask=mask if mask is None else mask.to(query.dtype),
            )
        )
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the past frames of one layer.

    With value residuals every layer but the first mixes the first one's values into its own, by two learned
    weights that begin at one half (Zhou et al., "Value Residual Learning", arXiv:2410.17897, the learnable form).
    """

    def __init__(self, config: ModelConfig, *, is_first: bool) -> None:
        super().__init__()
        has_residuals = config.depth_mixing == "value_residual"
        self.leaves_values = has_residuals and is_first
        self.value_weights = nn.Parameter(torch.tensor([0.5, 0.5])) if has_residuals and not is_first else None
        self.num_heads, self.window = config.num_heads, config.attention_window
        self.qkv = nn.Linear(config.model_dim, 3 * config.model_dim, bias=False)
        self.out = nn.Linear(config.model_dim, config.model_dim, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], store: KeyValueStore | None, first_values: list[Tensor]
    ) -> Tensor:
        """`first_values` is where the first layer leaves its values, if later ones mix them into theirs."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, -1)
        query, key = rotate(qkv[:, :, :2], rotary).permute(2, 0, 3, 1, 4)
        value = qkv[:, :, 2].transpose(1, 2)
        # With recomputed activations the first layer runs again in the backward pass.
        if self.leaves_values and not first_values:
            first_values.append(value)
        if self.value_weights is not None:
            value = self.value_weights[0] * first_values[0] + self.value_weights[1] * value
        keys, values = key.unsqueeze(3), value.unsqueeze(3)
        if store is not None:
            keys, values = store.append(keys, values)
        mixed = attend(query, keys, values, window=self.window)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Shortcut(nn.Module):
    """Attention of the last block to feature maps of earlier layers (arXiv:2409.10870, section 3).

    Depth i enters as f_i(norm(h_i)), h_0 the embedding and h_i the output of block i. A query at frame t sees
    every depth of every frame up to t under one softmax, so a token can take what it needs from where it is
    computed. Keys of all depths of a frame share that frame's rotary position.

    Where this differs from the paper, because it was measured to be better (docs/LOG.md): the maps are
    normalised, and with `feature_map="linear"` each depth has its own key and value projection in place of an
    MLP with shared projections. The key projections have a bias, by which a head can prefer a depth as such.
    """

    def __init__(self, config: ModelConfig, shortcut: ShortcutConfig) -> None:
        super().__init__()
        width = config.model_dim
        self.num_heads, self.window = config.num_heads, shortcut.window or config.attention_window
        self.depths = shortcut_depths(config, shortcut)
        num_depths = len(self.depths)
        self.query = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.input_norms = nn.ModuleList(RMSNorm(width) for _ in range(num_depths))
        self.key_bias = nn.Parameter(torch.zeros(num_depths, width))
        if shortcut.feature_map == "linear":
            self.maps = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in range(num_depths))
            self.key_value = None
        else:
            map_dim = shortcut.map_dim or width // 2
            self.maps = nn.ModuleList(nn.Sequential(MLP(width, map_dim), RMSNorm(width)) for _ in range(num_depths))
            self.key_value = nn.Linear(width, 2 * width, bias=False)

    def forward(
        self, x: Tensor, layers: list[Tensor], rotary: tuple[Tensor, Tensor], store: KeyValueStore | None
    ) -> Tensor:
        batch, length, width = x.shape
        features = [
            feature_map(norm(layers[depth]))
            for depth, norm, feature_map in zip(self.depths, self.input_norms, self.maps, strict=True)
        ]
        stacked = torch.stack(features, dim=2)
        if self.key_value is not None:
            stacked = self.key_value(stacked)
        key, value = stacked.split(width, dim=-1)
        heads = (self.num_heads, -1)
        keys = rotate((key + self.key_bias.to(key.dtype)).unflatten(-1, heads), rotary).permute(0, 3, 1, 2, 4)
        values = value.unflatten(-1, heads).permute(0, 3, 1, 2, 4)
        if store is not None:
            keys, values = store.append(keys, values)
        mixed = attend(self.queries(x, rotary), keys, values, window=self.window)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def queries(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """`[B, H, T, D]` of the block's stream `[B, T, C]`."""
        query = self.query(x).unflatten(-1, (1, self.num_heads, -1))
        return rotate(query, rotary).squeeze(2).transpose(1, 2)


def shortcut_depths(config: ModelConfig, shortcut: ShortcutConfig) -> tuple[int, ...]:
    """Depths that the last block reads; with `replace`, its own input is one of them."""
    depths = shortcut.depths if shortcut.depths is not None else tuple(range(config.num_layers - 1))
    return (*depths, config.num_layers - 1) if shortcut.place == "replace" else depths


class MLP(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


@dataclass
class Seen:
    """What blocks have left for later ones.

    Attributes:
        layers: the embedding and the output of each block, `[B, T, C]`.
        first_values: of the first self-attention, `[B, H, T, D]`; empty where nobody mixes them into others.
    """

    layers: list[Tensor]
    first_values: list[Tensor] = field(default_factory=list)


class Block(nn.Module):
    """Pre-norm attention and MLP; the last block of a shortcut model also reads the earlier layers."""

    def __init__(self, config: ModelConfig, *, shortcut: ShortcutConfig | None, is_first: bool, dropout: float) -> None:
        super().__init__()
        width = config.model_dim
        replaced = shortcut is not None and shortcut.place == "replace"
        self.attention = None if replaced else SelfAttention(config, is_first=is_first)
        self.attention_norm = None if replaced else RMSNorm(width)
        self.shortcut = None if shortcut is None else Shortcut(config, shortcut)
        self.shortcut_norm = None if shortcut is None else RMSNorm(width)
        self.mlp = MLP(width, config.mlp_dim or 4 * width)
        self.mlp_norm = RMSNorm(width)
        self.dropout = nn.Dropout(dropout)
        has_residuals = config.depth_mixing == "attention_residual"
        # The first block's attention has nothing but the embedding to read.
        self.attention_residual = AttentionResidual(width) if has_residuals and not is_first else None
        self.mlp_residual = AttentionResidual(width) if has_residuals else None

    def forward(self, x: Tensor, seen: Seen, rotary: tuple[Tensor, Tensor], cache: Cache | None, depth: int) -> Tensor:
        """One block's step on the residual stream `[B, T, C]`."""
        store = None if cache is None else cache.blocks[depth]
        if self.attention is not None:
            x = x + self.dropout(self.attention(self.attention_norm(x), rotary, store, seen.first_values))
        if self.shortcut is not None:
            shortcut_store = None if cache is None else cache.shortcut
            x = x + self.dropout(self.shortcut(self.shortcut_norm(x), seen.layers, rotary, shortcut_store))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))

    def extend(
        self, outputs: list[Tensor], seen: Seen, rotary: tuple[Tensor, Tensor], cache: Cache | None, depth: int
    ) -> None:
        """The same with attention residuals: both branches read `outputs` and add theirs."""
        store = None if cache is None else cache.blocks[depth]
        x = outputs[-1] if self.attention_residual is None else self.attention_residual(outputs)
        outputs.append(self.dropout(self.attention(self.attention_norm(x), rotary, store, seen.first_values)))
        x = self.mlp_residual(outputs)
        outputs.append(self.dropout(self.mlp(self.mlp_norm(x))))


class TiedEmbedding(nn.Embedding):
    """One matrix by which tokens are read and predicted."""

    def predict(self, x: Tensor) -> Tensor:
        """Logits `[..., V]` of `[..., C]`."""
        return F.linear(x, self.weight)


class Transformer(nn.Module):
    """The model, with or without shortcuts.

    Training, scoring and reading a prompt all go through `encode` and `predict`, the halves of `forward`, and so does
    decoding; `FastDecoder` alone has its own arithmetic for the frames after the prompt.

    Args:
        config: shape of the model.
        vocab_sizes: number of tokens of each of the K streams.
        dropout: on the residual branches, in training mode only.
    """

    def __init__(self, config: ModelConfig, vocab_sizes: tuple[int, ...], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config, self.vocab_sizes = config, tuple(vocab_sizes)
        width, last = config.model_dim, config.num_layers - 1
        self.embedding_scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.embeddings = nn.ModuleList(TiedEmbedding(size, width) for size in vocab_sizes)
        self.blocks = nn.ModuleList(
            Block(config, shortcut=config.shortcut if depth == last else None, is_first=depth == 0, dropout=dropout)
            for depth in range(config.num_layers)
        )
        is_dense = config.depth_mixing == "denseformer"
        self.averages = (
            nn.ModuleList(DepthWeightedAverage(depth + 2) for depth in range(config.num_layers)) if is_dense else None
        )
        self.residual = AttentionResidual(width) if config.depth_mixing == "attention_residual" else None
        self.norm = RMSNorm(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights, as of GPT-2: what writes to the residual stream is scaled down by depth."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2 or name.endswith("key_bias"):
                continue
            if ".maps." in name:
                std = 1 / math.sqrt(parameter.shape[1])
            elif name.startswith("embeddings."):
                std = GPT2_STD
            elif name.endswith(("out.weight", "down.weight")):
                std = GPT2_STD / math.sqrt(2 * self.config.num_layers)
            else:
                std = self.config.init_std
            nn.init.normal_(parameter, std=std)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def context_frames(self) -> int:
        """How many frames before a token bear on its prediction: a window more through each block."""
        return self.config.num_layers * (self.config.attention_window - 1) + 1

    def new_cache(self, batch_size: int) -> Cache:
        """An empty cache for `batch_size` sequences, on the model's device and in its dtype."""
        weight = self.embeddings[0].weight
        config, last = self.config, self.blocks[-1]

        def store(num_depths: int) -> KeyValueStore:
            shape = (batch_size, config.num_heads, num_depths, config.model_dim // config.num_heads)
            return KeyValueStore(shape, window=config.attention_window, dtype=weight.dtype, device=weight.device)

        blocks = [store(1) if block.attention is not None else None for block in self.blocks]
        return Cache(blocks, None if last.shortcut is None else store(len(last.shortcut.depths)))

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Predict the frame after each given frame.

        Args:
            tokens: int64 `[B, K, T]`.
            cache: the past, which `tokens` go on from; they are added to it. Without it, `tokens` are a whole
                sequence. Feeding a sequence in any pieces through a cache gives the logits of feeding it whole.

        Returns:
            Logits float `[B, K, T, V]`, V the largest vocabulary; those a smaller one lacks are -inf.
        """
        return self.predict(self.encode(tokens, cache))

    def encode(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """The first half of `forward`: the state `[B, T, C]` that each frame's prediction is read from."""
        window = self.config.attention_window
        if cache is not None and tokens.shape[2] > window:
            return torch.cat([self.encode(piece, cache) for piece in tokens.split(window, dim=2)], dim=1)
        length = tokens.shape[2]
        start = 0 if cache is None else cache.num_frames
        head_dim = self.config.model_dim // self.config.num_heads
        cos, sin = rotary_table(start, length, head_dim, device=tokens.device)
        # For `[B, T, A, H, D]`, A any number of vectors of each head at one frame.
        rotary = cos[:, None, None], sin[:, None, None]
        x = sum(embedding(tokens[:, stream]) for stream, embedding in enumerate(self.embeddings))
        x = x * self.embedding_scale
        x = self._run_blocks(x, rotary, cache)
        if cache is not None:
            cache.num_frames += length
        return self.norm(x)

    def predict(self, states: Tensor) -> Tensor:
        """The second half of `forward`."""
        widest = max(self.vocab_sizes)
        logits = [
            F.pad(embedding.predict(states), (0, widest - size), value=-torch.inf)
            for embedding, size in zip(self.embeddings, self.vocab_sizes, strict=True)
        ]
        return torch.stack(logits, dim=1)

    def _run_blocks(self, x: Tensor, rotary: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        """From the embedding `[B, T, C]` to the last block's output."""
        seen = Seen([x])
        if self.residual is not None:
            outputs = [x]
            for depth, block in enumerate(self.blocks):
                block.extend(outputs, seen, rotary, cache, depth)
            return self.residual(outputs)
        for depth, block in enumerate(self.blocks):
            x = block(x, seen, rotary, cache, depth)
            seen.layers.append(x)
            if self.averages is not None:
                x = self.averages[depth](seen.layers)
        return x
