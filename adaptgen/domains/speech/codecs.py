"""Which codecs there are, by name."""

from __future__ import annotations

from pathlib import Path

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.encodec import EncodecCodec
from adaptgen.domains.speech.source_filter import SourceFilterCodec
from adaptgen.errors import UsageError

__all__ = ["CODECS", "DEFAULT_CODEC", "load_codec"]

CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (SourceFilterCodec, EncodecCodec)}
DEFAULT_CODEC = SourceFilterCodec.name


def load_codec(name: str = DEFAULT_CODEC, *, weights: Path | None = None) -> Codec:
    """A codec by its name.

    Args:
        name: one of `CODECS`.
        weights: a folder that holds its weights; those that come with adaptgen if not given.

    Raises:
        UsageError: there is no such codec, or none of that name comes with adaptgen.
        CheckpointError: its weights cannot be read.
    """
    if name not in CODECS:
        raise UsageError(f"there is no codec {name!r}", f"Give one of {', '.join(CODECS)}")
    if weights is None:
        weights = CODECS[name].shipped_weights()
    if weights is None:
        raise UsageError(
            f"the weights of the codec {name!r} do not come with adaptgen", "Name a folder that holds them"
        )
    return CODECS[name].load(weights)
