"""The music domain: what `adaptgen.domains.base` asks for, answered by the modules beside this one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptgen.domains.base import ContinuationRequest, Domain, Prompt, Tokenizer
from adaptgen.domains.music import corpus
from adaptgen.domains.music.song import read_song
from adaptgen.domains.music.tokenizer import MusicTokenizer

__all__ = ["DOMAIN"]


class MusicDomain(Domain):
    """Standard MIDI Files."""

    name = "music"
    default_checkpoint = "music"
    adapts = True
    twins = ("music-twin-plain", "music-twin-shortcut")
    example_input = "song.mid"
    held_out = "examples/lieder"
    suffixes = (".mid", ".midi", ".kar")
    tokenizer_type = MusicTokenizer

    def read_documents(self, path: Path, tokenizer: Tokenizer, *, is_training: bool) -> list[np.ndarray]:
        return corpus.read_documents(path, tokenizer, is_training=is_training)

    def augment(
        self, tokenizer: Tokenizer, tokens: np.ndarray, other: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return corpus.augment(tokenizer, tokens, other, rng)

    def vary(self, tokenizer: Tokenizer, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return corpus.transposed(tokenizer, tokens, rng)

    def check_roundtrip(self, path: Path, tokenizer: Tokenizer) -> dict[str, int | float]:
        return corpus.check_roundtrip(path, tokenizer)

    def render(self, path: Path, *, soundfont: Path | None) -> bytes:
        from adaptgen.domains.music.render import encode_wav, render

        return encode_wav(render(read_song(path).midi, soundfont=soundfont))

    def result_suffixes(self, path: Path, request: ContinuationRequest) -> list[str]:
        return [".mid"] + [".wav"] * request.sound + [".png"] * request.picture

    def read_prompt(self, path: Path, tokenizer: Tokenizer, request: ContinuationRequest, *, window: int) -> Prompt:
        from adaptgen.domains.music.prompt import MusicPrompt

        return MusicPrompt(path, tokenizer, request, window=window)


DOMAIN = MusicDomain()
