"""The text domain: what `adaptgen.domains.base` asks for, answered by the modules beside this one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptgen.domains.base import ContinuationRequest, Domain, Prompt, Tokenizer
from adaptgen.domains.text import corpus
from adaptgen.domains.text.prompt import TextPrompt, suffix_of
from adaptgen.domains.text.tokenizer import TextTokenizer
from adaptgen.errors import UsageError

__all__ = ["DOMAIN"]


class TextDomain(Domain):
    """Plain text in any encoding."""

    name = "text"
    default_checkpoint = "text"
    twins = ("text-twin-plain", "text-twin-shortcut")
    example_input = "story.txt"
    held_out = "examples/text"
    is_readable = True
    suffixes = (".txt", ".md", ".txt.xz", ".txt.gz")
    tokenizer_type = TextTokenizer

    def read_documents(self, path: Path, tokenizer: Tokenizer, *, is_training: bool) -> list[np.ndarray]:
        return corpus.read_documents(path, tokenizer)

    def augment(
        self, tokenizer: Tokenizer, tokens: np.ndarray, other: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return tokens

    def check_roundtrip(self, path: Path, tokenizer: Tokenizer) -> dict[str, int | float]:
        return corpus.check_roundtrip(path, tokenizer)

    def render(self, path: Path, *, soundfont: Path | None) -> bytes:
        raise UsageError(f"{path} is text, which has no sound", "Give a MIDI file")

    def result_suffixes(self, path: Path, request: ContinuationRequest) -> list[str]:
        return [suffix_of(path)]

    def read_prompt(self, path: Path, tokenizer: Tokenizer, request: ContinuationRequest, *, window: int) -> Prompt:
        return TextPrompt(path, tokenizer, request, window=window)


DOMAIN = TextDomain()
