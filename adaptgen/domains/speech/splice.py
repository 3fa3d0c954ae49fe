"""Joining new sound to a recording: in time with it, as loud as it, and without a click."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from adaptgen.domains.speech.sound import loudness

__all__ = ["best_lag", "cross_fade", "extend", "fade_out", "level_gain", "limit"]

MODEL_SECONDS = 0.06
"""Of the end of a recording, from which it is extrapolated."""
POLES_PER_KHZ = 10
"""Enough to see a period of a voice, without which its pitch is lost in a few milliseconds."""
MOST_POLES = 480
NOISE_SHARE = 1e-15
"""Of the power of float32 samples, what their rounding is. Much more would not do: in a recording whose band is narrow
for its sample rate, such as a telephone's at 16 kHz, a few poles that see no period predict nearly all."""
LARGEST_RATIO = 2.0
"""6 dB: how much louder or softer than the recording new sound may be."""
LIMITER_STEP_SECONDS, LIMITER_REACH = 0.001, 4
"""A limiter sees peaks of stretches so long, and so many of them ahead and back."""


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
    stretches = sliding_window_view(sound.astype(np.float64), len(wanted))
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


def level_gain(new: np.ndarray, old: np.ndarray, *, sample_rate_hz: int) -> float:
    """What to multiply new sound by, so that it is within 6 dB of the old one's loudness.

    Args:
        new, old: `[n, channels]` and `[m, channels]`, without what is steady in a channel.
        sample_rate_hz: of both.
    """
    loudest = int((old**2).sum(axis=0).argmax())
    ratio = loudness(new[:, loudest], sample_rate_hz) / loudness(old[:, loudest], sample_rate_hz)
    return float(np.clip(ratio, 1 / LARGEST_RATIO, LARGEST_RATIO)) / ratio


def limit(new: np.ndarray, room: np.ndarray, *, sample_rate_hz: int) -> None:
    """Turn new sound `[n, channels]` down around what exceeds `room` `[channels]`, in place, all channels alike.

    A limiter with look-ahead: what a stretch may be multiplied by also holds for those around it, and is then averaged
    over as many, so that it changes smoothly and nothing exceeds the room. The recording before cannot be turned down,
    so it sets in gradually, and what is too loud until then is clipped.
    """
    size = max(1, round(LIMITER_STEP_SECONDS * sample_rate_hz))
    starts = np.arange(0, len(new), size)
    peaks = np.maximum.reduceat((np.abs(new) / room).max(axis=1), starts)
    padded = np.pad(1 / np.maximum(1, peaks), 2 * LIMITER_REACH + 1, mode="edge")
    lowest = sliding_window_view(padded, 2 * LIMITER_REACH + 3).min(axis=1)
    weights = np.hanning(2 * LIMITER_REACH + 3)[1:-1]
    gains = np.convolve(lowest, weights / weights.sum(), mode="valid")
    gains = 1 - (1 - gains) * np.minimum(1, 2 * np.arange(len(gains)) / LIMITER_REACH)
    new *= np.interp(np.arange(len(new)), starts + (size - 1) / 2, gains)[:, None]
    np.clip(new, -room, room, out=new)
