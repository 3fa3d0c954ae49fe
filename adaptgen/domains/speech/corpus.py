"""Recordings as training documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptgen.domains.speech.metrics import compare
from adaptgen.domains.speech.sound import open_sound, read_mono
from adaptgen.domains.speech.tokenizer import SpeechTokenizer

__all__ = ["check_roundtrip", "read_documents"]

LONGEST_DOCUMENT_SECONDS = 60.0
"""Longer recordings are several documents, so that one does not outweigh all others where documents count."""


def read_documents(path: Path, tokenizer: SpeechTokenizer) -> list[np.ndarray]:
    """Tokens `[K, T]` of a recording, the begin token first; of a long one in stretches.

    Raises:
        InputFileError: it cannot be read, is too short or silent.
    """
    rate = tokenizer.codec.sample_rate_hz
    samples, _ = read_mono(open_sound(path), sample_rate_hz=rate)
    size = int(LONGEST_DOCUMENT_SECONDS * rate)
    return [
        tokenizer.document(tokenizer.encode(samples[start : start + size])) for start in range(0, len(samples), size)
    ]


def check_roundtrip(path: Path, tokenizer: SpeechTokenizer) -> dict[str, int | float]:
    """Compare a recording with what its codes sound like."""
    codec = tokenizer.codec
    sound = open_sound(path)
    samples, _ = read_mono(sound, sample_rate_hz=codec.sample_rate_hz)
    codes = tokenizer.encode(samples)
    figures = compare(samples, codec.decode(codes)[: len(samples)], sample_rate_hz=codec.sample_rate_hz)
    sizes = np.array(codec.codebook_sizes[: len(codes)])
    return {
        "seconds": round(sound.seconds, 3),
        "frames": codes.shape[1],
        "codebooks": len(codes),
        "bits_per_second": round(codec.frames_per_second * float(np.log2(sizes).sum())),
        **{name: round(value, 3) for name, value in figures.items() if value is not None},
    }
