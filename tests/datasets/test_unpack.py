"""Archives that mean harm, or are broken, are refused, and nothing appears outside the folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from stand_ins import zip_of

from adaptgen.datasets.unpack import unpack
from adaptgen.errors import InputFileError

FILES = {"a/one.txt": b"1" * 1000, "a/b/two.txt": b"2"}


def tar_of(members: list[tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as packed:
        for member in members:
            packed.addfile(member, io.BytesIO(b"x" * member.size))
    return content.getvalue()


def tar_member(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, target
    return member


def zip_link(name: str, target: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, target)
    return content.getvalue()


def damaged_bzip2() -> bytes:
    """Its first block is whole, and the one that follows is not."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:bz2") as packed:
        packed.addfile(tar_member("a", size=2_000_000), io.BytesIO(os.urandom(2_000_000)))
    data = bytearray(content.getvalue())
    data[1_500_000:1_500_100] = bytes(100)
    return bytes(data)


def twice() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a", "2")
    return content.getvalue()


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    return folder


def test_unpacks_zip_files(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "archive").write_bytes(zip_of({"empty/": b"", **FILES}))
    seen = []
    unpack(tmp_path / "archive", folder, on_progress=lambda done, total: seen.append((done, total)))
    assert below(folder) == FILES
    assert seen[-1] == (1001, 1001)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_unpacks_tape_archives(tmp_path: Path, folder: Path, mode: str) -> None:
    members = [tar_member(".", kind=tarfile.DIRTYPE), tar_member("./a/one.txt", size=3), tar_member("two.txt", size=1)]
    (tmp_path / "archive").write_bytes(tar_of(members, mode))
    unpack(tmp_path / "archive", folder)
    assert below(folder) == {"a/one.txt": b"xxx", "two.txt": b"x"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (zip_of({"../../out": b"x"}), "has a member '../../out' that leads out of its folder"),
        (zip_of({"/tmp/out": b"x"}), "leads out of its folder"),
        (zip_of({"a/../../../out": b"x"}), "leads out of its folder"),
        (zip_of({"..\\out": b"x"}), "leads out of its folder"),
        (zip_of({"C:/out": b"x"}), "leads out of its folder"),
        (zip_link("link", "/etc"), "has a member 'link' that is a link or a device"),
        (tar_of([tar_member("../../out", size=1)]), "leads out of its folder"),
        (tar_of([tar_member("/out", size=1)]), "leads out of its folder"),
        (tar_of([tar_member("link", kind=tarfile.SYMTYPE, target="/etc")]), "'link' that is a link or a device"),
        (tar_of([tar_member("link", kind=tarfile.LNKTYPE, target="/etc/passwd")]), "is a link or a device"),
        (tar_of([tar_member("null", kind=tarfile.CHRTYPE)]), "is a link or a device"),
        (zip_of({"bomb": bytes(200_000_000)}), "unpacks to more than"),
        (tar_of([tar_member("a", size=1), tar_member("a", size=1)]), "has the member 'a' twice"),
        (tar_of([tar_member("a", size=1), tar_member("a/b", size=1)]), "has the member 'a/b' below one that is a file"),
        (zip_of({"a": b"x", "a/b/c": b"x"}), "has the member 'a/b/c' below one that is a file"),
        (zip_of({"a/b": b"x", "a": b"x"}), "has the member 'a' twice"),
        (damaged_bzip2(), "cannot be unpacked: Invalid data stream"),
        (b"plain text", "is neither a ZIP file nor a tape archive"),
        (zip_of({"a": os.urandom(9000)})[:-4000], "is neither a ZIP file nor a tape archive"),
        (tar_of([tar_member("a", size=900_000)])[:-100], "cannot be unpacked"),
    ],
)
def test_refuses_what_is_not_to_be_trusted(tmp_path: Path, folder: Path, content: bytes, expected: str) -> None:
    (tmp_path / "archive").write_bytes(content)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(InputFileError) as caught:
        unpack(tmp_path / "archive", folder)
    assert expected in str(caught.value)
    assert str(tmp_path / "archive") in str(caught.value)
    assert all(folder in path.parents for path in set(tmp_path.rglob("*")) - before)


def test_a_damaged_member_is_found(tmp_path: Path, folder: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("a", b"right content")
    (tmp_path / "archive").write_bytes(content.getvalue().replace(b"right", b"wrong"))
    with pytest.raises(InputFileError, match="cannot be unpacked: Bad CRC-32"):
        unpack(tmp_path / "archive", folder)


def test_a_member_that_comes_twice_in_a_zip_file(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "archive").write_bytes(twice())
    with pytest.raises(InputFileError, match="has the member 'a' twice"):
        unpack(tmp_path / "archive", folder)
