"""From a text file's bytes to characters: which encoding, which line ends."""

from __future__ import annotations

import codecs
import gzip
import lzma
import re
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import from_bytes

from adaptgen.domains.text.alphabets import is_latin, share_of_a_language
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
NOTATIONS = ("utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape")
"""Codecs for characters within ASCII, of which text files are not written."""
LOOKED_AT = 1_000_000
"""Bytes from which an encoding is guessed."""
USUAL = ("cp1252", "cp932", "euc_jp", "euc_kr", "big5", "gb18030")
"""What text without Unicode is most often in; taken where others would read the same."""
LATIN = ("cp1252", "cp1250", "iso8859-2", "cp1257", "cp1254")
"""What text of Latin script is most often in. Each turns almost any bytes into letters that look likely."""
FEW = 10
"""Bytes beyond ASCII from which nothing can be told; the most usual encoding is taken then."""
GOOD_FOR_EACH_BAD = 10
"""Characters beyond ASCII that UTF-8 makes for each byte that it cannot read, from which a file is damaged UTF-8."""
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
        mark: the byte order mark that `data` begins with, if any.
    """

    data: bytes
    text: str
    encoding: str
    line_end: str
    mark: bytes

    def encode(self, text: str) -> bytes:
        """Bytes of more text in the same manner."""
        return text.replace("\n", self.line_end).encode(self.encoding)


def read_text(path: Path, *, encoding: str | None = None) -> TextFile:
    """Read a text file, packed or not.

    Its encoding is, in this order: the one given, that of its byte order mark, UTF-8 if it is that, the one it
    declares as XML and HTML files and editors do, and what charset-normalizer makes of it. An ASCII file that
    declares an encoding goes on in that one. What would be UTF-8 but for a few bytes is taken for damaged.

    Raises:
        InputFileError: it cannot be read, is no text, or is not in the encoding that it claims.
        UsageError: there is no such encoding as the one given.
    """
    try:
        with PACKED_SUFFIXES.get(path.suffix.lower(), open)(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(f"{path} cannot be read: {reason}", "Check the name and its permissions") from None
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    if encoding is not None:
        name, reason = _known(encoding), "was given with --encoding"
        if name is None:
            raise UsageError(f"--encoding is {encoding!r}, which is unknown", "Give a name such as utf-8 or cp1252")
        if name in ("utf-16", "utf-32"):
            # These mean a byte order mark, too.
            name = BYTE_ORDER_MARKS.get(mark, f"{name}-le")
    elif mark:
        name, reason = BYTE_ORDER_MARKS[mark], "is what its byte order mark says"
    elif (declared := _declared(data)) is not None:
        name, reason = declared, "is what it declares"
    else:
        name, reason = _detect(data, path), "is what it looks like"
    try:
        text = data[len(mark) :].decode(name)
    except UnicodeError as error:
        place = len(mark) + getattr(error, "start", 0)
        raise InputFileError(
            f"{path} is not {name}, which {reason}: byte {place} cannot be read",
            "Convert it to UTF-8, or name its encoding with --encoding",
        ) from None
    if "\0" in text:
        raise InputFileError(
            f"{path} is no text: character {text.index(chr(0))} is a null", "Give a text, or its --encoding"
        )
    ends = Counter(LINE_ENDS.findall(text))
    line_end = max(ends, key=lambda end: ends[end], default="\n")
    if BYTE_ORDER_MARKS.get(mark) != name:
        mark = b""  # of another encoding than the one that the user gave
    return TextFile(data, LINE_ENDS.sub("\n", text), name, line_end, mark)


def _known(encoding: str) -> str | None:
    """Python's name of an encoding, if it is one of characters."""
    try:
        # Python also calls transformations such as base64 codecs; str refuses to use them.
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        return None
    # A byte order mark belongs to the beginning of the file alone.
    return None if name.replace("_", "-") in NOTATIONS else name.removesuffix("-sig")


def _declared(data: bytes) -> str | None:
    """What a file says of itself, if it can be so: it is no UTF-8, or plain ASCII, which fits many encodings."""
    found = DECLARATION.search(data[:DECLARED_WITHIN])
    if found is None or not (data.isascii() or not _is_utf8(data)):
        return None
    name = next(group for group in found.groups() if group).decode()
    is_line_of_editor = found.group(3) is not None
    if is_line_of_editor and data[: found.start()].count(b"\n") > 1:
        return None
    known = _known(name)
    # The declaration was read byte by byte, so it is not in those.
    return None if known is None or known.startswith(("utf-16", "utf-32")) else known


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_utf8_but_for_a_few(data: bytes) -> bool:
    """Whether what UTF-8 makes of bytes beyond ASCII is so seldom wrong that no other encoding can be meant."""
    text = data.decode("utf-8", "replace")
    num_bad = text.count("\ufffd") - data.count("\ufffd".encode())
    num_good = len(text) - len(text.encode("ascii", "ignore")) - num_bad
    return num_good >= GOOD_FOR_EACH_BAD * num_bad


def _detect(data: bytes, path: Path) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # A single byte at the end of plain ASCII is more likely a letter of another encoding.
        is_utf8_so_far = len(data) - error.start > 1 or not data[: error.start].isascii()
        if error.reason == "unexpected end of data" and is_utf8_so_far:
            raise InputFileError(
                f"{path} ends inside a character, at byte {error.start}",
                "Remove the bytes from there on, or name its encoding with --encoding",
            ) from None
        if _is_utf8_but_for_a_few(data):
            raise InputFileError(
                f"{path} is UTF-8 but for the byte 0x{data[error.start]:02X} at {error.start}",
                "Mend it there, or name its encoding with --encoding",
            ) from None
    else:
        return "utf-8"
    looked_at = _telling(data)
    if sum(byte >= 0x80 for byte in looked_at) < FEW:
        with suppress(UnicodeDecodeError):
            data.decode(USUAL[0])
            return USUAL[0]
    best = from_bytes(looked_at).best()
    if best is None:
        raise InputFileError(
            f"{path} is in no encoding that can be told", "Convert it to UTF-8, or name its encoding with --encoding"
        )
    if is_latin(str(best)):
        return _latin(looked_at, best.encoding)
    return next((name for name in USUAL if name in best.could_be_from_charset), best.encoding)


def _telling(data: bytes) -> bytes:
    """The lines with bytes beyond ASCII, up to `LOOKED_AT`: charset-normalizer sees samples, which may be all ASCII."""
    if b"\0" in data:
        # UTF-16, in which a line end is more than its byte.
        return data[:LOOKED_AT]
    lines, size = [], 0
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            size += len(line)
            # Whole lines, so that no character is cut.
            if lines and size > LOOKED_AT:
                break
            lines.append(line)
    return b"".join(lines)[:LOOKED_AT]


def _latin(data: bytes, guess: str) -> str:
    """Which of the encodings for Latin script makes these bytes most like one language; the most usual of equals."""
    shares = {}
    for name in (*LATIN, guess):
        with suppress(UnicodeDecodeError):
            shares[name] = share_of_a_language(data.decode(name))
    return max(shares, key=lambda name: shares[name])
