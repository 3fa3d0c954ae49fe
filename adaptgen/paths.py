"""Paths as users write them, and as they are shown."""

from __future__ import annotations

from pathlib import Path

from adaptgen.errors import InputFileError

__all__ = ["printable", "user_path"]


def user_path(text: str) -> Path:
    """The path with `~` and `~name` resolved.

    Raises:
        InputFileError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputFileError(f"{text} names a home folder that is not known here", "Give the whole path") from None


def printable(text: str) -> str:
    """Text with control characters and undecodable bytes, which file names may have, written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
