"""The transformer with layerwise attention shortcuts, and its cache. Knows tensors only."""

from adaptgen.model.attention_map import AttentionMap, map_attention
from adaptgen.model.cache import Cache
from adaptgen.model.packed import pack_weights
from adaptgen.model.transformer import Transformer

__all__ = ["AttentionMap", "Cache", "Transformer", "map_attention", "pack_weights"]
