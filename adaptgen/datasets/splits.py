"""Bring unpacked files into the folders train, validation and test, by a recipe's rule."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from adaptgen.config import CutConfig, FilesConfig, SplitsConfig, TableConfig
from adaptgen.corpus_files import SPLITS
from adaptgen.datasets.unpack import check_path
from adaptgen.errors import InputFileError

__all__ = ["Part", "Unpacked", "find_parts", "write_parts"]

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """A file, or a stretch of one, that belongs to a split."""

    split: str
    name: str
    """Below the split's folder, with slashes."""
    source: Path
    start: int = 0
    stop: int | None = None
    """Bytes of the source; None is its end."""


@dataclass(frozen=True)
class Unpacked:
    """What archives held, and what to say where that is not what it should be."""

    folders: tuple[Path, ...]
    """One of each archive, since several may hold a README of the same name; or that of a copy."""
    origin: str
    """Where it comes from."""
    remedy: str

    def name_of(self, path: Path) -> str:
        """Of a file in one of the folders, below that, with slashes."""
        folder = next(folder for folder in self.folders if path.is_relative_to(folder))
        return path.relative_to(folder).as_posix()


def find_parts(unpacked: Unpacked, splits: SplitsConfig) -> list[Part]:
    """What the splits consist of.

    Raises:
        InputFileError: a file that the rule names is missing, is there twice, is in two splits, or is not as it says.
    """
    if splits.cut is not None:
        parts = _cut(unpacked, splits.cut)
    elif splits.files is not None:
        parts = _files(unpacked, splits.files)
    else:
        assert splits.table is not None, "the schema allows no other"
        parts = _table(unpacked, splits.table)
    parts.sort(key=lambda part: (SPLITS.index(part.split), part.name))
    for part, after in pairwise(parts):
        if (part.split, part.name) == (after.split, after.name):
            raise InputFileError(f"{unpacked.origin} hold {part.name} twice", unpacked.remedy)
    split_of: dict[Path, str] = {}
    for part in parts:
        # Of a file that is cut, each split has a stretch of its own.
        if part.stop is None and (first := split_of.setdefault(part.source, part.split)) != part.split:
            raise InputFileError(
                f"{part.name} from {unpacked.origin} is in two splits, {first} and {part.split}",
                "Mend data.download.splits in the recipe, or the table that it names",
            )
    return parts


def write_parts(
    parts: list[Part],
    folder: Path,
    splits: SplitsConfig,
    *,
    may_move: bool,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write train/, validation/ and test/ below a new folder.

    Args:
        parts: what belongs where.
        folder: exists, and is empty.
        splits: how names end, and how large the pieces of training files may be.
        may_move: whether whole files need not stay where they are.
        on_progress: called with parts done and in all.

    Raises:
        OSError: it cannot be written.
    """
    for done, part in enumerate(parts, start=1):
        target = folder / part.split / (part.name + splits.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        is_whole = part.start == 0 and part.stop is None
        if is_whole and may_move:
            part.source.replace(target)
        elif is_whole:
            shutil.copyfile(part.source, target)
        else:
            _copy_stretch(part, target)
        if part.split == "train" and splits.train_piece_bytes is not None:
            _cut_into_pieces(target, splits.suffix, splits.train_piece_bytes)
        on_progress(done, len(parts))


def _cut(unpacked: Unpacked, rule: CutConfig) -> list[Part]:
    path = _find_one(unpacked, rule.file)
    sizes = (rule.train_bytes, rule.validation_bytes, rule.test_bytes)
    if (size := path.stat().st_size) != sum(sizes):
        raise InputFileError(
            f"{path.name} from {unpacked.origin} has {size:,} bytes, and the splits take {sum(sizes):,}",
            unpacked.remedy,
        )
    stops = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [
        Part(split, path.name, path, stop - size, stop) for split, size, stop in zip(SPLITS, sizes, stops, strict=True)
    ]


def _files(unpacked: Unpacked, rule: FilesConfig) -> list[Part]:
    parts = []
    for split, pattern in zip(SPLITS, (rule.train, rule.validation, rule.test), strict=True):
        parts += [Part(split, unpacked.name_of(path), path) for path in _find(unpacked, pattern)]
    return parts


def _table(unpacked: Unpacked, rule: TableConfig) -> list[Part]:
    path = _find_one(unpacked, rule.file)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(f"{path.name} from {unpacked.origin} is no CSV file: {error}", unpacked.remedy) from None
    parts = []
    for line, row in enumerate(rows, start=2):
        split, name = row.get(rule.split_column), row.get(rule.path_column)
        below = check_path(name or "")
        if split not in SPLITS or below is None or not (path.parent / below).is_file():
            raise InputFileError(
                f"row {line} of {path.name} from {unpacked.origin} says {rule.split_column} = {split!r} and "
                f"{rule.path_column} = {name!r}, which is not a split and a file that is there",
                unpacked.remedy,
            )
        parts.append(Part(split, below.as_posix(), path.parent / below))
    for split in SPLITS:
        if not any(part.split == split for part in parts):
            raise InputFileError(
                f"{path.name} from {unpacked.origin} names no file of the {split} split", unpacked.remedy
            )
    return parts


def _find(unpacked: Unpacked, pattern: str) -> list[Path]:
    found = sorted(path for folder in unpacked.folders for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise InputFileError(f"{unpacked.origin} holds no file {pattern.removeprefix('**/')}", unpacked.remedy)
    return found


def _find_one(unpacked: Unpacked, pattern: str) -> Path:
    found = _find(unpacked, pattern)
    if len(found) > 1:
        names = " and ".join(unpacked.name_of(path) for path in found[:2])
        raise InputFileError(f"{unpacked.origin} holds both {names}", "Leave one of them there")
    return found[0]


def _copy_stretch(part: Part, target: Path) -> None:
    with part.source.open("rb") as source, target.open("xb") as file:
        source.seek(part.start)
        left = part.stop - part.start
        while left and (content := source.read(min(left, COPY_BYTES))):
            file.write(content)
            left -= len(content)


def _cut_into_pieces(path: Path, suffix: str, piece_bytes: int) -> None:
    """Put files `name.0000.suffix` and so on in the place of one that is larger than a piece."""
    if path.stat().st_size <= piece_bytes:
        return
    stem, number, rest = path.name.removesuffix(suffix), 0, b""
    with path.open("rb") as source:
        while content := rest + source.read(piece_bytes - len(rest)):
            is_last = len(content) < piece_bytes
            stop = len(content) if is_last else _last_break(content)
            (path.parent / f"{stem}.{number:04}{suffix}").write_bytes(content[:stop])
            rest, number = content[stop:], number + 1
    path.unlink()


def _last_break(content: bytes) -> int:
    """Where a piece of text ends: after its last line end, or else its last blank, or else its last byte."""
    return content.rfind(b"\n") + 1 or content.rfind(b" ") + 1 or len(content)
