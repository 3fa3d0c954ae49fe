"""Sound as frames of codes, the finer streams a little later than the coarser ones.

Stream k is k frames late, so that each code of a frame is predicted from those of the coarser streams of the same
frame: the delay pattern of Copet et al., "Simple and Controllable Music Generation", arXiv:2306.05284, section 2.1.
In each stream token 0 begins a recording, 1 stands where the delay leaves a hole, and c + 2 is the codec's code c.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adaptgen.domains.base import Tokenizer
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.codecs import CODECS, DEFAULT_CODEC, load_codec
from adaptgen.domains.speech.envelope import log_envelope, mel_bands
from adaptgen.errors import RecipeError
from adaptgen.paths import user_path

__all__ = ["ABSENT", "NUM_SPECIAL", "SpeechTokenizer"]

ABSENT = 1
NUM_SPECIAL = 2
COUNTS = ("num_codebooks", "heard_codebooks")
NUM_IMAGE_BANDS, IMAGE_FFT_SIZE = 64, 1024


class SpeechTokenizer(Tokenizer):
    """Codes of a codec.

    Args:
        codec: makes them.
        num_codebooks: how many of its streams are used, the coarsest first; all if not given.
        heard_codebooks: how many of those become sound in a continuation; all if not given. A model that cannot tell
            the codes of the finest streams draws noise there, which is farther from speech than nothing is.
    """

    begin = 0
    unit_name = "second"

    def __init__(self, codec: Codec, *, num_codebooks: int | None = None, heard_codebooks: int | None = None) -> None:
        self.codec = codec
        self.num_codebooks = num_codebooks or len(codec.codebook_sizes)
        self.heard_codebooks = heard_codebooks or self.num_codebooks

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        return tuple(size + NUM_SPECIAL for size in self.codec.codebook_sizes[: self.num_codebooks])

    @property
    def fingerprint(self) -> str:
        return f"{self.codec.fingerprint}-{self.num_codebooks}"

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes int64 `[K, T]` of samples at the codec's rate and level."""
        return self.codec.encode(samples)[: self.num_codebooks]

    def delay(self, codes: np.ndarray) -> np.ndarray:
        """Tokens `[K, T + K - 1]` of codes `[K, T]`."""
        num_streams, length = codes.shape
        tokens = np.full((num_streams, length + num_streams - 1), ABSENT, dtype=np.int64)
        for stream, row in enumerate(codes):
            tokens[stream, stream : stream + length] = row + NUM_SPECIAL
        return tokens

    def undelay(self, tokens: np.ndarray) -> np.ndarray:
        """Codes `[K, T]` of tokens `[K, T + K - 1]` as `delay` makes them."""
        num_streams, length = len(tokens), tokens.shape[1] - len(tokens) + 1
        return np.stack([tokens[stream, stream : stream + length] for stream in range(num_streams)]) - NUM_SPECIAL

    def document(self, codes: np.ndarray) -> np.ndarray:
        """Tokens of a whole recording, the begin token first."""
        begin = np.full((len(codes), 1), self.begin, dtype=np.int64)
        return np.concatenate([begin, self.delay(codes)], axis=1)

    def count_units(self, tokens: np.ndarray) -> float:
        return int((tokens[0] >= NUM_SPECIAL).sum()) / self.codec.frames_per_second

    def describe(self, tokens: np.ndarray) -> list[str]:
        names = {self.begin: "<begin>", ABSENT: "-"}
        return [
            names[self.begin]
            if frame[0] == self.begin
            else " ".join(names.get(int(token), str(token - NUM_SPECIAL)) for token in frame)
            for frame in tokens.T
        ]

    def kinds_of(self, tokens: np.ndarray) -> list[str]:
        pitch = self._pitch_of(tokens)
        sound = "unvoiced" if self.codec.tells_pitch else "sound"
        names = {self.begin: "begin", ABSENT: "end"}
        return [
            names.get(int(token), "voiced" if np.isfinite(hz) else sound)
            for token, hz in zip(tokens[0], pitch, strict=True)
        ]

    def heights_of(self, tokens: np.ndarray) -> np.ndarray:
        """Pitch as a MIDI note number, of what is voiced."""
        return 69 + 12 * np.log2(self._pitch_of(tokens) / 440)

    def image_of(self, tokens: np.ndarray) -> np.ndarray | None:
        """Log-mel spectrogram of what the frames sound like that begin in stream 0."""
        codes, is_whole = self._whole_frames(tokens)
        if not is_whole.any():
            return None
        bands = mel_bands(NUM_IMAGE_BANDS, IMAGE_FFT_SIZE, self.codec.sample_rate_hz)
        image = np.full((NUM_IMAGE_BANDS, tokens.shape[1]), np.nan)
        sound = self.codec.decode(codes[:, is_whole])
        image[:, is_whole] = log_envelope(sound, bands, hop=self.codec.frame_samples).T
        return image

    def _pitch_of(self, tokens: np.ndarray) -> np.ndarray:
        """float `[T]`: pitch in Hz of the frames that begin in stream 0, NaN where the codec tells none."""
        codes, is_whole = self._whole_frames(tokens)
        pitch = np.full(tokens.shape[1], np.nan)
        pitch[is_whole] = self.codec.pitch_hz(codes[:, is_whole])
        return pitch

    def _whole_frames(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes `[K, T]` of the frames that begin in stream 0 of tokens `[K, T]`, and which of them are all there."""
        later = np.full((len(tokens), len(tokens) - 1), ABSENT, dtype=np.int64)
        codes = self.undelay(np.concatenate([tokens, later], axis=1))
        return codes, (codes >= 0).all(axis=0)

    def to_options(self) -> dict[str, Any]:
        return {"codec": self.codec.name, **{key: getattr(self, key) for key in COUNTS}}

    @classmethod
    def check_options(cls, options: dict[str, Any]) -> None:
        _checked(options)

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> SpeechTokenizer:
        name, counts = _checked(options)
        weights = options.get("codec_weights")
        return cls._of(load_codec(name, weights=None if weights is None else user_path(weights)), counts)

    @classmethod
    def _of(cls, codec: Codec, counts: dict[str, int | None]) -> SpeechTokenizer:
        most = len(codec.codebook_sizes)
        for key in COUNTS:
            if counts[key] is not None and counts[key] > most:
                raise RecipeError(f"tokenizer.{key} is {counts[key]}", f"There are {most}")
            # No more can be heard than are used.
            most = counts[key] or most
        return cls(codec, **counts)

    def save(self, folder: Path) -> None:
        self.codec.save(folder)

    @classmethod
    def load(cls, folder: Path, options: dict[str, Any]) -> SpeechTokenizer:
        name, counts = _checked(options)
        return cls._of(load_codec(name, weights=folder), counts)


def _checked(options: dict[str, Any]) -> tuple[str, dict[str, int | None]]:
    """The codec's name, and numbers of its streams as of `SpeechTokenizer`."""
    known = ("codec", "codec_weights", *COUNTS)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise RecipeError(f"unknown key 'tokenizer.{unknown[0]}'", f"The speech tokenizer has {', '.join(known)}")
    name, counts = options.get("codec", DEFAULT_CODEC), {key: options.get(key) for key in COUNTS}
    if name not in CODECS:
        raise RecipeError(f"tokenizer.codec is {name!r}", f"Give one of {', '.join(CODECS)}")
    weights = options.get("codec_weights")
    if not (weights is None or isinstance(weights, str)):
        raise RecipeError(f"tokenizer.codec_weights is {weights!r}", "Give the name of a folder")
    for key, count in counts.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise RecipeError(f"tokenizer.{key} is {count!r}", "Give a whole number from 1 up")
    return name, counts
