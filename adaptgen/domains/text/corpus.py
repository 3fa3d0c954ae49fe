"""Text files as training documents."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from adaptgen.domains.text.encoding import read_text
from adaptgen.domains.text.tokenizer import TextTokenizer
from adaptgen.errors import InputFileError

__all__ = ["check_roundtrip", "read_documents", "split_documents"]

DOCUMENT_ENDS = re.compile(r"(?<=\n\n\n)(?=[^\n])")
"""Two blank lines stand between documents of one file; they belong to the first, so that no character is lost."""


def split_documents(text: str) -> list[str]:
    """The documents of a file, which together are the file."""
    return [document for document in DOCUMENT_ENDS.split(text) if document]


def read_documents(path: Path, tokenizer: TextTokenizer) -> list[np.ndarray]:
    """Each document of a file as tokens `[1, T]`, the begin token first.

    Raises:
        InputFileError: it cannot be read, is no text, or is empty.
    """
    documents = [tokenizer.encode(document) for document in split_documents(read_text(path).text)]
    begin = np.array([[tokenizer.begin]], dtype=np.int64)
    documents = [np.concatenate([begin, tokens], axis=1) for tokens in documents if tokens.shape[1]]
    if not documents:
        raise InputFileError(f"{path} is empty", "Give a text with some characters")
    return documents


def check_roundtrip(path: Path, tokenizer: TextTokenizer) -> dict[str, int | float]:
    """Compare a text with what its tokens say."""
    text = read_text(path).text
    tokens = tokenizer.encode(text)
    decoded = tokenizer.decode(tokens).decode("utf-8")
    num_bytes = len(text.encode("utf-8"))
    kept = Counter(text) & Counter(decoded)
    return {
        "characters": len(text),
        "characters_lost": len(text) - kept.total(),
        "bytes": num_bytes,
        "tokens": tokens.shape[1],
        "tokens_per_byte": round(tokens.shape[1] / max(1, num_bytes), 3),
    }
