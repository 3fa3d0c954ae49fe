"""Figures of what a codec keeps, on sounds of which they are known."""

from __future__ import annotations

import numpy as np
import pytest

from adaptgen.domains.speech.metrics import compare, spectral_flatness_db

RATE = 16_000


def pulses(hz: float, seconds: float = 1.0) -> np.ndarray:
    """What a buzz is made of: harmonics up to half the sample rate, all as loud."""
    sound = np.zeros(int(seconds * RATE))
    sound[:: round(RATE / hz)] = 0.5
    return sound


def test_buzz_is_less_flat_than_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    flat = spectral_flatness_db(noise, sample_rate_hz=RATE)
    assert flat == pytest.approx(-2.5, abs=0.2), "10 log10 of e^-0.577, as of any noise"
    tilted = np.convolve(noise, [1, 0.9], mode="same")
    assert spectral_flatness_db(tilted, sample_rate_hz=RATE) == pytest.approx(flat, abs=0.3)
    assert spectral_flatness_db(pulses(200), sample_rate_hz=RATE) < -8
    change = compare(noise + pulses(200), pulses(200), sample_rate_hz=RATE)["flatness_change_db"]
    assert change < -4
    assert spectral_flatness_db(np.zeros(RATE), sample_rate_hz=RATE) is None
