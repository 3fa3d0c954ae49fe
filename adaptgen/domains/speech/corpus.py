"""Recordings as training documents."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.metrics import compare
from adaptgen.domains.speech.sound import open_sound, read_mono, resample
from adaptgen.domains.speech.tokenizer import SpeechTokenizer

__all__ = ["check_roundtrip", "read_documents"]

LONGEST_DOCUMENT_SECONDS = 60.0
"""Longer recordings are several documents, so that one does not outweigh all others where documents count."""
NUM_VARIANTS = 3
LARGEST_SPEED_CHANGE, LARGEST_LEVEL_CHANGE_DB = 0.06, 4.0
"""Pitch changes with speed, by a semitone at most."""


def read_documents(path: Path, tokenizer: SpeechTokenizer, *, is_training: bool) -> list[np.ndarray]:
    """Tokens `[K, T]` of a recording, the begin token first; of a long one in stretches.

    For training the recording also comes a little faster or slower, louder or softer, and with frames that begin
    elsewhere: its codes are others then, so that a model learns speech and not the codes of a few recordings by heart.

    Raises:
        InputFileError: it cannot be read, is too short or silent.
    """
    rate = tokenizer.codec.sample_rate_hz
    samples, _ = read_mono(open_sound(path), sample_rate_hz=rate)
    versions = [samples]
    if is_training:
        rng = np.random.default_rng(list(hashlib.sha256(os.fsencode(path.name)).digest()))
        versions += [_vary(samples, tokenizer.codec, rng) for _ in range(NUM_VARIANTS)]
    size = int(LONGEST_DOCUMENT_SECONDS * rate)
    return [
        tokenizer.document(tokenizer.encode(version[start : start + size]))
        for version in versions
        for start in range(0, len(version), size)
    ]


def _vary(samples: np.ndarray, codec: Codec, rng: np.random.Generator) -> np.ndarray:
    speed = 1 + rng.uniform(-LARGEST_SPEED_CHANGE, LARGEST_SPEED_CHANGE)
    gain = 10 ** (rng.uniform(-LARGEST_LEVEL_CHANGE_DB, LARGEST_LEVEL_CHANGE_DB) / 20)
    start = int(rng.integers(codec.frame_samples))
    return resample(samples, codec.sample_rate_hz, round(codec.sample_rate_hz / speed))[start:] * np.float32(gain)


def check_roundtrip(path: Path, tokenizer: SpeechTokenizer) -> dict[str, int | float]:
    """Compare a recording with what its codes sound like."""
    codec = tokenizer.codec
    sound = open_sound(path)
    samples, _ = read_mono(sound, sample_rate_hz=codec.sample_rate_hz)
    codes = tokenizer.encode(samples)
    figures = compare(samples, codec.decode(codes)[: len(samples)], sample_rate_hz=codec.sample_rate_hz)
    return {
        "seconds": round(sound.seconds, 3),
        "frames": codes.shape[1],
        "codebooks": len(codes),
        "bits_per_second": round(codec.bits_per_second(len(codes))),
        **{name: round(value, 3) for name, value in figures.items() if value is not None},
    }
