"""The speech domain: what `adaptgen.domains.base` asks for, answered by the modules beside this one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptgen.domains.base import ContinuationRequest, Domain, Prompt, Tokenizer
from adaptgen.domains.speech import corpus
from adaptgen.domains.speech.codec_tools import SpeechCodecTools
from adaptgen.domains.speech.prompt import SpeechPrompt, result_suffix
from adaptgen.domains.speech.sound import SUFFIXES
from adaptgen.domains.speech.tokenizer import SpeechTokenizer
from adaptgen.errors import UsageError

__all__ = ["DOMAIN"]


class SpeechDomain(Domain):
    """Recordings of a voice."""

    name = "speech"
    default_checkpoint = "speech"
    twins = ("speech-twin-plain", "speech-twin-shortcut")
    example_input = "talk.wav"
    held_out = "examples/speech"
    suffixes = SUFFIXES
    tokenizer_type = SpeechTokenizer
    codec_tools = SpeechCodecTools()

    def read_documents(self, path: Path, tokenizer: Tokenizer, *, is_training: bool) -> list[np.ndarray]:
        return corpus.read_documents(path, tokenizer, is_training=is_training)

    def augment(
        self, tokenizer: Tokenizer, tokens: np.ndarray, other: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return tokens

    def check_roundtrip(self, path: Path, tokenizer: Tokenizer) -> dict[str, int | float]:
        return corpus.check_roundtrip(path, tokenizer)

    def render(self, path: Path, *, soundfont: Path | None) -> bytes:
        raise UsageError(f"{path} is sound already", "Give a MIDI file")

    def result_suffixes(self, path: Path, request: ContinuationRequest) -> list[str]:
        return [result_suffix(path, request)] + [".png"] * request.picture

    def read_prompt(self, path: Path, tokenizer: Tokenizer, request: ContinuationRequest, *, window: int) -> Prompt:
        return SpeechPrompt(path, tokenizer, request, window=window)


DOMAIN = SpeechDomain()
