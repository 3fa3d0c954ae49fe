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
from adaptgen.domains.speech.envelope import frames_of, log_envelope, mel_bands
from adaptgen.domains.speech.pitch import track_pitch
from adaptgen.domains.speech.sound import loudness, resample

__all__ = ["PITCH_HOP", "SCORED_HZ", "SPEECH_SHARE", "compare", "score_codec", "spectral_flatness_db"]

SCORED_HZ = 16_000
HOP, FFT_SIZE, NUM_BANDS = 256, 1024, 80
PITCH_HOP = 320
DYNAMIC_RANGE = 7.0
"""In natural logarithm of magnitude, 60 dB: what is softer than that below the loudest band counts as silent."""

FLATNESS_RANGE_HZ, FLATNESS_BAND_HZ = (2_000, 7_500), 500
"""Where a voice has more noise than tone, and buzz is heard; in bands too narrow for the spectrum's tilt to count."""
SPEECH_SHARE = 0.1
"""Of a recording's loudness, 20 dB below it: what is softer is a pause."""


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
        bits = codec.bits_per_second(count)
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
        `pitch_error_semitones` (root mean square where both are voiced), and `flatness_change_db` (spectral flatness of
        the second less that of the first: below zero where it buzzes); None for what cannot be told.
    """
    first, second = (resample(sound.astype(np.float32), sample_rate_hz, SCORED_HZ) for sound in (samples, others))
    return {
        "stoi": _stoi(first, second),
        "pesq": _pesq(first, second),
        "mel_distance_db": _mel_distance(first, second),
        "pitch_error_semitones": _pitch_error(first, second),
        "flatness_change_db": _flatness_change(first, second),
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


def _flatness_change(first: np.ndarray, second: np.ndarray) -> float | None:
    before, after = (spectral_flatness_db(sound, sample_rate_hz=SCORED_HZ) for sound in (first, second))
    return None if before is None or after is None else after - before


def spectral_flatness_db(samples: np.ndarray, *, sample_rate_hz: int) -> float | None:
    """How much like noise the upper half of the spectrum is where there is speech; buzz makes it less.

    Args:
        samples: float32 `[n]` at `sample_rate_hz`.

    Returns:
        Geometric by arithmetic mean of power in bands of 500 Hz from 2 to 7.5 kHz, in decibels, averaged over bands and
        frames of 64 ms: about -2.5 for white noise, less the more of it is tone. None where nothing is louder than a
        pause.

    Source:
        Gray & Markel, "A spectral-flatness measure for studying the autocorrelation method of linear prediction of
        speech analysis", IEEE Trans. ASSP 22(3), 1974.
    """
    sound = resample(samples.astype(np.float32), sample_rate_hz, SCORED_HZ)
    window = np.hanning(FFT_SIZE + 1)[:-1]
    frames = frames_of(sound, FFT_SIZE, HOP)
    is_speech = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)) > SPEECH_SHARE * loudness(sound, SCORED_HZ)
    if not is_speech.any():
        return None
    power = np.abs(np.fft.rfft(frames[is_speech] * window)) ** 2 + np.finfo(np.float32).tiny
    width = FLATNESS_BAND_HZ * FFT_SIZE // SCORED_HZ
    first, last = (edge * FFT_SIZE // SCORED_HZ for edge in FLATNESS_RANGE_HZ)
    bands = power[:, first : first + (last - first) // width * width].reshape(len(power), -1, width)
    ratio = np.log(bands).mean(axis=2) - np.log(bands.mean(axis=2))
    return float(ratio.mean() * 10 / np.log(10))
