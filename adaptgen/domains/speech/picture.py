"""A recording and its continuation as a picture."""

from __future__ import annotations

import io

import numpy as np

__all__ = ["draw_spectrogram"]

WINDOW_SECONDS, MOST_COLUMNS = 0.025, 2000
HIGHEST_HZ = 8000.0
RANGE_DB = 70.0


def draw_spectrogram(samples: np.ndarray, sample_rate_hz: int, *, join_seconds: float) -> bytes:
    """A PNG of the power of samples `[n]` over time and frequency, with a line where the new part begins."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = min(len(samples), max(16, round(WINDOW_SECONDS * sample_rate_hz)))
    hop = max(1, size // 4, -(-len(samples) // MOST_COLUMNS))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    highest_hz = min(HIGHEST_HZ, sample_rate_hz / 2)
    decibels = 10 * np.log10(power[:, : max(2, int(highest_hz / sample_rate_hz * size))] + 1e-12)
    figure = Figure(figsize=(14, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(
        decibels.T,
        origin="lower",
        aspect="auto",
        extent=(0, len(samples) / sample_rate_hz, 0, highest_hz / 1000),
        vmin=decibels.max() - RANGE_DB,
        vmax=decibels.max(),
        cmap="magma",
    )
    axes.axvline(join_seconds, color="white", linewidth=1.2)
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
