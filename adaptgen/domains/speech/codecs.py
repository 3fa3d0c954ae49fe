"""Which codecs there are, by name."""

from __future__ import annotations

from pathlib import Path

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.dac import Dac16Codec, Dac24Codec, Dac44Codec
from adaptgen.domains.speech.encodec import EncodecCodec
from adaptgen.domains.speech.mimi import MimiCodec
from adaptgen.domains.speech.source_filter import SourceFilterCodec
from adaptgen.errors import UsageError

__all__ = ["CODECS", "DEFAULT_CODEC", "load_codec"]

CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (SourceFilterCodec, EncodecCodec, MimiCodec, Dac16Codec, Dac24Codec, Dac44Codec)
}
DEFAULT_CODEC = SourceFilterCodec.name


def load_codec(name: str = DEFAULT_CODEC, *, weights: Path | None = None) -> Codec:
    """A codec by its name.

    Args:
        name: one of `CODECS`.
        weights: a folder that holds its weights. If not given, those that come with adaptgen, or for a codec of the
            Hugging Face hub those that are there, which are fetched once.

    Raises:
        UsageError: there is no such codec, or a package that it needs cannot be imported.
        DownloadError: its weights have to be fetched, and cannot be.
        CheckpointError: its weights cannot be read.
    """
    if name not in CODECS:
        raise UsageError(f"there is no codec {name!r}", f"Give one of {', '.join(CODECS)}")
    return CODECS[name].load(CODECS[name].find_weights() if weights is None else weights)
