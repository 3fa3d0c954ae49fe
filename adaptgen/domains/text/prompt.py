"""A text file to be continued: reading it, and joining what was drawn to what was there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adaptgen.domains.base import Continuation, ContinuationRequest, Prompt
from adaptgen.domains.text.characters import CharacterRules
from adaptgen.domains.text.encoding import PACKED_SUFFIXES, read_text
from adaptgen.domains.text.grammar import Length, TextGrammar, TokenMoves
from adaptgen.domains.text.tokenizer import TextTokenizer
from adaptgen.errors import InputFileError, UsageError

__all__ = ["TextPrompt", "suffix_of"]

KNOWN = ("words", "chars", "tokens", "encoding")
DEFAULT_WORDS = 200
MAX_LENGTH = 10_000_000
CHARACTERS_PER_TOKEN = 16
"""So many are read for each token of the window, which is more than any tokenizer makes one of on average."""


class TextPrompt(Prompt):
    """One text file and what is to be added to it.

    A text may end inside what its tokenizer would make one token of together with what comes next, and a model has
    seldom seen the shorter token before the rest. So the last token of merged bytes is drawn again, from those that
    begin with its bytes.

    Args:
        path: the file.
        tokenizer: of the model.
        request: how much to add.
        window: how many of the prompt's last tokens will be looked at.
    """

    def __init__(self, path: Path, tokenizer: TextTokenizer, request: ContinuationRequest, *, window: int) -> None:
        self.path, self.tokenizer, self.request = path, tokenizer, request
        self.length = _length(request)
        if path.suffix.lower() in PACKED_SUFFIXES:
            raise InputFileError(f"{path} is packed", "Unpack it first")
        self.file = read_text(path, encoding=request.encoding)
        self.moves = TokenMoves(tokenizer, CharacterRules.of_encoding(self.file.encoding))
        self._tokens, self._given = _recent_tokens(self.file.text, tokenizer, window=window), b""
        while tokenizer.bpe is not None and self._tokens.shape[1] > 1:
            self._given = tokenizer.decode(self._tokens[:, -1:]) + self._given
            self._tokens = self._tokens[:, :-1]
            if not _goes_on_with_a_character(self._given):
                break

    @property
    def tokens(self) -> np.ndarray:
        return self._tokens

    def new_grammar(self) -> TextGrammar:
        return TextGrammar(self.moves, self.length, given=self._given)

    def complete(self, new_tokens: np.ndarray, *, seed: Sequence[int] = (0, 0)) -> Continuation:
        text = self.tokenizer.decode(new_tokens)[len(self._given) :].decode("utf-8")
        if self.length.words is not None:
            # The space that ended the last word, and what came with it in one token, are no part of it.
            ends = [word.end() for word in re.finditer(r"\S+", text)][: self.length.words]
            text = text[: ends[-1]] if ends else ""
        new = self.file.encode(text)
        before = self.file.mark if self.request.new_only else self.file.data
        return Continuation(
            files={suffix_of(self.path): before + new},
            summary={
                "words": len(text.split()),
                "characters": len(text),
                "bytes": len(new),
                "encoding": self.file.encoding,
            },
        )


def suffix_of(path: Path) -> str:
    """The kind of a text file, whose name may be nothing else, as `.txt` is."""
    return path.suffix or path.name


def _length(request: ContinuationRequest) -> Length:
    request.refuse_others("text", known=KNOWN, remedy="Give --words, --chars or --tokens")
    asked = {"words": request.words, "chars": request.chars, "tokens": request.tokens}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(f'--{name}' for name in given)} were both given", "Give one of them")
    for name, value in given.items():
        if not 1 <= value <= MAX_LENGTH:
            raise UsageError(f"--{name} is {value}", f"Give a whole number from 1 to {MAX_LENGTH}")
    if not given:
        return Length(words=DEFAULT_WORDS)
    return Length(tokens=request.tokens, characters=request.chars, words=request.words)


def _recent_tokens(text: str, tokenizer: TextTokenizer, *, window: int) -> np.ndarray:
    """Tokens `[1, T]` of the end of a text, the begin token first if all of it fits into `window`."""
    recent = text[-CHARACTERS_PER_TOKEN * window :]
    tokens = tokenizer.encode(recent)
    if (len(recent) == len(text) and tokens.shape[1] < window) or not tokens.shape[1]:
        return np.concatenate([[[tokenizer.begin]], tokens], axis=1)
    # Not to begin inside a character, if one begins at all.
    start = max(0, tokens.shape[1] - window)
    for place in range(start, tokens.shape[1]):
        piece = tokenizer.token_bytes[tokens[0, place]]
        if piece is None or not _goes_on_with_a_character(piece):
            return tokens[:, place:]
    return tokens[:, start:]


def _goes_on_with_a_character(piece: bytes) -> bool:
    """Whether bytes of UTF-8 begin inside a character, which goes on with bytes 10xxxxxx."""
    return bool(piece) and piece[0] & 0xC0 == 0x80
