"""Fetch one file over HTTP so that what lies in the cache is whole and right, or not there.

It grows as `<name>.partial`, from where an earlier try left off, and gets its name once size and SHA-256 are right.

Source: RFC 9110, section 14 (Range, Content-Range, 206 and 416).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from adaptgen import __version__
from adaptgen.config import ArchiveConfig
from adaptgen.errors import DownloadError, OutputFileError

__all__ = ["check_file", "digest_of", "fetch", "shown_size"]

CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30
RETRY_SECONDS = (1, 2, 4)
"""Waits after each failure in a row; after one more the download is given up."""
PROGRESS_BYTES = 1 << 20
"""A try that brought so much does not count as a failure, however it ended."""
TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


class _CutShortError(Exception):
    """The server or the network gave up in the middle; another try may do."""


def fetch(
    archive: ArchiveConfig, folder: Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Fetch a file into a folder, or find it there.

    Args:
        archive: what to fetch, and what it must be.
        folder: where it is kept; made if it is missing.
        on_progress: called with bytes there so far, and in all.

    Returns:
        The file, checked.

    Raises:
        DownloadError: there is no network, the server does not have the file, or what came is not the right one;
            that is then removed. After a cut connection the beginning is kept and used the next time.
        OutputFileError: it cannot be written, or there is too little room.
    """
    target, partial = folder / archive.name, folder / f"{archive.name}.partial"
    if target.exists():
        with _disk_errors(folder):
            _refuse(target, check_file(target, archive))
        return target
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = partial.open("ab")
    with file:
        _lock(file, partial)
        try:
            _fill(file, archive, on_progress)
        finally:
            if not file.tell():
                with suppress(OSError):
                    partial.unlink()
        file.flush()
        # Before another process may have it: of a large file it takes long.
        with _disk_errors(folder):
            problem = check_file(partial, archive)
    with _disk_errors(folder):
        _refuse(partial, problem)
        partial.replace(target)
    return target


def check_file(path: Path, archive: ArchiveConfig) -> str:
    """What is wrong with a file's size or SHA-256, naming what was found and what should be; empty if nothing is."""
    size = path.stat().st_size
    if size != archive.size_bytes:
        return f"{path} has {size:,} bytes, not {archive.size_bytes:,}"
    if archive.sha256 is not None and (found := digest_of(path)) != archive.sha256:
        return f"{path} has the SHA-256 {found}, not {archive.sha256}"
    return ""


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown_size(num_bytes: int) -> str:
    """A size for people, in units of a thousand."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"


def _refuse(path: Path, problem: str) -> None:
    """Remove a file if something is wrong with it, and say what."""
    if problem:
        path.unlink()
        raise DownloadError(
            f"{problem}, and was removed", "Run the command again; if this comes again, the file at its URL has changed"
        )


def _fill(file: IO[bytes], archive: ArchiveConfig, on_progress: Callable[[int, int], None]) -> None:
    """Append what is missing, with as many requests as it takes."""
    if file.tell() > archive.size_bytes:
        _empty(file)
    begun_at, failures = file.tell(), 0
    _check_room(Path(file.name).parent, archive.size_bytes - begun_at)
    on_progress(begun_at, archive.size_bytes)
    while (have := file.tell()) < archive.size_bytes:
        try:
            _append(file, archive, on_progress, has_begun=have > begun_at)
        except _CutShortError as cut:
            failures = 0 if file.tell() - have >= PROGRESS_BYTES else failures + 1
            if failures > len(RETRY_SECONDS):
                raise DownloadError(
                    f"{archive.url} stopped after {file.tell():,} of {archive.size_bytes:,} bytes: {cut}",
                    "Run the command again, which goes on from there",
                ) from None
            time.sleep(RETRY_SECONDS[max(0, failures - 1)])


def _append(
    file: IO[bytes], archive: ArchiveConfig, on_progress: Callable[[int, int], None], *, has_begun: bool
) -> None:
    """One request for what is missing."""
    with _open(archive, file.tell(), has_begun=has_begun) as response:
        if response.status == 416 or (file.tell() and not _goes_on(response, file.tell())):
            # What is there is longer than the server's file, or the server sends all of it whatever was asked for.
            _empty(file)
            if response.status != 200:
                raise _CutShortError("the server does not send the part that was asked for")
        if response.length is not None and file.tell() + response.length != archive.size_bytes:
            _refuse_size(file, archive, f"{file.tell() + response.length:,}")
        while chunk := _read(response):
            if file.tell() + len(chunk) > archive.size_bytes:
                _refuse_size(file, archive, "more")
            with _disk_errors(Path(file.name).parent):
                file.write(chunk)
                file.flush()
            on_progress(file.tell(), archive.size_bytes)
    if file.tell() < archive.size_bytes:
        raise _CutShortError("the connection was cut")


def _open(archive: ArchiveConfig, start: int, *, has_begun: bool) -> HTTPResponse | HTTPError:
    """The server's answer from a byte on; 416, where there is nothing from there on, is an answer too."""
    # Some hosts refuse Python's own name. A packed transfer would have another length.
    headers = {"User-Agent": f"adaptgen/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urlopen(Request(archive.url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in TRANSIENT_STATUS:
            raise _CutShortError(f"HTTP {error.code} {error.reason}") from None
        raise DownloadError(
            f"{archive.url} cannot be fetched: HTTP {error.code} {error.reason}",
            "Get the file elsewhere and give its folder with --source, or another URL with --set",
        ) from None
    except (OSError, HTTPException) as error:
        reason = _reason(error)
        if has_begun or not isinstance(error, URLError):
            raise _CutShortError(reason) from None
        raise DownloadError(
            f"{urlsplit(archive.url).netloc} cannot be reached for {archive.name}: {reason}",
            "Check the network, or give a folder that holds the file with --source",
        ) from None


def _goes_on(response: HTTPResponse, start: int) -> bool:
    """Whether a response goes on from a byte."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _CutShortError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Why the network failed, in a few words."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS} seconds"
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _refuse_size(file: IO[bytes], archive: ArchiveConfig, offered: str) -> None:
    _empty(file)
    raise DownloadError(
        f"{archive.url} has {offered} bytes, not {archive.size_bytes:,}",
        "It is not the file that the recipe describes; give a copy of that with --source",
    )


def _check_room(folder: Path, needed_bytes: int) -> None:
    if (free := shutil.disk_usage(folder).free) < needed_bytes:
        raise OutputFileError(
            f"{folder} has room for {shown_size(free)}, and {shown_size(needed_bytes)} are needed",
            "Free some space, or set ADAPTGEN_CACHE to another folder",
        )


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep two processes from writing the same file; where the system has no such locks, the SHA-256 must do."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DownloadError(f"{path} is being written by another process", "Wait until that has finished") from None


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of a full or forbidden disk into a sentence."""
    try:
        yield
    except OSError as error:
        raise OutputFileError(
            f"{folder} cannot be written: {error.strerror}", "Free some space, or set ADAPTGEN_CACHE to another folder"
        ) from None
