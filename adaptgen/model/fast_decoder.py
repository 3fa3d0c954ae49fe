"""`Transformer.forward` for one new frame on CPU, written out.

For a model that fits a laptop, most of what a frame takes is not arithmetic but the calls around it, so there are few
of them, and most are NumPy's, which cost a microsecond where torch's modules cost ten. Beside that:

- Gains of norms are part of the matrices behind them. So a layer's output is normalised once, for the next block and
  for the shortcut, whose projections are one product.
- Weights are read in float16 where torch has such products, and computed with in float32.
- Queries and keys are turned as complex numbers, for which dimensions that turn together become neighbours.
- Rows share the keys and values of their prompt.

Dimensions as in `transformer.py`; S counts the keys in view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor

from adaptgen.model.cache import KeyValueStore
from adaptgen.model.decoder import Decoder, ForwardDecoder
from adaptgen.model.norm import MIN_ROOT_MEAN_SQUARE
from adaptgen.model.transformer import MLP, ROPE_BASE, Block, Shortcut, Transformer

__all__ = ["FastDecoder", "new_decoder"]


def new_decoder(model: Transformer) -> Decoder:
    """The fastest decoder there is for a model in evaluation mode."""
    weight = model.embeddings[0].weight
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and model.config.depth_mixing is None:
        return FastDecoder(model)
    return ForwardDecoder(model)


class FastDecoder(Decoder):
    """Predicts what `ForwardDecoder` does, up to the order of additions and float16's rounding of weights.

    Checkpoints hold bfloat16, of which float16 keeps every bit above 6e-5; times a gain, which goes into it, a weight
    is rounded to eleven bits.

    Args:
        model: float32, on CPU, without depth mixing. Its weights are copied; it reads the prompts.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        heads = _Heads(model)
        shortcut = model.blocks[-1].shortcut
        taps: list[_Tap | None] = [None] * len(model.blocks)
        for index, depth in enumerate(() if shortcut is None else shortcut.depths):
            taps[depth] = _Tap(shortcut, index, heads)
        self.heads = heads
        self.blocks = [_Block(block, tap, heads) for block, tap in zip(model.blocks, taps, strict=True)]
        self.embeddings = [embedding.weight.detach().numpy() for embedding in model.embeddings]
        ends = np.cumsum(model.vocab_sizes)
        self.places = [slice(end - size, end) for size, end in zip(model.vocab_sizes, ends, strict=True)]
        self.predict = _Product(torch.cat([embedding.weight for embedding in model.embeddings]) * model.norm.weight)
        self.num_frames = 0

    @torch.inference_mode()
    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        cache = self.model.new_cache(1)
        logits = self.model(torch.from_numpy(prompt)[None], cache)[:, :, -1].numpy()
        self.num_frames = cache.num_frames
        window = self.model.config.attention_window
        for block, store in zip(self.blocks, cache.blocks, strict=True):
            if block.attention is not None:
                block.attention.past = _Past(store, num_rows, window, self.heads)
            if block.shortcut is not None:
                block.shortcut.past = _Past(cache.shortcut, num_rows, block.shortcut.window, self.heads)
        return logits.repeat(num_rows, axis=0)

    @torch.inference_mode()
    def step(self, frames: np.ndarray) -> np.ndarray:
        phases = self.heads.phases(self.num_frames)
        self.num_frames += 1
        x = sum(embedding[frames[:, stream]] for stream, embedding in enumerate(self.embeddings))
        tapped: list[tuple[np.ndarray, np.ndarray]] = []
        for block in self.blocks:
            x = block(x, phases, tapped)
        of_all_streams = self.predict(_normalize(x))
        sizes = self.model.vocab_sizes
        logits = np.full((len(x), len(sizes), max(sizes)), -np.inf, dtype=np.float32)
        for stream, (size, place) in enumerate(zip(sizes, self.places, strict=True)):
            logits[:, stream, :size] = of_all_streams[:, place]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        for block in self.blocks:
            for attention in (block.attention, block.shortcut):
                if attention is not None:
                    attention.past.keep(rows)


class _Heads:
    """How C outputs are heads of D dimensions, and how these turn with the frame."""

    def __init__(self, model: Transformer) -> None:
        self.num_heads = model.config.num_heads
        self.head_dim = model.config.model_dim // self.num_heads
        half = self.head_dim // 2
        self.pairs = np.arange(self.head_dim).reshape(2, half).T.ravel()
        self.frequencies = ROPE_BASE ** (-np.arange(half) / half)

    def paired(self, rows: Tensor) -> Tensor:
        """Outputs `[C, ...]` in the order in which dimensions that turn together are neighbours."""
        return rows.unflatten(0, (self.num_heads, self.head_dim))[:, self.pairs].flatten(0, 1)

    def split(self, x: np.ndarray) -> np.ndarray:
        """`[B, A, H, D]` of `[B, A * C]`."""
        return x.reshape(len(x), -1, self.num_heads, self.head_dim)

    def phases(self, frame: int) -> np.ndarray:
        """Complex numbers `[D / 2]` that turn a frame's pairs."""
        return np.exp(1j * (frame * self.frequencies)).astype(np.complex64)


def _turn(x: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """`[..., D]`, in pairs, turned."""
    return (np.ascontiguousarray(x).view(np.complex64) * phases).view(np.float32)


def _normalize(x: np.ndarray) -> np.ndarray:
    """`[B, C]` over its root mean square."""
    mean_square = np.einsum("bc,bc->b", x, x) / x.shape[1]
    return x / np.sqrt(np.maximum(mean_square, MIN_ROOT_MEAN_SQUARE**2))[:, None]


def has_float16_products() -> bool:
    """Whether torch brings FBGEMM for this processor."""
    return torch.backends.quantized.engine in ("fbgemm", "x86")


class _Product:
    """Multiplies rows `[B, in]` with a matrix `[out, in]`.

    FBGEMM reads float16, half the bytes of float32, and is ahead of it with one row as with sixteen (docs/LOG.md).
    """

    def __init__(self, weight: Tensor) -> None:
        weight = weight.detach()
        self.is_packed = has_float16_products()
        self.weight = torch.ops.quantized.linear_prepack_fp16(weight, None) if self.is_packed else weight.contiguous()

    def of_tensor(self, x: Tensor) -> Tensor:
        if self.is_packed:
            return torch.ops.quantized.linear_dynamic_fp16.default(x, self.weight)
        return F.linear(x, self.weight)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.of_tensor(torch.from_numpy(x)).numpy()


class _MLP:
    """`transformer.MLP` behind a norm, or the rest of it behind `up`."""

    def __init__(self, mlp: MLP, gain: Tensor | None) -> None:
        self.up = None if gain is None else _Product(mlp.up.weight * gain)
        self.down = _Product(mlp.down.weight)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(x)
        hidden = x if self.up is None else self.up.of_tensor(x)
        return self.down.of_tensor(F.gelu(hidden)).numpy()


class _Block:
    """`transformer.Block`."""

    def __init__(self, block: Block, tap: _Tap | None, heads: _Heads) -> None:
        self.attention = None if block.attention is None else _Attention(block.attention.out.weight)
        self.shortcut = None if block.shortcut is None else _ShortcutAttention(block, heads)
        self.tap, self.heads = tap, heads
        width = block.mlp.up.weight.shape[1]
        rows = []
        if block.attention is not None:
            query, key, value = (block.attention.qkv.weight * block.attention_norm.weight).split(width)
            rows += [heads.paired(query) * heads.head_dim**-0.5, heads.paired(key), value]
        if tap is not None:
            rows.append(tap.rows)
        self.read = _Product(torch.cat(rows)) if rows else None
        self.num_attended = 0 if self.attention is None else 3 * width
        self.mlp = _MLP(block.mlp, block.mlp_norm.weight)

    def __call__(self, x: np.ndarray, phases: np.ndarray, tapped: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """One block's step on the residual stream `[B, C]`; adds what the shortcut reads of its input to `tapped`."""
        if self.read is not None:
            read = self.read(_normalize(x))
            if self.tap is not None:
                tapped.append(self.tap(read[:, self.num_attended :], phases))
            if self.attention is not None:
                qkv = self.heads.split(read[:, : self.num_attended])
                turned = _turn(qkv[:, :2], phases)
                x = x + self.attention(turned[:, 0], [(turned[:, 1], qkv[:, 2])])
        if self.shortcut is not None:
            x = x + self.shortcut.of_stream(x, phases, tapped)
        return x + self.mlp(_normalize(x))


class _Tap:
    """What the shortcut makes of one depth's normalised stream: a key and a value.

    The first product of it is part of the block's.
    """

    def __init__(self, shortcut: Shortcut, index: int, heads: _Heads) -> None:
        self.heads = heads
        feature_map, gain = shortcut.maps[index], shortcut.input_norms[index].weight
        if shortcut.key_value is None:
            self.rows, self.mlp = self._key_value_rows(feature_map.weight * gain), None
        else:
            mlp, norm = feature_map
            self.rows, self.mlp = mlp.up.weight * gain, _MLP(mlp, gain=None)
            self.key_value = _Product(self._key_value_rows(shortcut.key_value.weight * norm.weight))
        self.bias = heads.paired(shortcut.key_bias[index]).detach().view(heads.num_heads, -1).numpy()

    def _key_value_rows(self, weight: Tensor) -> Tensor:
        key, value = weight.chunk(2)
        return torch.cat((self.heads.paired(key), value))

    def __call__(self, read: np.ndarray, phases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Key and value `[B, H, D]` of what the first product gave."""
        if self.mlp is not None:
            read = self.key_value(_normalize(self.mlp(read)))
        key_value = self.heads.split(read)
        return _turn(key_value[:, 0] + self.bias, phases), key_value[:, 1]


class _Attention:
    """Attention of one new frame of each row, over its past and itself."""

    past: _Past

    def __init__(self, out: Tensor) -> None:
        self.out = _Product(out)

    def __call__(self, query: np.ndarray, new: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """What is to be added to the stream, `[B, C]`, for a query `[B, H, D]` and the new frame's keys and values."""
        self.past.append(new)
        return self.out(self.past.attend(query).reshape(len(query), -1))


class _ShortcutAttention(_Attention):
    """The same with a query of its own, over all depths that are read."""

    def __init__(self, block: Block, heads: _Heads) -> None:
        super().__init__(block.shortcut.out.weight)
        self.heads, self.window = heads, block.shortcut.window
        query = block.shortcut.query.weight * block.shortcut_norm.weight
        self.query = _Product(heads.paired(query) * heads.head_dim**-0.5)

    def of_stream(self, x: np.ndarray, phases: np.ndarray, tapped: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """What is to be added to the stream `[B, C]`."""
        return self(_turn(self.heads.split(self.query(_normalize(x)))[:, 0], phases), tapped)


class _Past:
    """Keys and values of one attention: the prompt's, which several rows share, and each row's own.

    A row's own are in a buffer of twice the window, as in `cache.KeyValueStore`. One row alone has the prompt's among
    its own. Frames of N depths are N keys.
    """

    def __init__(self, store: KeyValueStore, num_rows: int, window: int, heads: _Heads) -> None:
        keys, values = (of_prompt.numpy()[0, :, -window:] for of_prompt in store.in_view(1))
        num_heads, self.num_shared, self.num_depths, head_dim = keys.shape
        self.window, self.end = window, 0
        self.shared_keys = keys[..., heads.pairs].reshape(num_heads, -1, head_dim)
        self.shared_values = values.reshape(num_heads, -1, head_dim)
        shape = (num_rows, num_heads, 2 * window * self.num_depths, head_dim)
        self.keys, self.values = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        if num_rows == 1:
            count = self.shared_keys.shape[1]
            self.keys[0, :, :count], self.values[0, :, :count] = self.shared_keys, self.shared_values
            self.end, self.num_shared = self.num_shared, 0

    def append(self, new: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Add a frame to each row: a key and a value `[B, H, D]` of each depth."""
        if self.end == 2 * self.window:
            size = self.window * self.num_depths
            for buffer in (self.keys, self.values):
                buffer[:, :, :size] = buffer[:, :, size:]
            self.end = self.window
        for depth, (key, value) in enumerate(new):
            index = self.end * self.num_depths + depth
            self.keys[:, :, index], self.values[:, :, index] = key, value
        self.end += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows."""
        size = self.end * self.num_depths
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = np.empty((len(rows), *old.shape[1:]), dtype=np.float32)
            new[:, :, :size] = old[list(rows), :, :size]
            setattr(self, name, new)

    def attend(self, query: np.ndarray) -> np.ndarray:
        """`[B, H, D]` for a query `[B, H, D]` that is scaled already, over the last window of frames."""
        num_own = min(self.end, self.window)
        own = slice((self.end - num_own) * self.num_depths, self.end * self.num_depths)
        keys, values = self.keys[:, :, own], self.values[:, :, own]
        scores = np.matmul(keys, query[..., None])[..., 0]
        num_shared = min(self.num_shared, self.window - num_own) * self.num_depths
        if num_shared == 0:
            return np.matmul(_softmax(scores)[:, :, None], values)[:, :, 0]
        shared_keys, shared_values = self.shared_keys[:, -num_shared:], self.shared_values[:, -num_shared:]
        of_shared = np.matmul(query.transpose(1, 0, 2), shared_keys.transpose(0, 2, 1)).transpose(1, 0, 2)
        shares = _softmax(np.concatenate((of_shared, scores), axis=2))
        mixed = np.matmul(shares[:, :, :num_shared].transpose(1, 0, 2), shared_values).transpose(1, 0, 2)
        return mixed + np.matmul(shares[:, :, None, num_shared:], values)[:, :, 0]


def _softmax(x: np.ndarray) -> np.ndarray:
    """Over the last dimension."""
    return torch.from_numpy(x).softmax(-1).numpy()
