"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from adaptgen.errors import InputFileError

__all__ = ["user_path"]


def user_path(text: str) -> Path:
    """The path with `~` and `~name` resolved.

    Raises:
        InputFileError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputFileError(f"{text} names a home folder that is not known here", "Give the whole path") from None
