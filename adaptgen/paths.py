"""Paths as users write them, and as they and commands with them are shown."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from adaptgen.errors import InputFileError

__all__ = ["command_line", "printable", "user_path"]


def user_path(text: str) -> Path:
    """The path with `~` and `~name` resolved.

    Raises:
        InputFileError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputFileError(f"{text} names a home folder that is not known here", "Give the whole path") from None


def command_line(arguments: Sequence[str]) -> str:
    """A command as it is typed here, quoted for a POSIX shell or, on Windows, for cmd and PowerShell."""
    return subprocess.list2cmdline(arguments) if os.name == "nt" else shlex.join(arguments)


def printable(text: str) -> str:
    """Text with control characters and undecodable bytes, which file names may have, written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
