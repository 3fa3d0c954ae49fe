"""Joining new sound to a recording: in time with it, as loud as it, and without a click."""

from __future__ import annotations

import numpy as np

from adaptgen.domains.speech.sound import loudness

__all__ = ["best_lag", "cross_fade", "extend", "fade_out", "level_gain"]

MODEL_SECONDS = 0.06
"""Of the end of a recording, from which it is extrapolated."""
POLES_PER_KHZ = 10
"""Enough to see a period of a voice, without which its pitch is lost in a few milliseconds."""
MOST_POLES = 480
NOISE_SHARE = 1e-7
LARGEST_RATIO = 2.0
"""6 dB: how much louder or softer than the recording new sound may be."""


def extend(samples: np.ndarray, count: int, *, sample_rate_hz: int) -> np.ndarray:
    """How a sound would ring on, float64 `[count]`, by linear prediction from the end of samples `[n]`.

    Source: Burg, "Maximum entropy spectral analysis", 1975, whose predictors are always stable; extrapolation as in
    Kauppinen & Roth, "Audio signal extrapolation", DAFx 2002.
    """
    end = samples[-int(MODEL_SECONDS * sample_rate_hz) :].astype(np.float64)
    predictor = _burg(end, min(POLES_PER_KHZ * sample_rate_hz // 1000, MOST_POLES, len(end) // 3))
    num_poles = len(predictor)
    result = np.concatenate([end[len(end) - num_poles :], np.zeros(count)])
    for place in range(num_poles, len(result)):
        result[place] = -predictor @ result[place - num_poles : place][::-1]
    return result[num_poles:]


def _burg(samples: np.ndarray, most_poles: int) -> np.ndarray:
    """Coefficients a of x[t] = - sum a[i] x[t - 1 - i], `[most_poles]` or fewer if those predict all there is."""
    forward, backward = samples[1:].copy(), samples[:-1].copy()
    coefficients = np.ones(1)
    for _ in range(most_poles):
        power = forward @ forward + backward @ backward
        if power <= NOISE_SHARE * (samples @ samples):
            # What is predicted already is not worth poles that only rounding would place.
            break
        reflection = -2 * (forward @ backward) / power
        padded = np.append(coefficients, 0)
        coefficients = padded + reflection * padded[::-1]
        forward, backward = (forward + reflection * backward)[1:], (backward + reflection * forward)[:-1]
    return coefficients[1:]


def best_lag(wanted: np.ndarray, sound: np.ndarray) -> int:
    """Where in sound `[n + m]` a stretch is most like wanted `[n]`: from 0 to m, by normalised correlation."""
    stretches = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), len(wanted))
    norms = np.sqrt((stretches**2).sum(axis=1)) + 1e-9
    return int((stretches @ wanted / norms).argmax())


def cross_fade(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """From one sound to another of the same length `[n, ...]`, at equal power."""
    angle = (np.arange(len(before)) + 0.5) / len(before) * (np.pi / 2)
    angle = angle.reshape(-1, *[1] * (before.ndim - 1))
    return before * np.cos(angle) + after * np.sin(angle)


def fade_out(samples: np.ndarray, count: int) -> None:
    """Let the last `count` of samples `[n, ...]` sink to nothing, in place, along half a period of a cosine."""
    angle = (np.arange(count) + 1) / count * np.pi
    samples[len(samples) - count :] *= (0.5 + 0.5 * np.cos(angle)).reshape(-1, *[1] * (samples.ndim - 1))


def level_gain(new: np.ndarray, old: np.ndarray, room: np.ndarray, *, sample_rate_hz: int) -> float:
    """What to multiply new sound by, so that it is within 6 dB of the old one's loudness and does not clip.

    Args:
        new, old: `[n, channels]` and `[m, channels]`, without what is steady in a channel.
        room: `[channels]`, what no sample may exceed.
        sample_rate_hz: of both.
    """
    loudest = int((old**2).sum(axis=0).argmax())
    ratio = loudness(new[:, loudest], sample_rate_hz) / loudness(old[:, loudest], sample_rate_hz)
    gain = float(np.clip(ratio, 1 / LARGEST_RATIO, LARGEST_RATIO)) / ratio
    peaks = np.abs(new).max(axis=0)
    return min(gain, *(room[peaks > 0] / peaks[peaks > 0]).tolist())
