"""What adaptgen says when it cannot do what was asked.

Every error that a user can cause is an `AdaptgenError`: one sentence that names the file, the place and the
value, and one remedy. The command line prints it and exits with `exit_code`; it never shows a traceback for
these. A mistake of ours is an `AssertionError` or whatever Python raises, and is meant to be reported.
"""

from __future__ import annotations

import errno

__all__ = [
    "AdaptgenError",
    "CheckpointError",
    "DownloadError",
    "InputFileError",
    "LostProcessError",
    "OutputFileError",
    "RecipeError",
    "UsageError",
    "is_of_full_memory",
]

SIGNS_OF_FULL_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""In what torch says of main memory, on Linux and macOS and on Windows, and of an accelerator's."""


class AdaptgenError(Exception):
    """Something the user can mend.

    Args:
        problem: what is wrong, naming file, place and value; a sentence without its full stop.
        remedy: what to do about it, a sentence without its full stop; empty if `problem` says it all.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}." if remedy else f"{problem}.")

    def __reduce__(self) -> tuple[type[AdaptgenError], tuple[str, str]]:
        """Both sentences, so that an error comes whole out of another process."""
        return type(self), (self.problem, self.remedy)


class UsageError(AdaptgenError):
    """The command line or the arguments of a call make no sense together."""

    exit_code = 2


class InputFileError(AdaptgenError):
    """A file that the user gave cannot be read or is not what it should be."""


class LostProcessError(AdaptgenError):
    """Another of the processes that share a run is no longer there."""


class OutputFileError(AdaptgenError):
    """A result cannot be written where the user wants it."""


class CheckpointError(AdaptgenError):
    """A checkpoint is missing, damaged or does not fit its use."""


class DownloadError(AdaptgenError):
    """Data that a recipe names cannot be fetched, or are not what the recipe says."""


class RecipeError(AdaptgenError):
    """A recipe has a key or a value that it should not have."""


def is_of_full_memory(error: BaseException) -> bool:
    """Whether Python, the system or torch says that there is not enough memory."""
    if isinstance(error, RuntimeError):
        return any(sign in str(error) for sign in SIGNS_OF_FULL_MEMORY)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
