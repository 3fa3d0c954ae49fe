"""Files of a corpus: which a folder holds, and which of them are for training, validation and test."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from adaptgen.config import DataConfig

__all__ = ["SPLITS", "find_files", "has_split_folders", "split_files"]

SPLITS = ("train", "validation", "test")
LARGEST_HELD_OUT = 0.25
"""Share of a folder's bytes in one file beyond which it is trained on, unless there are too few smaller ones."""


def find_files(
    folder: Path, suffixes: Sequence[str], *, on_unreadable: Callable[[Path], None] = lambda folder: None
) -> list[Path]:
    """Every file below a folder that has one of the suffixes, sorted; hidden ones are left out. A file is itself.

    Pipes, devices and the like are left out too. Links to folders are followed, into each folder once. `on_unreadable`
    is called with a folder that may not be read.
    """
    if folder.is_file():
        return [folder] if folder.name.lower().endswith(tuple(suffixes)) else []
    found, entered = [], set()
    walk = os.walk(folder, onerror=lambda error: on_unreadable(Path(error.filename)), followlinks=True)
    for parent, folders, names in walk:
        place = Path(parent).stat()
        if (place.st_dev, place.st_ino) in entered:
            folders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent) / name
            for name in sorted(names)
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)) and not _is_special(parent, name)
        ]
    return found


def _is_special(parent: str, name: str) -> bool:
    """Whether it is something to wait at, such as a pipe; what cannot be looked at is left to the reader to name."""
    try:
        return not stat.S_ISREG(os.stat(os.path.join(parent, name)).st_mode)
    except OSError:
        return False


def split_files(folder: Path, suffixes: Sequence[str], config: DataConfig) -> dict[str, list[tuple[Path, str]]]:
    """Files of each split with the hash of their content.

    Folders named train, validation and test are taken as they are, and so are files in the folder itself that are
    named so before their suffix, if there is more than train; what lies beside them is in no split. Otherwise files
    are dealt out by their hash: names do not matter, and copies of a file fall on the same side. Other files in the
    folder can move it. Held out are as many files as the shares say, but no empty one, and none with more than a
    quarter of all bytes if there are smaller ones: a novel among notes is to be trained on.
    """
    if has_split_folders(folder):
        return {split: _hashed(find_files(folder / split, suffixes)) for split in SPLITS}
    found = find_files(folder, suffixes)
    here = [path for path in found if path.parent == folder]
    named = {split: [path for path in here if path.name.split(".")[0].lower() == split] for split in SPLITS}
    if named["train"] and (named["validation"] or named["test"]):
        return {split: _hashed(paths) for split, paths in named.items()}
    files = _hashed(found)
    sizes: Counter[str] = Counter()
    for path, digest in files:
        sizes[digest] += _size(path)
    left = sorted(digest for digest, size in sizes.items() if size)
    num_files, num_bytes, side = len(left), sizes.total(), {}
    for split, share in (("validation", config.validation_share), ("test", config.test_share)):
        count = min(round(share * num_files) or int(share > 0), max(0, len(left) - 1))
        smallest = sorted(sizes[digest] for digest in left)[:count]
        largest = max([LARGEST_HELD_OUT * num_bytes, *smallest])
        held_out = [digest for digest in left if sizes[digest] <= largest][:count]
        side.update(dict.fromkeys(held_out, split))
        left = [digest for digest in left if digest not in side]
    return {split: [item for item in files if side.get(item[1], "train") == split] for split in SPLITS}


def _size(path: Path) -> int:
    """Bytes of a file, 0 if it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def has_split_folders(folder: Path) -> bool:
    """Whether a folder says itself what is in which split."""
    return (folder / "train").is_dir()


def _hashed(files: list[Path]) -> list[tuple[Path, str]]:
    result = []
    for path in files:
        try:
            with path.open("rb") as file:
                result.append((path, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError:
            # The reader will say what is wrong with it.
            result.append((path, hashlib.sha256(os.fsencode(path)).hexdigest()))
    return result
