"""New sound takes on what is lasting in a recording's spectrum: its microphone, its room, its voice."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from voices import voice

from adaptgen import domains
from adaptgen.checkpoint import load_checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech import prompt
from adaptgen.domains.speech.sound import loudness
from adaptgen.domains.speech.timbre import match_timbre

RATE = 16_000
TALK = Path(__file__).parents[2] / "examples" / "talk.wav"


def through(sound: np.ndarray, response: dict[float, float]) -> np.ndarray:
    """Samples `[n]` through a filter given in dB at some frequencies in Hz."""
    spectrum = np.fft.rfft(sound)
    hz = np.linspace(0, RATE / 2, len(spectrum))
    return np.fft.irfft(spectrum * 10 ** (np.interp(hz, list(response), list(response.values())) / 20), len(sound))


CHANNELS = {
    "dull": {0: 0, 1000: 0, 2500: -9, 8000: -12},
    "thin": {0: -10, 300: -9, 900: -2, 1500: 0, 8000: 0},
    "a telephone": {0: -15, 200: -12, 400: 0, 3200: 0, 4200: -15, 8000: -15},
}


def distance_db(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square of the difference of mean spectra in thirds of an octave from 100 Hz to 7 kHz, at any level."""
    edges = 100 * 2 ** np.arange(0, 6.2, 1 / 3)
    spectra = []
    for sound in (first, second):
        power, hz = np.abs(np.fft.rfft(sound)) ** 2, np.fft.rfftfreq(len(sound), 1 / RATE)
        bands = [power[(hz >= low) & (hz < high)].mean() for low, high in pairwise(edges)]
        spectra.append(10 * np.log10(bands))
    difference = spectra[0] - spectra[1]
    return float(np.std(difference))


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_microphone_is_matched(channel: str) -> None:
    heard, drawn = through(voice(8), CHANNELS[channel]), voice(8)
    matched = match_timbre(drawn, 0, heard, sample_rate_hz=RATE)
    assert distance_db(heard, matched) < 0.65 * distance_db(heard, drawn)
    assert loudness(matched, RATE) == pytest.approx(loudness(drawn, RATE), rel=1e-4)


def test_the_same_voice_stays_as_it_is_at_any_level_and_in_its_time() -> None:
    sound = voice(4)
    for level in (0.03, 1, 3):
        matched = match_timbre(sound, 0, level * sound, sample_rate_hz=RATE)
        assert np.abs(matched - sound).max() < 0.01 * np.abs(sound).max()


def test_what_is_heard_for_a_moment_changes_little() -> None:
    changes = []
    for seconds in (0.5, 2, 8):
        drawn = voice(seconds)
        matched = match_timbre(drawn, 0, through(drawn, CHANNELS["dull"]), sample_rate_hz=RATE)
        changes.append(distance_db(matched, drawn))
    assert changes == sorted(changes)


@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(0), voice(0.1)], ids=["silence", "nothing", "a moment"])
def test_without_speech_nothing_is_done(sound: np.ndarray) -> None:
    assert np.array_equal(match_timbre(voice(2), 0, sound, sample_rate_hz=RATE), voice(2))
    assert np.array_equal(match_timbre(sound, 0, voice(2), sample_rate_hz=RATE), sound)


def test_a_dull_recording_goes_on_dull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, rate = soundfile.read(TALK)
    assert rate == RATE
    path, dull = tmp_path / "dull.wav", through(samples, CHANNELS["dull"])
    soundfile.write(path, dull, rate, subtype="FLOAT")
    checkpoint = load_checkpoint("speech", domain=domains.get("speech"))
    request = ContinuationRequest(seconds=5, new_only=True)
    distances = []
    for match in (match_timbre, lambda decoded, join, old, *, sample_rate_hz: decoded):
        monkeypatch.setattr(prompt, "match_timbre", match)
        (result,) = continue_file(path, checkpoint, request, checkpoint.sampling, seed=0, variations=1)
        distances.append(distance_db(dull, soundfile.read(io.BytesIO(result.files[".wav"]))[0]))
    assert distances[0] < 0.9 * distances[1]
