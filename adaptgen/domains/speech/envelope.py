"""The spectral envelope of speech: log magnitudes in bands of the mel scale.

Source: Davis & Mermelstein, "Comparison of parametric representations for monosyllabic word recognition in
continuously spoken sentences", IEEE Trans. ASSP 28(4), 1980, for the triangular bands; O'Shaughnessy's formula for
the scale.
"""

from __future__ import annotations

import numpy as np

__all__ = ["band_centres_hz", "frames_of", "log_envelope", "mel_bands"]

FLOOR = 3e-6
"""Added to the mean power of a band, which is about -55 dBFS: what lies below is all the same silence, on which no code
is spent that speech could have."""
FRAMES_AT_ONCE = 4096


def _to_mel(hz: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def _band_edges_hz(num_bands: int, sample_rate_hz: int) -> np.ndarray:
    """Of each band its lower edge, and two more: a band ends where the one after the next begins."""
    mels = np.linspace(0, _to_mel(sample_rate_hz / 2), num_bands + 2)
    return 700 * (10 ** (mels / 2595) - 1)


def band_centres_hz(num_bands: int, sample_rate_hz: int) -> np.ndarray:
    """Centre frequencies `[num_bands]` of the mel bands."""
    return _band_edges_hz(num_bands, sample_rate_hz)[1:-1]


def mel_bands(num_bands: int, fft_size: int, sample_rate_hz: int) -> np.ndarray:
    """Weights float32 `[num_bands, fft_size / 2 + 1]` of a mean over each triangular band; rows sum to one."""
    edges = _band_edges_hz(num_bands, sample_rate_hz)[:, None]
    bins = np.linspace(0, sample_rate_hz / 2, fft_size // 2 + 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    # Bands that are narrower than the bins lie apart are the bin that is nearest.
    nearest = np.abs(bins - centre).argmin(axis=1)
    is_empty = weights.sum(axis=1) < 1e-3
    weights[is_empty, nearest[is_empty]] = 1
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def frames_of(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """A view `[T, size]` of frames whose centres lie in the middle of every hop; beyond its ends sound is silent."""
    num_frames = -(-len(samples) // hop)
    before = (size - hop) // 2
    after = num_frames * hop + size - hop - before - len(samples)
    padded = np.concatenate([np.zeros(before, samples.dtype), samples, np.zeros(after, samples.dtype)])
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def log_envelope(samples: np.ndarray, bands: np.ndarray, *, hop: int) -> np.ndarray:
    """Natural logarithm of the magnitude in each band.

    Args:
        samples: float32 `[n]`.
        bands: as of `mel_bands`; their number of bins says the size of the frames.
        hop: samples from one frame to the next.

    Returns:
        float32 `[ceil(n / hop), num_bands]`.
    """
    size = 2 * (bands.shape[1] - 1)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    frames = frames_of(samples, size, hop)
    envelope = np.empty((len(frames), len(bands)), dtype=np.float32)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[start : start + FRAMES_AT_ONCE] * window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        envelope[start : start + FRAMES_AT_ONCE] = 0.5 * np.log(power @ bands.T + FLOOR)
    return envelope
