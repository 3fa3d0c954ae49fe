"""Mimi: 12.5 frames a second of up to 32 codes, for speech at 24 kHz.

Source: Défossez et al., "Moshi: a speech-text foundation model for real-time dialogue", arXiv:2410.00037, by
`transformers`. The first stream was trained to tell what is said, the others how it sounds.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor

from adaptgen.domains.speech.hub import read_model
from adaptgen.domains.speech.neural import NeuralCodec

__all__ = ["MimiCodec"]


class MimiCodec(NeuralCodec):
    """The causal model, with as many streams and codes as its weights have."""

    name = "mimi"
    sample_rate_hz = 24_000
    repository = "kyutai/mimi"
    model_type = "mimi"
    expected: ClassVar = {"audio_channels": 1, "use_causal_conv": True}
    # 20 s, and 20 s before, which is twice what one of its layers attends to.
    piece_frames, frames_before, frames_after = 250, 250, 0

    def _codes(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples).audio_codes[0]

    def _sound(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None]).audio_values[0, 0]

    @classmethod
    def _read(cls, folder: Path) -> MimiCodec:
        model = read_model("MimiModel", folder)
        config = model.config
        frame_samples = round(config.sampling_rate / config.frame_rate)
        sizes = (config.codebook_size,) * config.num_quantizers
        return cls(model, folder, frame_samples=frame_samples, codebook_sizes=sizes)
