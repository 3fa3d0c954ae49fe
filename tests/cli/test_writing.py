"""How results are written: whole or not at all, where and for whom the user wants them."""

from __future__ import annotations

import stat
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


class Overtaken(FullDisk):
    """An open file that takes so long to write that another process has its result's name first."""

    target: Path

    def write(self, content: bytes) -> None:
        self.target.write_bytes(b"another's")
        self.file.write(content)


def test_what_another_process_writes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overtaken, "target", tmp_path / "song.mid", raising=False)
    monkeypatch.setattr("os.fdopen", Overtaken)
    with pytest.raises(OutputFileError, match="exists already"):
        write_new(Overtaken.target, b"new", force=False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"song.mid": b"another's"}
    write_new(Overtaken.target, b"new", force=True)
    assert Overtaken.target.read_bytes() == b"new"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * (LONGEST_NAME - len(".mid")) + ".mid")
    write_new(path, b"new", force=False)
    assert path.read_bytes() == b"new"


def test_permissions_are_kept_and_those_of_a_new_file_are_usual(tmp_path: Path) -> None:
    usual, old, new = (tmp_path / name for name in ("usual", "old", "new"))
    usual.touch()
    old.write_bytes(b"old")
    old.chmod(0o600)
    for path in (old, new):
        write_new(path, b"new", force=True)
        assert path.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert new.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_leads_to_the_result(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "target"
    link.symlink_to(Path("elsewhere") / "target")
    if is_there:
        target.write_bytes(b"old")
        with pytest.raises(OutputFileError, match="exists already"):
            write_new(link, b"new", force=False)
    write_new(link, b"new", force=is_there)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_link_into_no_folder_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" / "target")
    with pytest.raises(OutputFileError, match="there is no folder"):
        write_new(link, b"new", force=False)
