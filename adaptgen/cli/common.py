"""What verbs share: consoles, progress bars, and writing files without losing any."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.console import Console
from rich.text import Text

from adaptgen.errors import AdaptgenError, LostProcessError, OutputFileError, UsageError
from adaptgen.paths import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = [
    "EXIT_INTERRUPTED",
    "StopSignals",
    "first_process_speaks",
    "new_console",
    "print_error",
    "print_json",
    "progress_bar",
    "refuse_existing",
    "require_suffix",
    "result_file",
    "result_stem",
    "say",
    "stages_of",
    "write_new",
]

EXIT_INTERRUPTED = 130
UNSEEN_WIDTH = 200
"""Columns for tables that go to a file or another program."""
PARTIAL = ".adaptgen-"
"""How names of unfinished files begin: short, for a name as long as can be is a result's right."""


def new_console(*, stderr: bool = False) -> Console:
    """A console on today's stdout or stderr, which does not break lines where nobody sees them."""
    console = Console(stderr=stderr, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = UNSEEN_WIDTH
    return console


def say(message: str, *, style: str = "", stderr: bool = False) -> None:
    """Print a line as it is: brackets and colons in it mean nothing to rich."""
    new_console(stderr=stderr).print(Text(printable(message), style=style))


def print_error(error: AdaptgenError) -> None:
    """Print to stderr what is wrong and what to do about it."""
    say(f"Error: {error}", style="red", stderr=True)


def print_json(content: Any) -> None:
    """Print JSON to stdout, for machines: nothing but ASCII, no NaN."""
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def progress_bar(*, stderr: bool = False, is_hidden: bool = False, in_bytes: bool = False) -> Progress:
    """A bar with share done, ETA and a free text field `status`; silent where nobody watches, or if it is hidden.

    Add tasks with `add_task(description, total=..., status="")`. Counts of bytes are shown in larger units.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = new_console(stderr=stderr)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        console=console,
        disable=is_hidden or not console.is_terminal,
    )


def stages_of(bar: Progress) -> Callable[..., None]:
    """What shows on a bar how far each of several stages is: `show(stage, done, total, status="")`.

    A stage has a line of its own from its first call on.
    """
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int, status: str = "") -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total, status=status)
        bar.update(tasks[stage], completed=done, total=total, status=status)

    return show


@contextmanager
def first_process_speaks() -> Iterator[None]:
    """Of the processes that torchrun starts, let one alone say how things go, and one on each machine what is wrong.

    That another process was lost is said by all, since it may have been the one that speaks.
    """
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except LostProcessError:
            raise
        except AdaptgenError as error:
            if os.environ.get("LOCAL_RANK") == "0":
                raise
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None


class StopSignals:
    """Within it, the first Ctrl-C or SIGTERM is a request to stop soon; the second ends the program at once."""

    def __init__(self) -> None:
        self._is_requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def is_requested(self) -> bool:
        """Whether to stop."""
        return self._is_requested

    def _request(self, number: int, frame: object) -> None:
        self._is_requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def result_file(name: str) -> Path:
    """A result's name as the user wrote it: a slash at its end, which a path has not, says that it is a folder's.

    Raises:
        UsageError: it is a folder's.
    """
    if name.endswith(("/", os.sep)):
        if not os.path.isdir(name):
            raise UsageError(f"there is no folder {name} to write into", "Make it first, and give a file name in it")
        raise UsageError(f"-o {name} is a folder", "Give a file name, in it or elsewhere")
    return Path(name)


def result_stem(output: Path | None, default: str, suffixes: Collection[str]) -> Path:
    """What several results are named by, before their suffixes: `default`, or `output` without one of them.

    Raises:
        UsageError: `output` is a folder.
    """
    if output is None:
        return Path(default)
    if output.name in ("", "..") or output.is_dir():
        raise UsageError(f"-o {output} is a folder", "Give a file name, in it or elsewhere")
    return output.with_suffix("") if output.suffix.lower() in suffixes else output


def require_suffix(path: Path, suffix: str) -> None:
    """Keep a result from a name that promises another kind of file.

    Raises:
        UsageError: it ends in something else.
    """
    if path.suffix.lower() != suffix:
        raise UsageError(f"the result is a {suffix} file; -o names {path}", f"Give a name that ends in {suffix}")


def refuse_existing(paths: Iterable[Path], *, force: bool, inputs: Collection[Path] = ()) -> None:
    """Stop before any work is done if a result would overwrite a file.

    Raises:
        OutputFileError: one of them exists and `force` is not set, or cannot be written there.
        UsageError: one of them is one of the inputs.
    """
    for path in paths:
        for read in inputs:
            if path.exists() and read.exists() and path.samefile(read):
                raise UsageError(f"{read} would be overwritten by its own result", "Give another name with -o")
        if path.exists() and not path.is_file():
            raise OutputFileError(f"{path} is not a regular file", "Give another file name with -o")
        if path.exists() and not force:
            raise _exists(path)
        folder = _behind_links(path).parent
        if not folder.is_dir():
            raise OutputFileError(f"{path} cannot be written: there is no folder {folder}", "Make it first")
        if not os.access(folder, os.W_OK):
            raise OutputFileError(f"{path} cannot be written: no permission in {folder}", "Use -o elsewhere")


def write_new(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file at one go: there is never half of it. One that is overwritten keeps its permissions.

    Raises:
        OutputFileError: it exists and `force` is not set, or cannot be written.
    """
    refuse_existing([path], force=force)
    target = _behind_links(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            # mkstemp's files are for their owner's eyes only.
            partial.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask())
            if force:
                partial.replace(target)
            else:
                _rename_to_new(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise OutputFileError(f"{path} cannot be written: {error.strerror}", "Use -o for another place") from None


def _exists(path: Path) -> OutputFileError:
    return OutputFileError(f"{path} exists already", "Use --force to overwrite it, or -o for another name")


def _rename_to_new(partial: Path, target: Path) -> None:
    """Give a finished file its name, if no other process has taken that in the meantime.

    Raises:
        FileExistsError: one has.
    """
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        partial.replace(target)


def _behind_links(path: Path) -> Path:
    """The file that a symbolic link stands for; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _umask() -> int:
    """The permissions that new files do not get; to be read it must be set."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
