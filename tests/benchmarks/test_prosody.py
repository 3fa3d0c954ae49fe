"""Figures of a voice, on sounds of which they are known."""

from __future__ import annotations

import numpy as np
import pytest
from prosody import PROSODY, describe_prosody, longest_hold_seconds
from voices import hum, voice

RATE = 16_000


def test_pitch_and_pauses_are_those_of_the_sound() -> None:
    low, high = (hum(1.0, hz=hz) for hz in (110.0, 220.0))
    told = describe_prosody(np.concatenate([low, np.zeros(RATE // 2), high, np.zeros(RATE // 2)]), sample_rate_hz=RATE)
    assert told["pitch_range"] == pytest.approx(12, abs=0.3)
    assert 11.7 < told["pitch"] < 24.3
    assert told["voiced_share"] > 0.9
    assert told["pause_share"] == pytest.approx(1 / 3, abs=0.03)
    assert told["pauses_per_second"] == pytest.approx(1 / 3), "the one between, not the one at the end"
    assert describe_prosody(low, sample_rate_hz=RATE)["pitch"] == pytest.approx(12, abs=0.2)


def test_a_sound_without_voice_has_no_pitch() -> None:
    told = describe_prosody(np.random.default_rng(0).normal(0, 0.1, RATE), sample_rate_hz=RATE)
    assert (told["pitch"], told["pitch_range"], told["voiced_share"]) == (None, None, 0)
    silent = describe_prosody(np.zeros(RATE), sample_rate_hz=RATE)
    assert silent == {**dict.fromkeys(PROSODY), "pause_share": 1.0, "pauses_per_second": 0.0}


def test_prosody_does_not_depend_on_the_sample_rate() -> None:
    one, two = (describe_prosody(voice(2, sample_rate_hz=rate), sample_rate_hz=rate) for rate in (RATE, 2 * RATE))
    assert one["pitch"] == pytest.approx(two["pitch"], abs=0.3)
    assert one["pause_share"] == pytest.approx(two["pause_share"], abs=0.1)


def test_the_longest_hold_is_of_any_stream() -> None:
    codes = np.array([[1, 2, 3, 3, 4, 4], [7, 7, 7, 7, 8, 9]])
    assert longest_hold_seconds(codes, frames_per_second=2) == 2
    assert longest_hold_seconds(codes[:1], frames_per_second=2) == 1
    assert longest_hold_seconds(codes[:, :1], frames_per_second=2) == 0.5
    assert longest_hold_seconds(np.full((2, 50), 5), frames_per_second=25) == 2
