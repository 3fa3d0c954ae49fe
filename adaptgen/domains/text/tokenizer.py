"""Text as tokens: the bytes of its UTF-8, merges of such bytes, or the 27 characters of text8.

Source of the last: M. Mahoney, "About the Test Data" (mattmahoney.net/dc/textdata), whose script keeps the letters
a to z, lower-cased, spells out digits, and turns everything else into single spaces.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Bpe

from adaptgen.domains.base import Tokenizer
from adaptgen.domains.text.bpe import bytes_of_tokens, learn_bpe, read_bpe
from adaptgen.domains.text.encoding import read_text
from adaptgen.errors import CheckpointError, InputFileError, RecipeError

__all__ = ["KINDS", "TextTokenizer", "to_text8"]

KINDS = ("bytes", "bpe", "text8")
DEFAULT_VOCAB_SIZE, MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 4096, 300, 65_536
FILE_NAME = "tokenizer.json"
CHARACTERS_AT_ONCE = 1_000_000
LINE_END = re.compile(r"(?<=\S)(?=\n)")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXT8_ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def to_text8(text: str) -> str:
    """Text in text8's alphabet; accents are dropped from letters that have one."""
    plain = "".join(char for char in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(char))
    spelled = re.sub("[0-9]", lambda digit: f" {DIGITS[int(digit.group())]} ", plain)
    return re.sub("[^a-z]+", " ", spelled)


class TextTokenizer(Tokenizer):
    """Bytes, characters, or merges of bytes that are learned from the training files.

    Args:
        kind: one of `KINDS`.
        vocab_size: for `bpe`, tokens in all.

    Attributes:
        token_bytes: what each token stands for, None if nothing: so does the begin token, which is the last, and
            so do tokens for which `bpe` found nothing to merge.
    """

    unit_name = "byte"

    def __init__(self, kind: str = "bytes", *, vocab_size: int = DEFAULT_VOCAB_SIZE) -> None:
        self.kind = kind
        self.bpe: Bpe | None = None
        if kind == "bpe":
            self.begin = vocab_size - 1
        else:
            pieces = [bytes([byte]) for byte in range(256)] if kind == "bytes" else [c.encode() for c in TEXT8_ALPHABET]
            self.begin = len(pieces)
            self.token_bytes: list[bytes | None] = [*pieces, None]

    def fit(self, paths: Iterable[Path]) -> None:
        if self.kind == "bpe":
            self._set_bpe(learn_bpe(_readable_texts(paths), num_tokens=self.begin))

    def _set_bpe(self, bpe: Bpe) -> None:
        self.bpe = bpe
        pieces = bytes_of_tokens(bpe)
        self.token_bytes = [*pieces, *[None] * (self.begin + 1 - len(pieces))]

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        return (self.begin + 1,)

    @property
    def fingerprint(self) -> str:
        if self.bpe is None:
            return f"{self.kind}-1"
        model = json.loads(self.bpe.to_str())["model"]
        return f"bpe-{hashlib.sha256(json.dumps([model['vocab'], model['merges']]).encode()).hexdigest()[:16]}"

    @cached_property
    def _id_of_byte(self) -> np.ndarray:
        ids = np.full(256, -1)
        for token, piece in enumerate(self.token_bytes[: self.begin]):
            ids[piece[0]] = token
        return ids

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(piece or b"") for piece in self.token_bytes])

    def encode(self, text: str) -> np.ndarray:
        """Tokens int64 `[1, T]`, without the begin token."""
        if self.bpe is not None:
            ids = [np.array(self.bpe.encode(piece).ids, dtype=np.int64) for piece in _pieces(text)]
            return np.concatenate(ids)[None]
        data = (to_text8(text) if self.kind == "text8" else text).encode("utf-8")
        return self._id_of_byte[np.frombuffer(data, dtype=np.uint8)][None]

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of tokens `[1, T]`, UTF-8 if they are whole characters."""
        return b"".join(self.token_bytes[token] or b"" for token in tokens[0])

    def count_units(self, tokens: np.ndarray) -> int:
        return int(self._lengths[tokens[0]].sum())

    def describe(self, tokens: np.ndarray) -> list[str]:
        names = []
        for token in tokens[0]:
            piece = self.token_bytes[token]
            if piece is None:
                names.append("<begin>")
            else:
                text = piece.decode("utf-8", "replace")
                names.append(text if text.isprintable() and "\ufffd" not in text else f"<{piece.hex()}>")
        return names

    def kinds_of(self, tokens: np.ndarray) -> list[str]:
        return [self._kind_of(self.token_bytes[token]) for token in tokens[0]]

    @staticmethod
    def _kind_of(piece: bytes | None) -> str:
        if piece is None:
            return "begin"
        text = piece.decode("utf-8", "replace")
        if text.isspace():
            return "space"
        if text.strip().isalpha():
            return "word after a space" if text[0].isspace() else "letters"
        if text.strip().isdigit():
            return "digits"
        return "bytes of other characters" if "\ufffd" in text else "punctuation"

    def to_options(self) -> dict[str, Any]:
        return {"kind": self.kind} | ({"vocab_size": self.begin + 1} if self.kind == "bpe" else {})

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> TextTokenizer:
        kind = options.get("kind", KINDS[0])
        if kind not in KINDS:
            raise RecipeError(f"tokenizer.kind is {kind!r}", f"Give one of {', '.join(KINDS)}")
        known = ["kind", "vocab_size"] if kind == "bpe" else ["kind"]
        unknown = sorted(set(options) - set(known))
        if unknown:
            has = " and ".join(known)
            raise RecipeError(f"unknown key 'tokenizer.{unknown[0]}'", f"The text tokenizer {kind!r} has {has}")
        size = options.get("vocab_size", DEFAULT_VOCAB_SIZE)
        if not isinstance(size, int) or not MIN_VOCAB_SIZE <= size <= MAX_VOCAB_SIZE:
            raise RecipeError(
                f"tokenizer.vocab_size is {size!r}", f"Give a whole number from {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}"
            )
        return cls(kind, vocab_size=size)

    def save(self, folder: Path) -> None:
        content = {"kind": self.kind, "vocab_size": self.begin + 1}
        if self.bpe is not None:
            content["bpe"] = json.loads(self.bpe.to_str())
        text = json.dumps(content, ensure_ascii=False) + "\n"
        (folder / FILE_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: dict[str, Any]) -> TextTokenizer:
        tokenizer = cls.from_options(options)
        path = folder / FILE_NAME
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if (stored["kind"], stored["vocab_size"]) != (tokenizer.kind, tokenizer.begin + 1):
                raise ValueError(f"it is not of kind {tokenizer.kind!r} with {tokenizer.begin + 1} tokens")
            if tokenizer.kind == "bpe":
                tokenizer._set_bpe(read_bpe(json.dumps(stored["bpe"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}", "Get the checkpoint again") from None
        return tokenizer


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces whose merges are those of the whole: no word of GPT-2's pattern goes on over their ends.

    The library needs some hundred bytes a character for what it encodes at once.
    """
    start = 0
    while cut := LINE_END.search(text, start + CHARACTERS_AT_ONCE):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def _readable_texts(paths: Iterable[Path]) -> Iterator[str]:
    """The texts of files; those that cannot be read are reported when they are tokenised."""
    for path in paths:
        with suppress(InputFileError):
            yield read_text(path).text
