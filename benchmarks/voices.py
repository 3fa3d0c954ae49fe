"""Whose voice it is: an embedding of a voice, for which two recordings of one speaker are alike.

The network is that of Resemblyzer 0.1.4 (Apache-2.0), whose weights lie in its package; its code, which wants librosa
and webrtcvad, is not used. Differs from it in that pauses are not cut out.

Source: Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018, arXiv:1710.10467.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from adaptgen.domains.speech.envelope import frames_of
from adaptgen.errors import UsageError

__all__ = ["HEARD_HZ", "VoiceEncoder"]

HEARD_HZ = 16_000
FFT_SIZE, HOP, NUM_BANDS = 400, 160, 40
LEVEL_DB = -30.0
"""Softer recordings are made so loud."""
WIDTH, NUM_LAYERS = 256, 3
STRETCH_FRAMES, STRETCH_STEP = 160, 77
"""The network hears 1.6 s at a time, 1.3 times a second."""
LEAST_SHARE = 0.75
"""Of a last stretch that must be sound, for it to count."""


class VoiceEncoder(nn.Module):
    """Sound to a unit vector.

    Raises:
        UsageError: Resemblyzer is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        found = find_spec("resemblyzer")
        if found is None or found.origin is None:
            raise UsageError(
                "Resemblyzer, whose weights tell voices apart, is not installed",
                "pip install --no-deps Resemblyzer==0.1.4",
            )
        self.lstm = nn.LSTM(NUM_BANDS, WIDTH, NUM_LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        weights = torch.load(Path(found.origin).with_name("pretrained.pt"), map_location="cpu", weights_only=True)
        own = self.state_dict()
        self.load_state_dict({name: weights["model_state"][name] for name in own})
        self.eval().requires_grad_(False)
        self._bands = _slaney_bands()

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """float32 `[256]` of length one, of samples float `[n]` at `HEARD_HZ`; the cosine of two is their likeness."""
        bands = self._mel_power(samples)
        starts = range(0, max(1, len(bands) - STRETCH_FRAMES + STRETCH_STEP), STRETCH_STEP)
        starts = [start for start in starts if start == 0 or len(bands) - start >= LEAST_SHARE * STRETCH_FRAMES]
        padded = np.concatenate([bands, np.zeros((STRETCH_FRAMES, NUM_BANDS), dtype=np.float32)])
        stretches = torch.from_numpy(np.stack([padded[start : start + STRETCH_FRAMES] for start in starts]))
        _, (hidden, _) = self.lstm(stretches)
        vectors = nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
        return nn.functional.normalize(vectors.mean(dim=0), dim=0).numpy()

    def _mel_power(self, samples: np.ndarray) -> np.ndarray:
        """float32 `[T, 40]`: power in mel bands, not its logarithm."""
        level = 20 * np.log10(np.sqrt((samples.astype(np.float64) ** 2).mean()) + 1e-9)
        louder = samples * 10 ** (max(0.0, LEVEL_DB - level) / 20)
        spectrum = np.fft.rfft(frames_of(louder, FFT_SIZE, HOP) * np.hanning(FFT_SIZE + 1)[:-1])
        return (np.abs(spectrum) ** 2 @ self._bands.T).astype(np.float32)


def _slaney_bands() -> np.ndarray:
    """Weights `[40, 201]` of triangles of equal area, on Slaney's mel scale: linear to 1 kHz, then logarithmic.

    Source: Slaney, "Auditory Toolbox", Interval Research technical report 1998-010.
    """
    hz_per_mel, knee_hz, ratio = 200 / 3, 1000.0, np.log(6.4) / 27
    knee = knee_hz / hz_per_mel
    mels = np.linspace(0, knee + np.log(HEARD_HZ / 2 / knee_hz) / ratio, NUM_BANDS + 2)
    edges = np.where(mels < knee, mels * hz_per_mel, knee_hz * np.exp(ratio * (mels - knee)))[:, None]
    bins = np.linspace(0, HEARD_HZ / 2, FFT_SIZE // 2 + 1)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return triangles * 2 / (high - low)
