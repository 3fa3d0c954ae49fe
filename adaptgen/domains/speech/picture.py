"""A recording and its continuation as a picture."""

from __future__ import annotations

import io
import warnings

import numpy as np

__all__ = ["draw_spectrogram"]

WINDOW_SECONDS, MOST_COLUMNS = 0.025, 2000
HIGHEST_HZ = 8000.0
RANGE_DB = 70.0


def draw_spectrogram(
    samples: np.ndarray, sample_rate_hz: int, *, start_seconds: float, join_seconds: float, title: str
) -> bytes:
    """The power of a sound over time and frequency, as a PNG.

    Args:
        samples: float `[n]`.
        sample_rate_hz: of them.
        start_seconds: the time of the first one.
        join_seconds: where the new part begins, marked by a line.
        title: a heading.
    """
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
        extent=(start_seconds, start_seconds + len(samples) / sample_rate_hz, 0, highest_hz / 1000),
        vmin=decibels.max() - RANGE_DB,
        vmax=decibels.max(),
        cmap="magma",
    )
    axes.axvline(join_seconds, color="white", linewidth=1.2)
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    figure.suptitle(title, fontsize=11, parse_math=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a title in any script is welcome
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
