"""Speech from its envelope and pitch: pulses and noise through filters that change from frame to frame.

Source: Dudley, "Remaking speech", JASA 11, 1939, for pulses and noise; Oppenheim & Schafer, "Discrete-Time Signal
Processing", chapter 13, for minimum phase from the cepstrum. How the envelope is split between the two has a fixed
rule, which a small network of ConvNeXt blocks (Liu et al., arXiv:2201.03545; in one dimension as in Siuzdak, "Vocos",
arXiv:2306.00814) may correct.

Dimensions: B batch, T frames, M bands, F bins, n samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

from adaptgen.domains.speech.envelope import band_centres_hz

__all__ = ["Synthesizer", "make_noise", "make_pulses"]

HIGHEST_HARMONIC_HZ = 7800.0
NOISE_SEED = 0
PIECE_SAMPLES = 1 << 20
FFT_SIZE = 512
STEPS_PER_FRAME = 2
"""Filters change twice as often as envelopes are given."""
LOG_MAGNITUDE_RANGE = (-16.0, 6.0)
NETWORK_WIDTH, NETWORK_HIDDEN, NETWORK_BLOCKS = 160, 400, (3, 2)
"""Blocks before and after the step to the filters' rate."""
KERNEL_FRAMES = 7


def make_pulses(hz: np.ndarray, *, hop: int, sample_rate_hz: int, phase: float = 0.0) -> np.ndarray:
    """A band-limited pulse train of unit power, float32 `[T * hop]`.

    The sum of all harmonics up to `HIGHEST_HARMONIC_HZ`, in closed form (Dirichlet's kernel).

    Args:
        hz: pitch `[T]` in the middle of each frame, interpolated between on a logarithmic scale.
        hop: samples per frame.
        sample_rate_hz: of the result.
        phase: in radians, where the first period begins.
    """
    pulses = np.empty(len(hz) * hop, dtype=np.float32)
    centres, logs = (np.arange(len(hz)) + 0.5) * hop, np.log(hz.astype(np.float64))
    for start in range(0, len(pulses), PIECE_SAMPLES):
        stop = min(start + PIECE_SAMPLES, len(pulses))
        current = np.exp(np.interp(np.arange(start, stop), centres, logs))
        angle = phase + np.cumsum(current * (2 * np.pi / sample_rate_hz))
        phase = float(angle[-1] % (2 * np.pi))
        angle %= 2 * np.pi
        count = np.floor(HIGHEST_HARMONIC_HZ / current)
        half = np.sin(angle / 2)
        half = np.where(half < 1e-3, 1e-3, half)
        pulses[start:stop] = (np.sin((count + 0.5) * angle) / (2 * half) - 0.5) * np.sqrt(2 / count)
    return pulses


def make_noise(num_samples: int) -> np.ndarray:
    """White noise of unit power, float32; always the same, and longer noise begins like shorter."""
    return np.random.default_rng(NOISE_SEED).standard_normal(num_samples, dtype=np.float32)


class ConvNeXtBlock(nn.Module):
    """Mixes frames by a depthwise convolution, then channels by an MLP."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, KERNEL_FRAMES, padding=KERNEL_FRAMES // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.norm(self.mix(x.transpose(1, 2)).transpose(1, 2))
        return x + self.scale * self.down(F.gelu(self.up(mixed)))


class FilterNetwork(nn.Module):
    """Corrections of both filters' log magnitudes `[B, 2 T, 2 F]` from features `[B, T, M + 3]`; none at first."""

    def __init__(self, num_features: int, num_bins: int) -> None:
        super().__init__()
        width, hidden = NETWORK_WIDTH, NETWORK_HIDDEN
        before, after = NETWORK_BLOCKS
        self.enter = nn.Conv1d(num_features, width, KERNEL_FRAMES, padding=KERNEL_FRAMES // 2)
        self.norm = nn.LayerNorm(width)
        self.slow = nn.Sequential(*(ConvNeXtBlock(width, hidden) for _ in range(before)))
        self.split = nn.Linear(width, STEPS_PER_FRAME * width)
        self.fast = nn.Sequential(*(ConvNeXtBlock(width, hidden) for _ in range(after)))
        self.last_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 2 * num_bins)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = self.slow(self.norm(self.enter(features.transpose(1, 2)).transpose(1, 2)))
        x = self.fast(self.split(x).unflatten(2, (STEPS_PER_FRAME, -1)).flatten(1, 2))
        return self.leave(self.last_norm(x))


class Synthesizer(nn.Module):
    """Sound of envelopes and pitch.

    Args:
        num_bands: M, of the envelope.
        hop: samples per frame.
        sample_rate_hz: of the sound.
        has_network: whether a network corrects the filters.
    """

    def __init__(self, *, num_bands: int, hop: int, sample_rate_hz: int, has_network: bool) -> None:
        super().__init__()
        assert hop % STEPS_PER_FRAME == 0
        self.hop, self.step = hop, hop // STEPS_PER_FRAME
        bins_hz = np.linspace(0, sample_rate_hz / 2, FFT_SIZE // 2 + 1)
        centres = band_centres_hz(num_bands, sample_rate_hz)
        unit = np.eye(num_bands)
        between = np.stack([np.interp(bins_hz, centres, row) for row in unit])
        self.register_buffer("between", torch.from_numpy(between.astype(np.float32)), persistent=False)
        self.register_buffer("bins_hz", torch.from_numpy(bins_hz.astype(np.float32)), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT_SIZE), persistent=False)
        # Twice the causal half of the cepstrum is that of the minimum phase response.
        fold = torch.zeros(FFT_SIZE, 1)
        fold[0] = fold[FFT_SIZE // 2] = 1
        fold[1 : FFT_SIZE // 2] = 2
        self.register_buffer("fold", fold, persistent=False)
        # The spectrum of unit-power sound has this much power in each bin.
        self.log_gain = -0.5 * math.log(float((self.window**2).sum()))
        self.network = FilterNetwork(num_bands + 3, len(bins_hz)) if has_network else None

    def forward(self, envelope: Tensor, hz: Tensor, strength: Tensor, pulses: Tensor, noise: Tensor) -> Tensor:
        """Sound `[B, T * hop]`.

        Args:
            envelope: log magnitudes `[B, T, M]`, as of `log_envelope`.
            hz, strength: pitch and its strength `[B, T]`, as of `track_pitch`.
            pulses, noise: `[B, T * hop]`, of unit power.
        """
        log_pulse_filter, log_noise_filter = self._filters(envelope, hz, strength)
        # STFT frames stand at the samples 0, step, 2 step, ...
        spectrum = torch.stft(torch.cat([pulses, noise]), FFT_SIZE, self.step, window=self.window, return_complex=True)
        cepstrum = torch.fft.irfft(log_pulse_filter, dim=1)
        pulse_filter = torch.fft.rfft(cepstrum * self.fold, dim=1).exp()
        voiced, unvoiced = spectrum.chunk(2)
        mixed = voiced * pulse_filter + unvoiced * log_noise_filter.exp()
        return torch.istft(mixed, FFT_SIZE, self.step, window=self.window, length=pulses.shape[1])

    def _filters(self, envelope: Tensor, hz: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """Log magnitudes of the filters of pulses and of noise, `[B, F, STEPS_PER_FRAME * T + 1]`."""
        full = _to_steps(envelope) @ self.between + self.log_gain
        voicing = _to_steps(strength[..., None])
        # The more periodic, the higher up are harmonics stronger than noise.
        highest = (voicing * 9000 - 2500).clamp(min=0)
        share = torch.sigmoid((highest - self.bins_hz) / 400) * (voicing > 0.3)
        pulses, noise = full + 0.5 * (share + 1e-5).log(), full + 0.5 * (1 - share + 1e-4).log()
        if self.network is not None:
            pitch = (hz.log() - 5)[..., None] * 2
            is_voiced = (strength > 0).to(envelope.dtype)[..., None]
            features = torch.cat([(envelope + 3) / 2, pitch, strength[..., None], is_voiced], dim=2)
            corrections = self.network(features)
            corrections = torch.cat([corrections, corrections[:, -1:]], dim=1)
            more_pulses, more_noise = corrections.chunk(2, dim=2)
            pulses, noise = pulses + more_pulses, noise + more_noise
        return tuple(part.clamp(*LOG_MAGNITUDE_RANGE).transpose(1, 2) for part in (pulses, noise))


def _to_steps(frames: Tensor) -> Tensor:
    """From the middles of T frames `[B, T, C]` to their edges and middles `[B, 2 T + 1, C]`, linearly."""
    padded = torch.cat([frames[:, :1], frames, frames[:, -1:]], dim=1)
    edges = (padded[:, :-1] + padded[:, 1:]) / 2
    pairs = torch.stack([edges[:, :-1], frames], dim=2).flatten(1, 2)
    return torch.cat([pairs, edges[:, -1:]], dim=1)
