"""How a voice speaks, in numbers."""

from __future__ import annotations

import numpy as np

from adaptgen.domains.speech.envelope import frames_of
from adaptgen.domains.speech.metrics import PITCH_HOP, SCORED_HZ, SPEECH_SHARE
from adaptgen.domains.speech.pitch import track_pitch
from adaptgen.domains.speech.sound import loudness, resample

__all__ = ["PROSODY", "describe_prosody", "longest_hold_seconds"]

SHORTEST_PAUSE_SECONDS = 0.1
PROSODY = ("pitch", "pitch_range", "voiced_share", "level_range", "pause_share", "pauses_per_second")


def describe_prosody(samples: np.ndarray, *, sample_rate_hz: int) -> dict[str, float | None]:
    """How a voice speaks, at 16 kHz.

    Args:
        samples: float32 `[n]` at `sample_rate_hz`, speech at its usual level.

    Returns:
        `pitch` (median, in semitones above 55 Hz) and `pitch_range` (from its tenth to its ninetieth percentile, in
        semitones), None where nothing is voiced; `voiced_share` of the time that is no pause; `level_range` (the same
        percentiles of the level of what is no pause, in decibels); `pause_share` of the time that is softer than 20 dB
        below the loudest for a tenth of a second or longer; and `pauses_per_second`, those at the ends left out.
    """
    sound = resample(samples.astype(np.float32), sample_rate_hz, SCORED_HZ)
    hz, strength = track_pitch(sound, hop=PITCH_HOP, sample_rate_hz=SCORED_HZ)
    levels = np.sqrt((frames_of(sound, PITCH_HOP, PITCH_HOP).astype(np.float64) ** 2).mean(axis=1))
    is_speech = levels > SPEECH_SHARE * loudness(sound, SCORED_HZ)
    pauses = [
        (start, stop)
        for start, stop in _runs(~is_speech)
        if (stop - start) * PITCH_HOP >= SHORTEST_PAUSE_SECONDS * SCORED_HZ
    ]
    inner = [pause for pause in pauses if pause[0] > 0 and pause[1] < len(levels)]
    is_voiced = (strength > 0) & is_speech
    semitones = 12 * np.log2(hz[is_voiced] / 55)
    decibels = 20 * np.log10(levels[is_speech])
    return {
        "pitch": float(np.median(semitones)) if len(semitones) else None,
        "pitch_range": _spread(semitones),
        "voiced_share": float(is_voiced.sum() / is_speech.sum()) if is_speech.any() else None,
        "level_range": _spread(decibels),
        "pause_share": sum(stop - start for start, stop in pauses) / len(levels),
        "pauses_per_second": len(inner) * SCORED_HZ / len(sound),
    }


def longest_hold_seconds(codes: np.ndarray, *, frames_per_second: float) -> float:
    """How long any stream of codes int `[K, T]` holds the same code at most."""
    starts = np.diff(codes, axis=1) != 0
    longest = max(stop - start + 1 for row in starts for start, stop in [*_runs(~row), (0, 0)])
    return longest / frames_per_second


def _runs(is_set: np.ndarray) -> list[tuple[int, int]]:
    """Where values bool `[n]` are set: the first of each run and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_set.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _spread(values: np.ndarray) -> float | None:
    return float(np.subtract(*np.quantile(values, [0.9, 0.1]))) if len(values) else None
