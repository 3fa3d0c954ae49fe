"""Unpack an archive from the network, which may be made to do harm.

Whatever is in it, only new regular files below one new folder come out, and not absurdly many bytes. Both kinds of
archive go through the same few lines, so that there is one thing to trust: names are checked and refused, not mended
(as `zipfile` does), nothing but regular files is made, and so there is no link to follow. `tarfile`'s own filter of
that purpose is not in every Python 3.11.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from adaptgen.errors import InputFileError

__all__ = ["check_path", "unpack"]

MAX_EXPANSION, ALWAYS_ALLOWED_BYTES = 100, 1 << 20
"""An archive may hold so many times its own size, and so much in any case. Text packs to a third or fourth, the
benchmarks' archives to half or less; a bomb of one layer is a thousand times as large as its file."""
MAX_MEMBERS = 1_000_000
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
)
"""What the library raises for archives that are cut, encrypted or made up."""


@dataclass(frozen=True)
class _Member:
    """One entry of an archive."""

    name: str
    size_bytes: int
    kind: str
    """file, folder or other."""
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Unpack a ZIP file or a tape archive, packed or not, below a folder.

    Args:
        archive: told by its content, not its name.
        folder: exists, and holds none of the files.
        on_progress: called with bytes unpacked so far, and in all as far as is known.

    Raises:
        InputFileError: it is no archive, is damaged, or has a member that leads out of the folder, is a link or a
            device, comes twice, or lies below another that is a file; or it grows beyond all measure.
        OSError: the files cannot be written.
    """
    limit = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * archive.stat().st_size)
    done = 0
    try:
        with closing(_members(archive)) as members:
            for number, (member, total) in enumerate(members):
                path = _checked(member, archive)
                done += member.size_bytes
                if done > limit or number >= MAX_MEMBERS:
                    raise InputFileError(
                        f"{archive} unpacks to more than {limit:,} bytes or {MAX_MEMBERS:,} files", "Do not trust it"
                    )
                if member.kind == "file":
                    _write(member, archive, folder / path)
                on_progress(done, max(done, total))
    except (*DAMAGED, OSError) as error:
        # What bz2 raises for damaged data is an OSError without a number, which no error of the system is.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputFileError(f"{archive} cannot be unpacked: {error}", "Get it again") from None


def check_path(name: str) -> PurePosixPath | None:
    """A relative path that stays below where it begins, in any system; None for every other one."""
    path, parts = PurePosixPath(name), PureWindowsPath(name)
    is_outside = path.is_absolute() or parts.drive or parts.root or ".." in parts.parts
    return None if is_outside or "\0" in name or "\\" in name or not path.parts else path


def _checked(member: _Member, archive: Path) -> PurePosixPath:
    path = PurePosixPath() if member.name in (".", "./") else check_path(member.name)
    if path is None:
        raise InputFileError(f"{archive} has a member {member.name!r} that leads out of its folder", "Do not trust it")
    if member.kind == "other":
        raise InputFileError(f"{archive} has a member {member.name!r} that is a link or a device", "Do not trust it")
    return path


def _write(member: _Member, archive: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputFileError(
            f"{archive} has the member {member.name!r} below one that is a file", "Do not trust it"
        ) from None
    if path.exists():
        raise InputFileError(f"{archive} has the member {member.name!r} twice", "Do not trust it")
    with member.open() as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)


def _members(archive: Path) -> Iterator[tuple[_Member, int]]:
    """Each member, and the bytes of all as far as they are known without reading on."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            total = sum(info.file_size for info in packed.infolist())
            for entry in packed.infolist():
                yield _Member(entry.filename, entry.file_size, _zip_kind(entry), partial(packed.open, entry)), total
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed:
            for entry in packed:
                kind = "file" if entry.isreg() and not entry.issparse() else "folder" if entry.isdir() else "other"
                yield _Member(entry.name, entry.size, kind, partial(packed.extractfile, entry)), 0
    else:
        raise InputFileError(f"{archive} is neither a ZIP file nor a tape archive", "Get it again")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode in (0, stat.S_IFREG, stat.S_IFDIR):
        return "folder" if info.is_dir() else "file"
    return "other"
