"""DAC, the Descript Audio Codec, at 16, 24 and 44.1 kHz, for any sound.

Source: Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", arXiv:2306.06546, by `transformers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor

from adaptgen.domains.speech.hub import read_model
from adaptgen.domains.speech.neural import NeuralCodec

__all__ = ["Dac16Codec", "Dac24Codec", "Dac44Codec"]


class DacCodec(NeuralCodec):
    """A model without recurrence: what it hears around a frame ends after a dozen others on either side."""

    model_type = "dac"
    piece_frames, frames_before, frames_after = 1000, 16, 16

    def _codes(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples).audio_codes[0]

    def _sound(self, codes: Tensor) -> Tensor:
        sound = self.model.decode(audio_codes=codes[None]).audio_values[0]
        # Where a stride is odd, the network leaves out the last few samples.
        return F.pad(sound, (0, codes.shape[1] * self.frame_samples - len(sound)))

    @classmethod
    def _read(cls, folder: Path) -> Self:
        model = read_model("DacModel", folder)
        config = model.config
        sizes = (config.codebook_size,) * config.n_codebooks
        return cls(model, folder, frame_samples=config.hop_length, codebook_sizes=sizes)


class Dac16Codec(DacCodec):
    """The model at 16 kHz."""

    name = "dac_16khz"
    sample_rate_hz = 16_000
    repository = "descript/dac_16khz"


class Dac24Codec(DacCodec):
    """The model at 24 kHz."""

    name = "dac_24khz"
    sample_rate_hz = 24_000
    repository = "descript/dac_24khz"


class Dac44Codec(DacCodec):
    """The model at 44.1 kHz."""

    name = "dac_44khz"
    sample_rate_hz = 44_100
    repository = "descript/dac_44khz"
