"""What a codec is: samples to frames of K codes, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

__all__ = ["Codec"]


class Codec(ABC):
    """Turns mono sound at one sample rate into K parallel streams of codes at one frame rate.

    The first stream is the coarsest: a codec also decodes its first k streams alone, with less of the sound in them.
    The same samples give the same codes, and the same codes the same samples.
    """

    name: ClassVar[str]
    tells_pitch: ClassVar[bool] = False
    """Whether `pitch_hz` knows anything."""
    sample_rate_hz: int
    frame_samples: int
    """Samples per frame."""
    codebook_sizes: tuple[int, ...]
    """Number of codes of each stream."""

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate_hz / self.frame_samples

    def bits_per_second(self, num_streams: int) -> float:
        """What the codes of the first streams take, each coded on its own and all of its codes equally likely."""
        return self.frames_per_second * float(np.log2(self.codebook_sizes[:num_streams]).sum())

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the same samples would give other codes: a model has learned the codes of one."""

    @abstractmethod
    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes int64 `[K, T]` of samples float `[n]`, n >= 1, T = ceil(n / frame_samples).

        Frame t is of the samples from t * frame_samples on; what the last frame lacks is taken to be silent.
        """

    @abstractmethod
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Samples float32 `[T * frame_samples]` of codes int `[k, T]`, T >= 1, of the first k streams, 1 <= k <= K."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `load` needs into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: it is missing, damaged, or of another version.
        """

    @classmethod
    @abstractmethod
    def find_weights(cls) -> Path:
        """The folder of the weights that are taken where none are named: what comes with adaptgen, or was published.

        Raises:
            DownloadError: they have to be fetched, and cannot be.
        """

    @property
    def is_quiet(self) -> np.ndarray:
        """bool `[size]`: which codes of the first stream are far softer than speech, where that can be told of them."""
        return np.zeros(self.codebook_sizes[0], dtype=bool)

    def pitch_hz(self, codes: np.ndarray) -> np.ndarray:
        """float `[T]`: the pitch of each frame of codes `[K, T]`, where the codes tell; NaN where they do not."""
        return np.full(codes.shape[1], np.nan)
