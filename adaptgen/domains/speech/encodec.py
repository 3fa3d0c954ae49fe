"""EnCodec at 24 kHz: 75 frames a second of up to 32 codes, for any sound.

1.5, 3, 6 and 12 kbit/s are its first 2, 4, 8 and 16 streams. Source: Défossez et al., "High Fidelity Neural Audio
Compression", arXiv:2210.13438, by the package `encodec` or, where that is missing, by `transformers`: the same
computation on the same weights.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adaptgen.domains.speech.hub import WEIGHTS, read_model
from adaptgen.domains.speech.neural import NeuralCodec
from adaptgen.errors import CheckpointError, UsageError

__all__ = ["EncodecCodec"]

BANDWIDTHS_KBPS = [1.5, 3.0, 6.0, 12.0, 24.0]
NUM_CODEBOOKS, BOOK_SIZE, FRAME_SAMPLES = 32, 1024, 320
STANDS_FOR_TORCHAUDIO = "torchaudio"
# Without what it depends on: that is torch and numpy, which are here, and torchaudio, which is not needed and in its
# Linux build cannot be imported beside a torch for CPUs.
COMMAND = "pip install --no-deps encodec==0.1.1 einops"
RENAMINGS = (
    (r"^(en|de)coder\.model\.", r"\1coder.layers."),
    (r"\.conv(tr)?\.conv(tr)?\.", ".conv."),
    (r"^quantizer\.vq\.(layers\.\d+)\._codebook\.", r"quantizer.\1.codebook."),
)
"""From the names of tensors in `encodec` to those on the hub."""
OLDER_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
"""Of what weight normalisation keeps, in files written by and for an older torch, and what they are now."""


class EncodecCodec(NeuralCodec):
    """The causal mono model, of either package."""

    name = "encodec_24khz"
    sample_rate_hz = 24_000
    repository = "facebook/encodec_24khz"
    model_type = "encodec"
    expected: ClassVar = {
        "audio_channels": 1,
        "normalize": False,
        "use_causal_conv": True,
        "norm_type": "weight_norm",
        "pad_mode": "reflect",
        "upsampling_ratios": [8, 5, 4, 2],
        "codebook_size": BOOK_SIZE,
    }
    # 20 s, and 2 s before: the network has seen nearly all that counts by then. What comes after, it never sees.
    piece_frames, frames_before, frames_after = 1500, 150, 0

    def _codes(self, samples: Tensor) -> Tensor:
        return self._quantizer.encode(self.model.encoder(samples))[:, 0]

    def _sound(self, codes: Tensor) -> Tensor:
        return self.model.decoder(self._quantizer.decode(codes[:, None]))[0, 0]

    @property
    def _quantizer(self) -> Any:
        return getattr(self.model.quantizer, "vq", self.model.quantizer)

    @classmethod
    def _read(cls, folder: Path) -> EncodecCodec:
        try:
            package = _import_encodec()
        except UsageError as missing:
            try:
                model = read_model("EncodecModel", folder)
            except UsageError as also_missing:
                problem = f"the codec {cls.name} needs encodec or transformers: {missing.problem}"
                raise UsageError(f"{problem}, and {also_missing.problem}", missing.remedy) from None
        else:
            model = _read_package_model(package, folder)
        return cls(model, folder, frame_samples=FRAME_SAMPLES, codebook_sizes=(BOOK_SIZE,) * NUM_CODEBOOKS)


def _read_package_model(package: types.ModuleType, folder: Path) -> Any:
    """An `encodec.EncodecModel` with the weights of a folder of the hub.

    Raises:
        CheckpointError: they are damaged, or of another network.
    """
    with warnings.catch_warnings():
        # It uses what PyTorch calls outdated by now.
        warnings.simplefilter("ignore", FutureWarning)
        model = package.EncodecModel._get_model(BANDWIDTHS_KBPS, EncodecCodec.sample_rate_hz, 1)
    path, own = folder / WEIGHTS, model.state_dict()
    try:
        found = {_current_name(name): tensor for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}", "Get it again") from None
    names = {name: _current_name(_hub_name(name)) for name in own}
    for name in sorted(found.keys() ^ set(names.values())):
        problem = "has an unknown" if name in found else "lacks"
        raise CheckpointError(f"{path} {problem} tensor {name!r}", "Get it again")
    for name, tensor in own.items():
        if found[names[name]].shape != tensor.shape:
            raise CheckpointError(f"{path} has tensor {names[name]!r} of another shape", "Get it again")
    model.load_state_dict({name: found[hub_name].to(torch.float32) for name, hub_name in names.items()})
    return model.eval()


def _hub_name(name: str) -> str:
    """What the hub calls a tensor of the package."""
    for pattern, replacement in RENAMINGS:
        name = re.sub(pattern, replacement, name)
    return name


def _current_name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{OLDER_NAMES.get(last, last)}"


def _import_encodec() -> types.ModuleType:
    """The package, whose import of torchaudio nothing here needs: where that fails, an empty module stands for it.

    Raises:
        UsageError: it is not installed, or cannot be imported.
    """
    stands_in = False
    try:
        importlib.import_module(STANDS_FOR_TORCHAUDIO)
    except (ImportError, OSError, RuntimeError):
        sys.modules[STANDS_FOR_TORCHAUDIO] = types.ModuleType(STANDS_FOR_TORCHAUDIO)
        stands_in = True
    try:
        return importlib.import_module("encodec")
    except (ImportError, OSError) as error:
        raise UsageError(f"the package encodec cannot be imported: {error}", COMMAND) from None
    finally:
        if stands_in:
            del sys.modules[STANDS_FOR_TORCHAUDIO]
