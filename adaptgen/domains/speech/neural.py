"""What codecs have in common that are published networks: files of the hub, and long sound in pieces."""

from __future__ import annotations

import hashlib
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.hub import CONFIG, WEIGHTS, check_folder, fetch
from adaptgen.errors import CheckpointError

__all__ = ["NeuralCodec"]


class NeuralCodec(Codec):
    """An encoder, a residual quantiser and a decoder.

    Long sound is taken in pieces, each with some of what is around it, so that memory is bounded. A sound of one piece
    goes through the network whole.

    Args:
        model: the network with its weights.
        folder: where its files lie. They are copied from there when it is saved, and read by other processes, so
            they must stay there.
        frame_samples, codebook_sizes: as of `Codec`.
    """

    repository: ClassVar[str]
    """Where the hub has the weights."""
    model_type: ClassVar[str]
    expected: ClassVar[Mapping[str, Any]] = {}
    """What its config.json says: which network it is, and what else must be so."""
    piece_frames: ClassVar[int]
    frames_before: ClassVar[int]
    frames_after: ClassVar[int]
    """How many frames around a piece go through the network with it."""

    def __init__(self, model: Any, folder: Path, *, frame_samples: int, codebook_sizes: tuple[int, ...]) -> None:
        self.model, self.folder = model, folder
        self.frame_samples, self.codebook_sizes = frame_samples, codebook_sizes

    @abstractmethod
    def _codes(self, samples: Tensor) -> Tensor:
        """int64 `[K, T]` of float32 `[1, 1, T * frame_samples]`."""

    @abstractmethod
    def _sound(self, codes: Tensor) -> Tensor:
        """float32 `[T * frame_samples]` of int64 `[k, T]`."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path) -> Self:
        """Read a folder that was checked."""

    @cached_property
    def fingerprint(self) -> str:
        # The names of tensors change with the package that reads them, what is in them does not.
        tensors = [
            hashlib.sha256(str(tuple(tensor.shape)).encode() + tensor.contiguous().numpy().tobytes()).digest()
            for tensor in self.model.state_dict().values()
        ]
        digest = hashlib.sha256(b"".join([self.name.encode(), *sorted(tensors)]))
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def encode(self, samples: np.ndarray) -> np.ndarray:
        lacking = -len(samples) % self.frame_samples
        padded = np.concatenate([samples.astype(np.float32), np.zeros(lacking, dtype=np.float32)])
        pieces = []
        for first, start, stop, last in self._pieces(len(padded) // self.frame_samples):
            part = padded[first * self.frame_samples : last * self.frame_samples]
            with torch.inference_mode():
                codes = self._codes(torch.from_numpy(part)[None, None])
            pieces.append(codes[:, start - first : stop - first].numpy())
        return np.ascontiguousarray(np.concatenate(pieces, axis=1))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        pieces = []
        for first, start, stop, last in self._pieces(codes.shape[1]):
            part = np.ascontiguousarray(codes[:, first:last], dtype=np.int64)
            with torch.inference_mode():
                sound = self._sound(torch.from_numpy(part))
            pieces.append(sound[(start - first) * self.frame_samples : (stop - first) * self.frame_samples].numpy())
        return np.concatenate(pieces)

    def _pieces(self, num_frames: int) -> Iterator[tuple[int, int, int, int]]:
        """Where each piece with its surroundings begins, where it begins and ends itself, and where they end."""
        for start in range(0, num_frames, self.piece_frames):
            stop = min(start + self.piece_frames, num_frames)
            yield max(0, start - self.frames_before), start, stop, min(stop + self.frames_after, num_frames)

    def save(self, folder: Path) -> None:
        target = folder / self.name
        target.mkdir(exist_ok=True)
        for name in (CONFIG, WEIGHTS):
            if not (self.folder / name).is_file():
                raise CheckpointError(f"{self.folder / name} is gone, and the codec with it", "Put it there again")
            shutil.copyfile(self.folder / name, target / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder of the hub, or one that `save` has written into."""
        own = folder / cls.name
        folder = own if (own / CONFIG).is_file() else folder
        expected = {"model_type": cls.model_type, "sampling_rate": cls.sample_rate_hz, **cls.expected}
        check_folder(folder, cls.repository, expected)
        return cls._read(folder)

    @classmethod
    def find_weights(cls) -> Path:
        return fetch(cls.repository)

    def __reduce__(self) -> tuple[Any, ...]:
        # Weight-normalised networks cannot be pickled, and the weights need not travel with every batch of files.
        return _load_in_worker, (type(self), self.folder)


@lru_cache(maxsize=1)
def _load_in_worker(codec: type[NeuralCodec], folder: Path) -> NeuralCodec:
    """A codec in one of several processes that encode side by side: one thread each is what there is for them."""
    torch.set_num_threads(1)
    return codec.load(folder)
