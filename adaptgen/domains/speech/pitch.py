"""The pitch of a voice: candidates by autocorrelation, the best path through them by dynamic programming.

Source: Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
sampled sound", Proc. Institute of Phonetic Sciences 17, 1993. Differs in costs that were set by ear on a few
utterances, and in that frames are low-passed in their power spectrum, so that a long recording needs no more memory.
"""

from __future__ import annotations

import numpy as np

from adaptgen.domains.speech.envelope import frames_of

__all__ = ["NUM_CODES", "dequantize_pitch", "quantize_pitch", "track_pitch"]

LOWEST_HZ, HIGHEST_HZ = 60.0, 420.0
WINDOW_SECONDS = 0.06
LOW_PASS_HZ = 1200.0
NUM_CANDIDATES = 8
NOISE_FLOOR = 1e-6
"""Power per sample below which nothing is periodic."""
UNVOICED_STRENGTH = 0.42
"""A frame whose autocorrelation peaks lower than this is better called unvoiced."""
VOICING_COST = 0.15
OCTAVE_COST, LARGEST_JUMP_COST = 1.2, 1.0
SHORT_LAG_BONUS = 0.02
FRAMES_AT_ONCE = 1024

NUM_PITCHES = 127
"""Steps of a 35th of an octave and a bit: 1.5 %."""
STRENGTH_EDGES = np.array([0.65, 0.8, 0.9])
STRENGTHS = np.array([0.0, 0.55, 0.73, 0.86, 0.95])
"""What the classes between the edges stand for; the first is unvoiced."""
NUM_CODES = 1 + 4 * NUM_PITCHES
"""Unvoiced, or a class of strength and a pitch."""
NEUTRAL_HZ = 150.0
"""Stands for pitch where nothing is voiced at all."""


def track_pitch(samples: np.ndarray, *, hop: int, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and how periodic the sound is.

    Args:
        samples: float32 `[n]`, speech at its usual level (peaks above a hundredth of full scale).
        hop: samples from one frame to the next.
        sample_rate_hz: of the samples.

    Returns:
        Pitch float32 `[T]` in Hz, interpolated where nothing is voiced, T = ceil(n / hop); and strength float32 `[T]`,
        the normalised autocorrelation at the pitch's lag from 0 to 1, and 0 where unvoiced.
    """
    pitches, strengths = _candidates(samples, hop=hop, sample_rate_hz=sample_rate_hz)
    path = _best_path(np.log2(pitches), 1 - strengths[1])
    is_voiced = path < NUM_CANDIDATES
    picked = np.minimum(path, NUM_CANDIDATES - 1)[:, None]
    hz = np.take_along_axis(pitches, picked, 1)[:, 0]
    strength = np.take_along_axis(strengths[0], picked, 1)[:, 0].clip(0, 1) * is_voiced
    return _filled(hz, is_voiced), strength.astype(np.float32)


def _candidates(
    samples: np.ndarray, *, hop: int, sample_rate_hz: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The highest peaks of each frame's autocorrelation: pitch in Hz, height, and height with the bonus for short
    lags (-1 for what is no peak), each `[T, NUM_CANDIDATES]`."""
    size = int(WINDOW_SECONDS * sample_rate_hz)
    shortest, longest = int(sample_rate_hz / HIGHEST_HZ), int(sample_rate_hz / LOWEST_HZ) + 2
    fft_size = 1 << (size + longest - 1).bit_length()
    window = np.hanning(size)
    window_correlation = np.fft.irfft(np.abs(np.fft.rfft(window, fft_size)) ** 2)[: longest + 1]
    window_correlation /= window_correlation[0]
    low_pass = 1 / (1 + (np.fft.rfftfreq(fft_size, 1 / sample_rate_hz) / LOW_PASS_HZ) ** 4) ** 2
    lags = np.arange(shortest, longest)
    bonus = SHORT_LAG_BONUS * np.log2(lags / shortest)
    frames = frames_of(samples, size, hop)
    hz, height, score = (np.empty((len(frames), NUM_CANDIDATES)) for _ in range(3))
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        piece = frames[start : start + FRAMES_AT_ONCE].astype(np.float64)
        piece = (piece - piece.mean(axis=1, keepdims=True)) * window
        power = np.abs(np.fft.rfft(piece, fft_size)) ** 2 * low_pass
        correlation = np.fft.irfft(power)[:, : longest + 1]
        correlation /= (correlation[:, :1] + size * NOISE_FLOOR) * window_correlation
        middle = correlation[:, shortest:longest]
        is_peak = (middle >= correlation[:, shortest - 1 : longest - 1]) & (
            middle >= correlation[:, shortest + 1 : longest + 1]
        )
        scores = np.where(is_peak, middle - bonus, -1.0)
        best = np.argpartition(-scores, NUM_CANDIDATES, axis=1)[:, :NUM_CANDIDATES]
        before, at, after = (np.take_along_axis(correlation, best + shortest + step, 1) for step in (-1, 0, 1))
        curvature = before - 2 * at + after
        is_flat = np.abs(curvature) < 1e-9
        offset = np.where(is_flat, 0, 0.5 * (before - after) / np.where(is_flat, 1, curvature)).clip(-0.5, 0.5)
        rows = slice(start, start + len(piece))
        hz[rows], height[rows] = sample_rate_hz / (best + shortest + offset), at
        score[rows] = np.take_along_axis(scores, best, 1)
    return hz, (height, score)


def _best_path(octaves: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The cheapest candidate of each frame, `NUM_CANDIDATES` for unvoiced: local costs and those of jumps in pitch."""
    num_frames, unvoiced = len(costs), NUM_CANDIDATES
    costs = np.concatenate([costs, np.full((num_frames, 1), 1 - UNVOICED_STRENGTH)], axis=1)
    jumps = np.full((unvoiced + 1, unvoiced + 1), VOICING_COST)
    jumps[unvoiced, unvoiced] = 0
    came_from = np.zeros((num_frames, unvoiced + 1), dtype=np.int8)
    total, columns = costs[0], np.arange(unvoiced + 1)
    for frame in range(1, num_frames):
        leap = OCTAVE_COST * np.abs(octaves[frame - 1][:, None] - octaves[frame])
        jumps[:unvoiced, :unvoiced] = np.minimum(leap, LARGEST_JUMP_COST)
        reached = total[:, None] + jumps
        came_from[frame] = best = reached.argmin(axis=0)
        total = reached[best, columns] + costs[frame]
    path = np.empty(num_frames, dtype=np.int64)
    state = int(total.argmin())
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state = came_from[frame, state]
    return path


def _filled(hz: np.ndarray, is_voiced: np.ndarray) -> np.ndarray:
    """Pitch float32 with what is unvoiced interpolated on a logarithmic scale."""
    places = np.flatnonzero(is_voiced)
    if not len(places):
        return np.full(len(hz), NEUTRAL_HZ, dtype=np.float32)
    return np.exp(np.interp(np.arange(len(hz)), places, np.log(hz[places]))).astype(np.float32)


def quantize_pitch(hz: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Codes int64 `[T]` below `NUM_CODES`: 0 for unvoiced, else a class of strength and a step of pitch."""
    share = np.log(hz / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)
    step = np.clip(np.round(share * (NUM_PITCHES - 1)), 0, NUM_PITCHES - 1).astype(np.int64)
    return np.where(strength > 0, 1 + np.digitize(strength, STRENGTH_EDGES) * NUM_PITCHES + step, 0)


def dequantize_pitch(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz and strength of codes, as `track_pitch` gives them."""
    is_voiced = codes > 0
    classes, steps = np.divmod(codes - 1, NUM_PITCHES)
    hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (steps / (NUM_PITCHES - 1))
    strength = STRENGTHS[np.where(is_voiced, classes + 1, 0)]
    return _filled(hz, is_voiced), strength.astype(np.float32)
