"""The transformer with layerwise attention shortcuts, and its cache. Knows tensors only."""

from adaptgen.model.attention_map import DISTANCES, AttentionMap, map_attention
from adaptgen.model.cache import Cache
from adaptgen.model.decoder import Decoder, ForwardDecoder, new_decoder
from adaptgen.model.transformer import Transformer

__all__ = [
    "DISTANCES",
    "AttentionMap",
    "Cache",
    "Decoder",
    "ForwardDecoder",
    "Transformer",
    "map_attention",
    "new_decoder",
]
