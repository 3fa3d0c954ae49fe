"""The codec that comes with adaptgen: 25 frames a second of ten codes, for one voice at 16 kHz.

Two frames of 20 ms are coded together: their envelopes, 2 x 48 bands, by residual vector quantisation with eight
books, and the pitch of each by one code. The streams are the coarsest book, the two pitches, and the other seven
books, so that what a listener misses first comes first.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.envelope import log_envelope, mel_bands
from adaptgen.domains.speech.pitch import NUM_CODES, dequantize_pitch, quantize_pitch, track_pitch
from adaptgen.domains.speech.quantizer import ResidualQuantizer
from adaptgen.domains.speech.synthesis import Synthesizer, make_noise, make_pulses
from adaptgen.errors import CheckpointError

__all__ = ["FILE_NAME", "HOP", "NUM_BANDS", "PER_FRAME", "SAMPLE_RATE_HZ", "SourceFilterCodec", "envelope_bands"]

SAMPLE_RATE_HZ = 16_000
HOP = 320
"""Samples per envelope: 20 ms."""
NUM_BANDS = 48
FFT_SIZE = 512
PER_FRAME = 2
"""Envelopes and pitches coded together."""
QUIET_DB = 26.0
"""How much softer than the loudest code of the first book a pause is."""
FORMAT_VERSION = 1
FILE_NAME = "codec.safetensors"
NETWORK_PREFIX = "network."
BLOCK_FRAMES, CONTEXT_FRAMES = 750, 16
"""Decoded at once, and what is decoded around it and thrown away, which is more than the network sees."""


def envelope_bands() -> np.ndarray:
    """Weights of the bands whose envelopes are coded."""
    return mel_bands(NUM_BANDS, FFT_SIZE, SAMPLE_RATE_HZ)


class SourceFilterCodec(Codec):
    """Envelope, pitch and how voiced speech is.

    Args:
        quantizer: of pairs of envelopes, `[Q, size, 2 * NUM_BANDS]`.
        synthesizer: makes sound of them.
        about: what it was fitted to, for people.
    """

    name = "source_filter"
    tells_pitch = True
    sample_rate_hz = SAMPLE_RATE_HZ
    frame_samples = PER_FRAME * HOP

    def __init__(
        self, quantizer: ResidualQuantizer, synthesizer: Synthesizer, *, about: dict[str, Any] | None = None
    ) -> None:
        self.quantizer, self.synthesizer, self.about = quantizer, synthesizer.eval(), about or {}
        num_books, size = quantizer.books.shape[:2]
        self.codebook_sizes = (size, *[NUM_CODES] * PER_FRAME, *[size] * (num_books - 1))

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name} {FORMAT_VERSION}".encode())
        for name, array in sorted(self._coding_arrays().items()):
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def encode(self, samples: np.ndarray) -> np.ndarray:
        lacking = -len(samples) % self.frame_samples
        padded = np.concatenate([samples.astype(np.float32), np.zeros(lacking, dtype=np.float32)])
        envelope = log_envelope(padded, envelope_bands(), hop=HOP)
        pitch = quantize_pitch(*track_pitch(padded, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ))
        books = self.quantizer.encode(envelope.reshape(-1, PER_FRAME * NUM_BANDS))
        return np.concatenate([books[:1], pitch.reshape(-1, PER_FRAME).T, books[1:]])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        envelope, hz, strength = self._features(codes)
        pulses = make_pulses(hz, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ)
        noise = make_noise(len(pulses))
        result = np.empty(len(pulses), dtype=np.float32)
        for start in range(0, codes.shape[1], BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, codes.shape[1])
            first, last = max(0, start - CONTEXT_FRAMES), min(stop + CONTEXT_FRAMES, codes.shape[1])
            frames, samples = (slice(first * size, last * size) for size in (PER_FRAME, self.frame_samples))
            features = (envelope[frames], hz[frames], strength[frames], pulses[samples], noise[samples])
            with torch.inference_mode():
                sound = self.synthesizer(*(torch.from_numpy(feature)[None] for feature in features))[0].numpy()
            skipped = (start - first) * self.frame_samples
            wanted = (stop - start) * self.frame_samples
            result[start * self.frame_samples : stop * self.frame_samples] = sound[skipped : skipped + wanted]
        return result

    def _features(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Envelope `[2 T, M]`, pitch and strength `[2 T]` of codes `[k, T]`: without pitch streams, a whisper."""
        pitch_codes = codes[1 : 1 + PER_FRAME]
        if len(pitch_codes):
            pitch_codes = pitch_codes[np.minimum(np.arange(PER_FRAME), len(pitch_codes) - 1)]
        else:
            pitch_codes = np.zeros((PER_FRAME, codes.shape[1]), dtype=np.int64)
        books = np.concatenate([codes[:1], codes[1 + PER_FRAME :]])
        envelope = self.quantizer.decode(books).reshape(-1, NUM_BANDS)
        return envelope, *dequantize_pitch(pitch_codes.T.reshape(-1))

    @cached_property
    def is_quiet(self) -> np.ndarray:
        powers = np.exp(2 * (self.quantizer.books[0] + self.quantizer.mean)).mean(axis=1)
        return 10 * np.log10(powers / powers.max()) < -QUIET_DB

    def pitch_hz(self, codes: np.ndarray) -> np.ndarray:
        both = codes[1 : 1 + PER_FRAME].T
        hz, _ = dequantize_pitch(both.reshape(-1))
        hz = np.where(both > 0, hz.reshape(both.shape), 0).sum(axis=1)
        count = (both > 0).sum(axis=1)
        return np.where(count > 0, hz / np.maximum(1, count), np.nan)

    def _coding_arrays(self) -> dict[str, np.ndarray]:
        """What decides the codes. The network does not: it may be fitted anew under a model that has learned them."""
        arrays = {"books": self.quantizer.books, "mean": self.quantizer.mean}
        return {name: np.ascontiguousarray(array, dtype=np.float16) for name, array in arrays.items()}

    def _arrays(self) -> dict[str, np.ndarray]:
        """All that is learned, in half precision, which is what is used too."""
        arrays = self._coding_arrays()
        if self.synthesizer.network is not None:
            state = self.synthesizer.network.state_dict()
            arrays |= {NETWORK_PREFIX + name: tensor.numpy().astype(np.float16) for name, tensor in state.items()}
        return arrays

    def rounded(self) -> SourceFilterCodec:
        """The codec as it is after it has been stored and read."""
        return self._of_arrays(self._arrays(), self.about)

    def save(self, folder: Path) -> None:
        about = {"format_version": str(FORMAT_VERSION), "codec": self.name, "about": json.dumps(self.about)}
        # save_file's files are for their owner's eyes only.
        (folder / FILE_NAME).write_bytes(save(self._arrays(), metadata=about))

    @classmethod
    def find_weights(cls) -> Path:
        return Path(__file__).parent

    @classmethod
    def load(cls, folder: Path) -> SourceFilterCodec:
        path = folder / FILE_NAME
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if (metadata.get("codec"), metadata.get("format_version")) != (cls.name, str(FORMAT_VERSION)):
                    raise ValueError(f"it holds no {cls.name} codec of version {FORMAT_VERSION}")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return cls._of_arrays(arrays, json.loads(metadata["about"]))
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}", "Get it again") from None

    @classmethod
    def _of_arrays(cls, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> SourceFilterCodec:
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it holds what is not a number")
        books, mean = arrays.pop("books"), arrays.pop("mean")
        if books.ndim != 3 or books.shape[2] != PER_FRAME * NUM_BANDS or mean.shape != books.shape[2:]:
            raise ValueError(f"its books have the shape {books.shape}")
        synthesizer = Synthesizer(num_bands=NUM_BANDS, hop=HOP, sample_rate_hz=SAMPLE_RATE_HZ, has_network=bool(arrays))
        if synthesizer.network is not None:
            state = {name.removeprefix(NETWORK_PREFIX): torch.from_numpy(array) for name, array in arrays.items()}
            synthesizer.network.load_state_dict(state)
        return cls(ResidualQuantizer(books, mean), synthesizer, about=about)
