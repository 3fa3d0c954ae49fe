"""EnCodec at 24 kHz: 75 frames a second of up to 32 codes, for any sound.

Source: Défossez et al., "High Fidelity Neural Audio Compression", arXiv:2210.13438, by the `encodec` package. Its
published weights do not come with adaptgen; they are read from a folder, as safetensors.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import types
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adaptgen.domains.speech.codec import Codec
from adaptgen.errors import CheckpointError, UsageError

__all__ = ["EncodecCodec"]

FILE_NAME = "encodec_24khz.safetensors"
SAMPLE_RATE_HZ = 24_000
NUM_CODEBOOKS, BOOK_SIZE = 32, 1024
BANDWIDTHS_KBPS = [1.5, 3.0, 6.0, 12.0, 24.0]
PIECE_FRAMES, CONTEXT_FRAMES = 1500, 150
"""Long sound is taken in pieces of 20 s, each with two seconds of what comes before it, so that memory is bounded;
the network has seen nearly all that counts by then."""
STANDS_FOR_TORCHAUDIO = "torchaudio"


class EncodecCodec(Codec):
    """The causal mono model.

    Args:
        model: an `encodec.EncodecModel` of 24 kHz with its weights.
    """

    name = "encodec_24khz"
    sample_rate_hz = SAMPLE_RATE_HZ
    frame_samples = 320
    codebook_sizes = (BOOK_SIZE,) * NUM_CODEBOOKS

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def encode(self, samples: np.ndarray) -> np.ndarray:
        lacking = -len(samples) % self.frame_samples
        padded = np.concatenate([samples.astype(np.float32), np.zeros(lacking, dtype=np.float32)])
        pieces = []
        for start in range(0, len(padded) // self.frame_samples, PIECE_FRAMES):
            first = max(0, start - CONTEXT_FRAMES)
            part = padded[first * self.frame_samples : (start + PIECE_FRAMES) * self.frame_samples]
            with torch.inference_mode():
                embedding = self.model.encoder(torch.from_numpy(part)[None, None])
                codes = self.model.quantizer.encode(embedding, self.model.frame_rate, BANDWIDTHS_KBPS[-1])
            pieces.append(codes[:, 0, start - first :].numpy())
        return np.ascontiguousarray(np.concatenate(pieces, axis=1))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        pieces = []
        for start in range(0, codes.shape[1], PIECE_FRAMES):
            first = max(0, start - CONTEXT_FRAMES)
            part = torch.from_numpy(np.ascontiguousarray(codes[:, first : start + PIECE_FRAMES]))[:, None]
            with torch.inference_mode():
                sound = self.model.decoder(self.model.quantizer.decode(part))[0, 0]
            length = part.shape[2] * self.frame_samples
            pieces.append(sound[(start - first) * self.frame_samples : length].numpy())
        return np.concatenate(pieces)

    def save(self, folder: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path) -> EncodecCodec:
        path = folder / FILE_NAME
        model = new_model()
        try:
            state = load_file(path)
            model.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path} cannot be used: {reason}", "Put EnCodec's weights there") from None
        return cls(model)

    @classmethod
    def shipped_weights(cls) -> None:
        return None


def new_model() -> Any:
    """An `encodec.EncodecModel` of 24 kHz with random weights.

    Raises:
        UsageError: the package is not installed, or cannot be imported.
    """
    module = _import_encodec()
    with warnings.catch_warnings():
        # It uses what PyTorch calls outdated by now.
        warnings.simplefilter("ignore", FutureWarning)
        return module.EncodecModel._get_model(
            BANDWIDTHS_KBPS, SAMPLE_RATE_HZ, 1, causal=True, model_norm="weight_norm", audio_normalize=False
        )


def _import_encodec() -> types.ModuleType:
    """The package, whose import of torchaudio nothing here needs: where that fails, an empty module stands for it."""
    stands_in = False
    try:
        importlib.import_module(STANDS_FOR_TORCHAUDIO)
    except (ImportError, OSError):
        sys.modules[STANDS_FOR_TORCHAUDIO] = types.ModuleType(STANDS_FOR_TORCHAUDIO)
        stands_in = True
    try:
        return importlib.import_module("encodec")
    except (ImportError, OSError) as error:
        raise UsageError(
            f"the codec encodec_24khz needs the package encodec, which cannot be imported: {error}",
            "pip install --no-deps encodec==0.1.1 einops",
        ) from None
    finally:
        if stands_in:
            del sys.modules[STANDS_FOR_TORCHAUDIO]
