"""Sounds to test with: a synthetic voice, and what is no voice."""

from __future__ import annotations

import numpy as np

__all__ = ["hum", "voice"]


def hum(seconds: float, *, sample_rate_hz: int = 16_000, hz: float = 120.0) -> np.ndarray:
    """A steady tone with many harmonics, float64 `[n]`, peak 0.3."""
    time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    sound = sum(np.sin(2 * np.pi * hz * number * time) / number for number in range(1, 12))
    return 0.3 * sound / np.abs(sound).max()


def voice(seconds: float, *, sample_rate_hz: int = 16_000, seed: int = 0) -> np.ndarray:
    """Something that rises and falls like speech, now voiced and now hissing, float64 `[n]`, peak 0.3."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    hz = 130 + 40 * np.sin(2 * np.pi * 0.9 * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(hz) / sample_rate_hz
    vowel = sum(np.sin(number * phase) * np.exp(-(((number * 130 - 600) / 900) ** 2)) for number in range(1, 20))
    hiss = rng.standard_normal(len(time))
    syllables = np.sin(2 * np.pi * 1.7 * time) ** 2
    is_voiced = np.sin(2 * np.pi * 0.8 * time) > -0.5
    sound = np.where(is_voiced, vowel, 0.3 * hiss) * syllables + 1e-3 * hiss
    return 0.3 * sound / np.abs(sound).max()
