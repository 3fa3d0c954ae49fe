"""Published data, brought into folders of files by what a recipe says about them: fetched, checked, unpacked, split.

Nothing in here knows what kind of data it is. Below the cache folder, downloads/ holds archives as published and
datasets/ holds what was made of them, each in a folder with train/, validation/ and test/, which is made at one go.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptgen.config import ArchiveConfig, DownloadConfig
from adaptgen.datasets.download import check_file, digest_of, fetch, shown_size
from adaptgen.datasets.splits import Part, Unpacked, find_parts, write_parts
from adaptgen.datasets.unpack import unpack
from adaptgen.errors import InputFileError, OutputFileError
from adaptgen.shards import cache_folder

__all__ = ["find_dataset"]

LAYOUT_VERSION = 1
ABOUT = "about.json"

Progress = Callable[[str, int, int], None]


def find_dataset(
    config: DownloadConfig,
    *,
    name: str,
    source: Path | None = None,
    on_progress: Progress = lambda task, done, total: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Path:
    """The folder of a published data set, with train/, validation/ and test/; from the cache if it is there.

    Args:
        config: what it is, where it is and how it is split.
        name: how its folder's name begins.
        source: a folder with a copy of the archives or of what they unpack to, or the one archive; nothing is then
            fetched.
        on_progress: called with what is being done, how far it is, and how far it goes.
        on_message: called with a line about the licence, and about what could not be checked.

    Raises:
        DownloadError: it cannot be fetched, or is not what the recipe says.
        InputFileError: the copy is missing or not what the recipe says, or an archive cannot be unpacked.
        OutputFileError: the cache cannot be written.
    """
    folder = cache_folder() / "datasets"
    if source is None:
        digests = [archive.sha256 for archive in config.archives]
        if all(digests) and (ready := folder / _name(name, config, digests)).is_dir():
            return ready
        archives = _fetch(config, on_progress, on_message)
    else:
        archives = _find_archives(config, source)
    if archives:
        digests = _report_digests(config, archives, on_message)
        if (ready := folder / _name(name, config, digests)).is_dir():
            return ready
    with _scratch(folder) as scratch:
        if archives:
            unpacked = _unpack_all(archives, scratch / "unpacked", on_progress)
        else:
            names = " and ".join(archive.name for archive in config.archives)
            unpacked = Unpacked((source,), str(source), f"Put {names} there, or what comes out of it")
        parts = find_parts(unpacked, config.splits)
        _check_sums(parts, config.checksums)
        ready = folder / _name(name, config, digests if archives else _digests_of(parts))
        if ready.is_dir():
            return ready
        made = scratch / "made"
        made.mkdir()
        arranging = _named(f"Arranging {name}", on_progress)
        write_parts(parts, made, config.splits, may_move=bool(archives), on_progress=arranging)
        _write_about(made / ABOUT, config, source, digests if archives else None)
        return _put(made, ready)


def _fetch(config: DownloadConfig, on_progress: Progress, on_message: Callable[[str], None]) -> list[Path]:
    missing = [archive for archive in config.archives if not (_download_folder(archive) / archive.name).exists()]
    for archive in missing:
        on_message(f"Fetching {shown_size(archive.size_bytes)} from {archive.url}")
    if missing:
        on_message(f"Licence: {config.licence}")
    return [
        fetch(archive, _download_folder(archive), on_progress=_named(f"Fetching {archive.name}", on_progress))
        for archive in config.archives
    ]


def _download_folder(archive: ArchiveConfig) -> Path:
    """A folder for each URL and content, so that files of one name do not meet."""
    key = f"{archive.url} {archive.sha256}".encode()
    return cache_folder() / "downloads" / hashlib.sha256(key).hexdigest()[:16]


def _find_archives(config: DownloadConfig, source: Path) -> list[Path]:
    """The archives in a folder; none if it is to hold what they unpack to.

    Raises:
        InputFileError: there is no such folder, or one of the archives is not the right one or missing.
    """
    if source.is_file() and len(config.archives) == 1:
        paths = [source]
    elif source.is_dir():
        paths = [source / archive.name for archive in config.archives]
    else:
        raise InputFileError(f"there is no folder {source}", "Give one that holds a copy of the data with --source")
    there = [path for path in paths if path.is_file()]
    for path in paths if there else []:
        if path not in there:
            raise InputFileError(f"{source} has no {path.name}", "Put it there, beside the others")
    for archive, path in zip(config.archives, there, strict=False):
        if problem := check_file(path, archive):
            raise InputFileError(problem, "Get it again, or leave --source out")
    return there


def _report_digests(config: DownloadConfig, archives: list[Path], on_message: Callable[[str], None]) -> list[str]:
    """SHA-256 of archives that are right as far as the recipe can tell; those that it does not name are said."""
    digests = []
    for archive, path in zip(config.archives, archives, strict=True):
        digests.append(archive.sha256 or digest_of(path))
        if archive.sha256 is None:
            on_message(
                f"{archive.name} has the SHA-256 {digests[-1]}; the recipe names none, so its size alone was checked"
            )
    return digests


def _unpack_all(archives: list[Path], folder: Path, on_progress: Progress) -> Unpacked:
    folders = tuple(folder / str(number) for number in range(len(archives)))
    for path, own in zip(archives, folders, strict=True):
        own.mkdir(parents=True)
        unpack(path, own, on_progress=_named(f"Unpacking {path.name}", on_progress))
    names = " and ".join(path.name for path in archives)
    return Unpacked(folders, names, "It is not what the recipe describes; get another")


def _check_sums(parts: list[Part], checksums: dict[str, str]) -> None:
    for path in {part.source for part in parts}:
        expected = checksums.get(path.name)
        if expected is not None and (found := digest_of(path)) != expected:
            raise InputFileError(f"{path} has the SHA-256 {found}, not {expected}", "Get it again")


def _digests_of(parts: list[Part]) -> list[str]:
    """What tells copies apart that came without their archive."""
    digests = {path: digest_of(path) for path in {part.source for part in parts}}
    return [f"{part.split}/{part.name} {digests[part.source]}" for part in parts]


def _name(name: str, config: DownloadConfig, digests: list[str]) -> str:
    """Of the folder: changes with the content, and with the rule that made it."""
    key = [LAYOUT_VERSION, digests, config.splits.model_dump(mode="json")]
    return f"{name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"


def _write_about(path: Path, config: DownloadConfig, source: Path | None, digests: list[str] | None) -> None:
    """Keep with the files where they come from and under which terms."""
    about = {
        "licence": config.licence,
        "archives": [archive.model_dump(mode="json") for archive in config.archives],
        "source": None if source is None else str(source),
        "sha256": digests,
    }
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _put(made: Path, target: Path) -> Path:
    """Give a finished folder its name, unless another process was faster."""
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    return target


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for what is not finished, beside what is; gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix="."))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise OutputFileError(
            f"{error.filename or folder} cannot be read or written: {error.strerror}",
            "Free some space, or set ADAPTGEN_CACHE to another folder",
        ) from None


def _named(task: str, on_progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(task, done, total)
