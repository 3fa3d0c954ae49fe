"""Bringing new sound to the timbre of a recording: its room, its microphone, and what is lasting in its voice.

A model of few voices soon speaks in the spectrum of one that it knows. What differs over the whole of a recording and a
continuation is taken back by one smooth filter, as by an equaliser that an engineer sets by ear.
"""

from __future__ import annotations

import numpy as np

from adaptgen.domains.speech.envelope import band_centres_hz, log_envelope, mel_bands
from adaptgen.domains.speech.sound import NOMINAL_LEVEL, loudness

__all__ = ["match_timbre"]

NUM_BANDS, FFT_SECONDS, HOP_SECONDS = 48, 0.032, 0.02
SPEECH_RANGE = np.log(10**1.5)
"""Of log magnitude, 30 dB: frames softer than that below the loudest tell of the room, not of the voice."""
LEAST_FRAMES = 10
NUM_COSINES = 10
"""Over the mel scale: enough for the tilt of a microphone and the edges of a telephone, too few for single vowels."""
PRIOR_SECONDS = 1.0
"""Of speech: what is heard in so little is half due to what was said in it."""
LARGEST = np.log(10**0.6)
"""Of log magnitude, 12 dB: more would lift what the codec has not."""


def match_timbre(decoded: np.ndarray, join: int, old: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
    """A codec's sound `[n]` through a filter that gives the new part, from `join` on, the mean spectrum of old `[m]`.

    Returns:
        float64 `[n]`, as loud as before; nothing is delayed.
    """
    taps = _matching_filter(old, decoded[join:], sample_rate_hz=sample_rate_hz)
    if len(taps) == 1:
        return decoded.astype(np.float64)
    matched = np.convolve(decoded, taps)[len(taps) // 2 :][: len(decoded)]
    return matched * (loudness(decoded[join:], sample_rate_hz) / loudness(matched[join:], sample_rate_hz))


def _matching_filter(old: np.ndarray, new: np.ndarray, *, sample_rate_hz: int) -> np.ndarray:
    """Taps float64, an odd number of them and symmetric; a single 1 where a sound has too little speech to tell.

    The difference of both mean log spectra in mel bands is smoothed to its first cosines, the cepstral mean by which
    recognisers part a channel from what was said (Atal, JASA 55(6), 1974), and taken as far as the shorter of both
    sounds can be trusted.
    """
    size = 1 << round(np.log2(FFT_SECONDS * sample_rate_hz))
    spectra = [_speech(samples, size, sample_rate_hz) for samples in (old, new)]
    num_frames = min(len(frames) for frames in spectra)
    if num_frames < LEAST_FRAMES:
        return np.ones(1)
    difference = spectra[0].mean(axis=0) - spectra[1].mean(axis=0)
    places = (np.arange(NUM_BANDS)[:, None] + 0.5) * np.pi / NUM_BANDS
    cosines = np.cos(places * np.arange(1, NUM_COSINES))
    smooth = cosines @ (cosines.T @ difference) * 2 / NUM_BANDS
    trust = num_frames / (num_frames + PRIOR_SECONDS / HOP_SECONDS)
    gains = np.clip(smooth * trust, -LARGEST, LARGEST)
    bins = np.linspace(0, sample_rate_hz / 2, size // 2 + 1)
    response = np.exp(np.interp(bins, band_centres_hz(NUM_BANDS, sample_rate_hz), gains))
    # The impulse in the middle, and without the one sample at the edge that has no counterpart.
    taps = np.fft.fftshift(np.fft.irfft(response))[1:]
    return taps * np.hanning(size + 1)[1:-1]


def _speech(samples: np.ndarray, size: int, sample_rate_hz: int) -> np.ndarray:
    """Log magnitudes `[frames, NUM_BANDS]` of frames that are not much softer than the loudest."""
    if not samples.any():
        return np.empty((0, NUM_BANDS))
    hop = round(HOP_SECONDS * sample_rate_hz)
    usual = samples * (NOMINAL_LEVEL / loudness(samples, sample_rate_hz))
    envelope = log_envelope(usual.astype(np.float32), mel_bands(NUM_BANDS, size, sample_rate_hz), hop=hop)
    levels = 0.5 * np.log(np.exp(2 * envelope).mean(axis=1))
    return envelope[levels > levels.max() - SPEECH_RANGE].astype(np.float64)
