"""How results are written: whole or not at all, where and for whom the user wants them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptgen.cli.common import write_new
from adaptgen.errors import OutputFileError

LONGEST_NAME = 255
"""Bytes, on the usual file systems."""


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


class FullDisk:
    """An open file of which only the beginning can be written."""

    def __init__(self, handle: int, mode: str) -> None:
        self.file = open(handle, mode)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[:2])
        full_disk()


@pytest.mark.parametrize(("what", "stand_in"), [("os.fdopen", FullDisk), ("pathlib.Path.replace", full_disk)])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failed_write_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, stand_in: object, old: bytes | None
) -> None:
    path = tmp_path / "song.mid"
    if old is not None:
        path.write_bytes(old)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(what, stand_in)
        with pytest.raises(OutputFileError, match="cannot be written: No space left"):
            write_new(path, b"new content", force=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    write_new(path, b"new content", force=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"song.mid": b"new content"}


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * (LONGEST_NAME - len(".mid")) + ".mid")
    write_new(path, b"new", force=False)
    assert path.read_bytes() == b"new"
