"""Text as tokens: the bytes of its UTF-8, or the 27 characters of text8.

Source of the latter: M. Mahoney, "About the Test Data" (mattmahoney.net/dc/textdata), whose script keeps the letters
a to z, lower-cased, spells out digits, and turns everything else into single spaces.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adaptgen.domains.base import Tokenizer
from adaptgen.errors import CheckpointError, RecipeError

__all__ = ["KINDS", "TextTokenizer", "to_text8"]

KINDS = ("bytes", "text8")
FILE_NAME = "tokenizer.json"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXT8_ALPHABET = " abcdefghijklmnopqrstuvwxyz"


def to_text8(text: str) -> str:
    """Text in text8's alphabet; accents are dropped from letters that have one."""
    plain = "".join(char for char in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(char))
    spelled = re.sub("[0-9]", lambda digit: f" {DIGITS[int(digit.group())]} ", plain)
    return re.sub("[^a-z]+", " ", spelled)


class TextTokenizer(Tokenizer):
    """Bytes or characters.

    Args:
        kind: one of `KINDS`.

    Attributes:
        token_bytes: what each token stands for; None for the begin token, which is the last.
    """

    unit_name = "byte"

    def __init__(self, kind: str = "bytes") -> None:
        self.kind = kind
        pieces = [bytes([byte]) for byte in range(256)] if kind == "bytes" else [c.encode() for c in TEXT8_ALPHABET]
        self.token_bytes: list[bytes | None] = [*pieces, None]
        self.begin = len(pieces)

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        return (len(self.token_bytes),)

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}-1"

    @cached_property
    def _id_of_byte(self) -> np.ndarray:
        ids = np.full(256, -1)
        for token, piece in enumerate(self.token_bytes[: self.begin]):
            ids[piece[0]] = token
        return ids

    def encode(self, text: str) -> np.ndarray:
        """Tokens int64 `[1, T]`, without the begin token."""
        data = (to_text8(text) if self.kind == "text8" else text).encode("utf-8")
        return self._id_of_byte[np.frombuffer(data, dtype=np.uint8)][None]

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of tokens `[1, T]`, UTF-8 if they are whole characters."""
        return b"".join(self.token_bytes[token] or b"" for token in tokens[0])

    def count_units(self, tokens: np.ndarray) -> int:
        return len(self.decode(tokens))

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

    def to_options(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> TextTokenizer:
        unknown = sorted(set(options) - {"kind"})
        if unknown:
            raise RecipeError(f"unknown key 'tokenizer.{unknown[0]}'", "The text tokenizer has kind")
        kind = options.get("kind", KINDS[0])
        if kind not in KINDS:
            raise RecipeError(f"tokenizer.kind is {kind!r}", f"Give one of {', '.join(KINDS)}")
        return cls(kind)

    def save(self, folder: Path) -> None:
        content = {"kind": self.kind, "num_tokens": len(self.token_bytes)}
        (folder / FILE_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: dict[str, Any]) -> TextTokenizer:
        tokenizer = cls.from_options(options)
        path = folder / FILE_NAME
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}", "Get the checkpoint again") from None
        if stored != {"kind": tokenizer.kind, "num_tokens": len(tokenizer.token_bytes)}:
            raise CheckpointError(f"{path} is not of the kind {tokenizer.kind!r}", "Get the checkpoint again")
        return tokenizer
