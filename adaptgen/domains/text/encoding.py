"""From a text file's bytes to characters: which encoding, which line ends."""

from __future__ import annotations

import codecs
import gzip
import lzma
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import from_bytes

from adaptgen.errors import InputFileError, UsageError

__all__ = ["PACKED_SUFFIXES", "TextFile", "read_text"]

BYTE_ORDER_MARKS = {
    # UTF-32's little-endian mark begins with UTF-16's.
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)
       | <meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]+)
       | coding[:=][ \t]*([\w.-]+)""",
    re.VERBOSE | re.IGNORECASE,
)
DECLARED_WITHIN = 1024
"""Bytes from the start: where XML and HTML want it; an editor's line stands in the first two lines."""
USUAL = ("cp1252", "cp932", "euc_jp", "euc_kr", "big5", "gb18030")
"""What text without Unicode is most often in; taken where others would read the same."""
LINE_ENDS = re.compile("\r\n|\r|\n")
PACKED_SUFFIXES = {".xz": lzma.open, ".gz": gzip.open}


@dataclass(frozen=True)
class TextFile:
    """A text and how it is written.

    Attributes:
        data: the bytes, as they are.
        text: the characters, every line end a newline.
        encoding: Python's name of it.
        line_end: the one that is used most.
    """

    data: bytes
    text: str
    encoding: str
    line_end: str

    def encode(self, text: str) -> bytes:
        """Bytes of more text in the same manner."""
        return text.replace("\n", self.line_end).encode(self.encoding)


def read_text(path: Path, *, encoding: str | None = None) -> TextFile:
    """Read a text file, packed or not.

    Its encoding is, in this order: the one given, that of its byte order mark, the one it declares as XML and HTML
    files and editors do, UTF-8 if it is that, and what charset-normalizer makes of it.

    Raises:
        InputFileError: it cannot be read, is no text, or is not in the encoding that it claims.
        UsageError: there is no such encoding as the one given.
    """
    try:
        with PACKED_SUFFIXES.get(path.suffix.lower(), open)(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(f"{path} cannot be read: {reason}", "Check the name and its permissions") from None
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    if encoding is not None:
        name, reason = _known(encoding), "was given with --encoding"
        if name is None:
            raise UsageError(f"--encoding is {encoding!r}, which is unknown", "Give a name such as utf-8 or cp1252")
    elif mark:
        name, reason = BYTE_ORDER_MARKS[mark], "is what its byte order mark says"
    elif (declared := _declared(data)) is not None:
        name, reason = declared, "is what it declares"
    else:
        name, reason = _detect(data, path), "is what it looks like"
    try:
        text = data[len(mark) :].decode(name)
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        raise InputFileError(
            f"{path} is not {name}, which {reason}: byte {place} cannot be read",
            "Convert it to UTF-8, or name its encoding with --encoding",
        ) from None
    if "\0" in text:
        raise InputFileError(f"{path} is no text: character {text.index(chr(0))} is a null", "Give a text file")
    ends = Counter(LINE_ENDS.findall(text))
    line_end = max(ends, key=lambda end: ends[end], default="\n")
    return TextFile(data, LINE_ENDS.sub("\n", text), name, line_end)


def _known(encoding: str) -> str | None:
    """Python's name of an encoding, if it is one of characters."""
    try:
        # Python also calls transformations such as base64 codecs; str refuses to use them.
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        return None


def _declared(data: bytes) -> str | None:
    found = DECLARATION.search(data[:DECLARED_WITHIN])
    if found is None:
        return None
    name = next(group for group in found.groups() if group).decode()
    is_line_of_editor = found.group(3) is not None
    if is_line_of_editor and data[: found.start()].count(b"\n") > 1:
        return None
    return _known(name)


def _detect(data: bytes, path: Path) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.start:
            raise InputFileError(
                f"{path} ends inside a character, at byte {error.start}", "Remove the bytes from there on"
            ) from None
    else:
        return "utf-8"
    best = from_bytes(data).best()
    if best is None:
        raise InputFileError(
            f"{path} is in no encoding that can be told", "Convert it to UTF-8, or name its encoding with --encoding"
        )
    return next((name for name in USUAL if name in best.could_be_from_charset), best.encoding)
