"""`Transformer.forward` for one new frame on CPU, by compiled loops.

For a model that fits a laptop, most of what a frame takes in `Transformer.forward` is not arithmetic but the calls
around it. Here a layer is five calls of `kernels.py`. Weights, keys and values are held in float16 where the processor
converts it, which halves what a frame has to read, and are computed with in float32; rows share the keys and values of
their prompt.

Dimensions as in `transformer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from adaptgen.model import compiling, kernels
from adaptgen.model.cache import KeyValueStore
from adaptgen.model.decoder import Decoder
from adaptgen.model.transformer import MLP, ROPE_BASE, Block, Shortcut, Transformer

__all__ = ["FastDecoder"]

MIN_ROWS_PER_THREAD = 2


class FastDecoder(Decoder):
    """Predicts what `ForwardDecoder` does, up to the order of additions and float16's rounding.

    Checkpoints hold weights in bfloat16, of which float16 keeps every bit above 6e-5. Several rows are dealt out among
    as many threads as torch has; they meet once a frame.

    Args:
        model: float32, on CPU, without depth mixing other than value residuals. It reads the prompts, and must not
            change any more.
        on_compiling: called some times if the loops are not compiled yet for this processor, which takes ten seconds.

    Raises:
        OutputFileError: compiled loops cannot be kept where they should be, or are damaged there.
    """

    def __init__(self, model: Transformer, *, on_compiling: Callable[[], None] = lambda: None) -> None:
        self.model = model
        shortcut = model.blocks[-1].shortcut
        self.depths = {} if shortcut is None else {depth: index for index, depth in enumerate(shortcut.depths)}
        self.shortcut = None if shortcut is None else _Shortcut(model.blocks[-1])
        self.blocks = [_Block(block) for block in model.blocks]
        scale = np.float32(model.embedding_scale)
        self.embeddings = [_plain(embedding.weight) * scale for embedding in model.embeddings]
        self.norm = _plain(model.norm.weight)
        self.prediction = _stored(torch.cat([embedding.weight for embedding in model.embeddings]))
        ends = np.cumsum(model.vocab_sizes)
        self.places = [slice(end - size, end) for size, end in zip(model.vocab_sizes, ends, strict=True)]
        half = model.config.model_dim // model.config.num_heads // 2
        self.frequencies = ROPE_BASE ** (-np.arange(half) / half)
        self.num_frames = 0
        self.groups: list[_Group] = []
        self.threads: ThreadPoolExecutor | None = None
        # In this thread, which Ctrl-C stops.
        with compiling.loading(on_compiling, of=kernels.multiply):
            first = np.zeros((1, len(model.vocab_sizes)), dtype=np.int64)
            self.start(first.T, 1)
            self.step(first)

    @torch.inference_mode()
    def start(self, prompt: np.ndarray, num_rows: int) -> np.ndarray:
        cache = self.model.new_cache(1)
        logits = self._read_prompt(self.model, prompt, cache, num_rows)
        self.num_frames = cache.num_frames
        window = self.model.config.attention_window
        of_blocks = [None if store is None else _Prompt(store, window) for store in cache.blocks]
        of_shortcut = None if self.shortcut is None else _Prompt(cache.shortcut, self.shortcut.window)
        num_groups = max(1, min(torch.get_num_threads(), num_rows // MIN_ROWS_PER_THREAD))
        self.groups = [
            _Group(of_blocks, of_shortcut, len(rows)) for rows in np.array_split(np.arange(num_rows), num_groups)
        ]
        self.threads = ThreadPoolExecutor(num_groups) if num_groups > 1 else None
        return logits

    def step(self, frames: np.ndarray) -> np.ndarray:
        angles = self.num_frames * self.frequencies
        turn = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self.num_frames += 1
        if self.threads is None:
            logits, self.states = self._step(frames, self.groups[0], turn)
            return logits
        parts = np.split(frames, np.cumsum([group.num_rows for group in self.groups])[:-1])
        found = self.threads.map(self._step, parts, self.groups, [turn] * len(parts))
        logits, self.states = map(np.concatenate, zip(*found, strict=True))
        return logits

    def _step(
        self, frames: np.ndarray, group: _Group, turn: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits and states of the rows of one group."""
        x = sum(embedding[frames[:, stream]] for stream, embedding in enumerate(self.embeddings))
        group.make_room()
        first_values = None
        for depth, block in enumerate(self.blocks):
            if depth in self.depths:
                self.shortcut.read(self.depths[depth], x, group.of_shortcut, turn)
            if block.has_attention:
                values = block.attend(x, group.of_blocks[depth], turn, first_values)
                first_values = values if depth == 0 else first_values
            if self.shortcut is not None and depth == self.model.config.num_layers - 1:
                self.shortcut.attend(x, group.of_shortcut, turn)
            kernels.add_mlp(x, *block.mlp)
        of_all_streams = kernels.project(x, self.norm, self.prediction)
        sizes = self.model.vocab_sizes
        logits = np.full((len(x), len(sizes), max(sizes)), -np.inf, dtype=np.float32)
        for stream, (size, place) in enumerate(zip(sizes, self.places, strict=True)):
            logits[:, stream, :size] = of_all_streams[:, place]
        return logits, x * self.norm

    def keep(self, rows: Sequence[int]) -> None:
        assert list(rows) == sorted(rows), "rows keep their order, and so stay in their group"
        first = 0
        for group in self.groups:
            end = first + group.num_rows
            group.keep([row - first for row in rows if first <= row < end])
            first = end
        self.groups = [group for group in self.groups if group.num_rows]


def _plain(parameter: Tensor) -> np.ndarray:
    """As an array of float32."""
    return np.ascontiguousarray(parameter.detach().numpy())


def _stored(weight: Tensor | np.ndarray) -> np.ndarray:
    """As kernels read it: halves, as uint16, or float32."""
    weight = _plain(weight) if isinstance(weight, Tensor) else np.ascontiguousarray(weight)
    if not compiling.has_half_conversion():
        return weight
    return weight.clip(-kernels.LARGEST_HALF, kernels.LARGEST_HALF).astype(np.float16).view(np.uint16)


def _stored_mlp(mlp: MLP) -> tuple[np.ndarray, np.ndarray]:
    return _stored(mlp.up.weight), _stored(mlp.down.weight)


class _Block:
    """Self-attention, if it has any, and MLP of a `transformer.Block`."""

    def __init__(self, block: Block) -> None:
        attention = block.attention
        self.has_attention = attention is not None
        if attention is not None:
            self.gain = _plain(block.attention_norm.weight)
            self.qkv, self.out = _stored(attention.qkv.weight), _stored(attention.out.weight)
            self.key_bias = np.zeros_like(self.gain)
            self.value_weights = None if attention.value_weights is None else _plain(attention.value_weights)
        self.mlp = _plain(block.mlp_norm.weight), *_stored_mlp(block.mlp)

    def attend(
        self, x: np.ndarray, past: _Past, turn: tuple[np.ndarray, np.ndarray], first_values: np.ndarray | None
    ) -> np.ndarray:
        """The first half of the block's step on the residual stream `[B, C]`, in place; gives its values `[B, C]`.

        With value residuals the first block's values are mixed into those of every other.
        """
        read = kernels.project(x, self.gain, self.qkv)
        values = read[:, 2 * x.shape[1] :]
        if self.value_weights is not None:
            values *= self.value_weights[1]
            values += self.value_weights[0] * first_values
        kernels.append(read, x.shape[1], self.key_bias, past.arrays, past.bounds[3] - 1, turn)
        kernels.add_product(x, kernels.attend(read, past.arrays, past.bounds, turn), self.out)
        return values


class _Map:
    """From one depth's stream to what the shortcut reads of it."""

    def __init__(self, shortcut: Shortcut, index: int) -> None:
        norm, feature_map = shortcut.input_norms[index], shortcut.maps[index]
        self.bias = _plain(shortcut.key_bias[index])
        self.mlp = None
        if shortcut.key_value is None:
            self.gain, self.key_value = _plain(norm.weight), _stored(feature_map.weight)
        else:
            self.mlp = _plain(norm.weight), *_stored_mlp(feature_map[0])
            self.gain, self.key_value = _plain(feature_map[1].weight), _stored(shortcut.key_value.weight)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Keys, but for their bias, and values `[B, 2 C]` of the stream `[B, C]`."""
        return kernels.project(x if self.mlp is None else kernels.mlp(x, *self.mlp), self.gain, self.key_value)


class _Shortcut:
    """`transformer.Shortcut`, which is fed depth by depth as the blocks go along."""

    def __init__(self, block: Block) -> None:
        shortcut: Shortcut = block.shortcut
        self.window = shortcut.window
        self.gain = _plain(block.shortcut_norm.weight)
        self.query, self.out = _stored(shortcut.query.weight), _stored(shortcut.out.weight)
        self.maps = [_Map(shortcut, index) for index in range(len(shortcut.depths))]

    def read(self, index: int, x: np.ndarray, past: _Past, turn: tuple[np.ndarray, np.ndarray]) -> None:
        """Take what is read of one depth from its stream `[B, C]`."""
        of_depth = self.maps[index]
        place = past.bounds[3] - len(self.maps) + index
        kernels.append(of_depth(x), 0, of_depth.bias, past.arrays, place, turn)

    def attend(self, x: np.ndarray, past: _Past, turn: tuple[np.ndarray, np.ndarray]) -> None:
        """Add to the stream `[B, C]`, in place."""
        query = kernels.project(x, self.gain, self.query)
        kernels.add_product(x, kernels.attend(query, past.arrays, past.bounds, turn), self.out)


class _Prompt:
    """Keys and values of the prompt in one attention, `[H, S * N, D]`: S frames of N depths."""

    def __init__(self, store: KeyValueStore, window: int) -> None:
        in_view = [of_prompt.numpy()[0, :, -window:] for of_prompt in store.in_view(1)]
        num_heads, self.num_frames, self.num_depths, head_dim = in_view[0].shape
        self.window = window
        self.arrays = [_stored(array.reshape(num_heads, -1, head_dim)) for array in in_view]


class _Group:
    """Rows that one thread decodes: what each attention has of their past."""

    def __init__(self, of_blocks: Sequence[_Prompt | None], of_shortcut: _Prompt | None, num_rows: int) -> None:
        self.num_rows = num_rows
        self.of_blocks = [None if prompt is None else _Past(prompt, num_rows) for prompt in of_blocks]
        self.of_shortcut = None if of_shortcut is None else _Past(of_shortcut, num_rows)
        self.pasts = [past for past in (*self.of_blocks, self.of_shortcut) if past is not None]

    def make_room(self) -> None:
        """Let a frame be added to each row."""
        for past in self.pasts:
            past.make_room()

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows."""
        if len(rows) < self.num_rows:
            self.num_rows = len(rows)
            for past in self.pasts:
                past.keep(rows)


class _Past:
    """Keys and values of one attention: the prompt's, which several rows share, and each row's own.

    A row's own are in a buffer of twice the window, as in `cache.KeyValueStore`. One row alone has the prompt's among
    its own. Frames of N depths are N keys.

    Attributes:
        arrays, bounds: as `kernels.attend` takes them, the frame that is being added among them.
    """

    bounds: tuple[int, int, int, int]

    def __init__(self, prompt: _Prompt, num_rows: int) -> None:
        self.window, self.num_shared, self.num_depths = prompt.window, prompt.num_frames, prompt.num_depths
        self.end = 0
        num_heads, num_keys, head_dim = prompt.arrays[0].shape
        shape = (num_rows, num_heads, 2 * self.window * self.num_depths, head_dim)
        own = [np.empty(shape, dtype=array.dtype) for array in prompt.arrays]
        if num_rows == 1:
            for buffer, array in zip(own, prompt.arrays, strict=True):
                buffer[0, :, :num_keys] = array
            self.end, self.num_shared = self.num_shared, 0
        self.arrays = (*prompt.arrays, *own)

    def make_room(self) -> None:
        """Let a frame be added to each row."""
        if self.end == 2 * self.window:
            size = self.window * self.num_depths
            for buffer in self.arrays[2:]:
                buffer[:, :, :size] = buffer[:, :, size:]
            self.end = self.window
        self.end += 1
        num_own = min(self.end, self.window)
        num_shared = min(self.num_shared, self.window - num_own)
        frames = self.num_shared - num_shared, self.num_shared, self.end - num_own, self.end
        self.bounds = tuple(frame * self.num_depths for frame in frames)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows."""
        size, own = self.end * self.num_depths, []
        for old in self.arrays[2:]:
            new = np.empty((len(rows), *old.shape[1:]), dtype=old.dtype)
            new[:, :, :size] = old[list(rows), :, :size]
            own.append(new)
        self.arrays = (*self.arrays[:2], *own)
