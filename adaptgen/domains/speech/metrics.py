"""How much of a recording a codec keeps.

STOI (Taal et al., IEEE TASLP 19(7), 2011) and PESQ (ITU-T P.862.2, wideband) come from the packages `pystoi` and
`pesq`, which the extra `score` installs; where one is missing its figure is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.envelope import log_envelope, mel_bands
from adaptgen.domains.speech.pitch import track_pitch
from adaptgen.domains.speech.sound import resample

__all__ = ["compare", "score_codec"]

SCORED_HZ = 16_000
HOP, FFT_SIZE, NUM_BANDS = 256, 1024, 80
PITCH_HOP = 320
DYNAMIC_RANGE = 7.0
"""In natural logarithm of magnitude, 60 dB: what is softer than that below the loudest band counts as silent."""


def score_codec(
    codec: Codec, samples: np.ndarray, *, stream_counts: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Figures of a recording that went through a codec, one row per number of streams.

    Args:
        codec: any.
        samples: float32 `[n]` at the codec's rate and level.
        stream_counts: how many of the first streams are decoded; each number from one to all if not given.

    Returns:
        Rows with `codebooks`, `bits_per_second`, `real_time_factor` (of encoding all and decoding so many, in seconds
        of one process per second of sound) and the figures of `compare`.
    """
    seconds = len(samples) / codec.sample_rate_hz
    started = time.process_time()
    codes = codec.encode(samples)
    encoding = time.process_time() - started
    rows = []
    for count in stream_counts or range(1, len(codes) + 1):
        started = time.process_time()
        decoded = codec.decode(codes[:count])[: len(samples)]
        taken = encoding + time.process_time() - started
        bits = codec.frames_per_second * float(np.log2(codec.codebook_sizes[:count]).sum())
        figures = compare(samples, decoded, sample_rate_hz=codec.sample_rate_hz)
        rows.append(
            {"codebooks": count, "bits_per_second": round(bits), "real_time_factor": taken / seconds, **figures}
        )
    return rows


def compare(samples: np.ndarray, others: np.ndarray, *, sample_rate_hz: int) -> dict[str, float | None]:
    """How alike two recordings of the same are, at 16 kHz.

    Args:
        samples, others: float32 `[n]` at `sample_rate_hz`.

    Returns:
        `stoi` from 0 to 1, `pesq` from 1.0 to 4.6, `mel_distance_db` (mean absolute difference of 80 log-mel bands),
        and `pitch_error_semitones` (root mean square where both are voiced); None for what cannot be told.
    """
    first, second = (resample(sound.astype(np.float32), sample_rate_hz, SCORED_HZ) for sound in (samples, others))
    return {
        "stoi": _stoi(first, second),
        "pesq": _pesq(first, second),
        "mel_distance_db": _mel_distance(first, second),
        "pitch_error_semitones": _pitch_error(first, second),
    }


def _stoi(first: np.ndarray, second: np.ndarray) -> float | None:
    if find_spec("pystoi") is None:
        return None
    import warnings

    from pystoi import stoi

    with warnings.catch_warnings():
        # It warns, and returns 1e-5, where there are too few frames of speech.
        warnings.simplefilter("ignore")
        value = float(stoi(first, second, SCORED_HZ))
    return value if value > 1e-4 else None


def _pesq(first: np.ndarray, second: np.ndarray) -> float | None:
    if find_spec("pesq") is None:
        return None
    from pesq import PesqError, pesq

    try:
        return float(pesq(SCORED_HZ, first, second, "wb"))
    except (PesqError, ValueError):
        # It finds no speech in the file, or less than it needs.
        return None


def _mel_distance(first: np.ndarray, second: np.ndarray) -> float:
    bands = mel_bands(NUM_BANDS, FFT_SIZE, SCORED_HZ)
    mels = [log_envelope(sound, bands, hop=HOP) for sound in (first, second)]
    floored = [np.maximum(mel, mel.max() - DYNAMIC_RANGE) for mel in mels]
    return float(np.abs(floored[0] - floored[1]).mean()) * 20 / np.log(10)


def _pitch_error(first: np.ndarray, second: np.ndarray) -> float | None:
    (hz, strength), (other_hz, other_strength) = (
        track_pitch(sound, hop=PITCH_HOP, sample_rate_hz=SCORED_HZ) for sound in (first, second)
    )
    are_voiced = (strength > 0) & (other_strength > 0)
    if not are_voiced.any():
        return None
    return float(12 * np.sqrt((np.log2(hz[are_voiced] / other_hz[are_voiced]) ** 2).mean()))
