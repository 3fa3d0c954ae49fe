"""Fetching a file from a server, whatever the server does."""

from __future__ import annotations

import fcntl
import hashlib
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stand_ins import FileServer, archive_of

from adaptgen.config import ArchiveConfig
from adaptgen.datasets import download
from adaptgen.datasets.download import fetch
from adaptgen.errors import AdaptgenError, DownloadError, OutputFileError

CONTENT = bytes(range(256)) * 1000
PROGRAM = """
import signal, sys
from pathlib import Path
from adaptgen.config import ArchiveConfig
from adaptgen.datasets.download import fetch
# A background job of a shell is started with interrupts ignored, and so is what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
fetch(ArchiveConfig(url=sys.argv[1], size_bytes=int(sys.argv[2])), Path(sys.argv[3]),
         on_progress=lambda done, total: print(done, flush=True))
"""


def error_of(server: FileServer, archive: object, folder: Path) -> str:
    with pytest.raises(AdaptgenError) as caught:
        fetch(archive, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_brings_the_right_bytes_and_says_how_far_it_is(server: FileServer, tmp_path: Path) -> None:
    archive, seen = server.offer("a.zip", CONTENT), []
    path = fetch(archive, tmp_path / "new", on_progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.zip"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_the_second_time_there_is_no_need_of_a_server(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    first = fetch(archive, tmp_path / "new")
    server.stop()
    assert fetch(archive, tmp_path / "new") == first


def test_a_cut_connection_is_taken_up_in_the_same_run(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.cuts = [100_000, 50_000, None]
    assert fetch(archive, tmp_path / "new").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_what_came_before_a_cut_is_kept_for_the_next_run(server: FileServer, tmp_path: Path) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    server.cuts = [70_000, 0]
    message = error_of(server, archive, folder)
    assert f"{archive.url} stopped after 70,000 of 256,000 bytes: the connection was cut. Run the command" in message
    assert len(server.ranges) == 4, "it is not tried for ever"
    assert names(folder) == ["a.zip.partial"]
    server.cuts, server.ranges = [None], []
    assert fetch(archive, folder).read_bytes() == CONTENT
    assert server.ranges == ["bytes=70000-"]
    assert names(folder) == ["a.zip"]


def test_a_server_without_ranges_begins_again(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.knows_ranges, server.cuts = False, [100_000, None]
    assert fetch(archive, tmp_path / "new").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("left", [b"x" * len(CONTENT), b"x" * 300_000], ids=["as long", "longer"])
def test_what_an_earlier_run_left_is_not_trusted(server: FileServer, tmp_path: Path, left: bytes) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    folder.mkdir()
    (folder / "a.zip.partial").write_bytes(left)
    if len(left) == len(CONTENT):
        assert "has the SHA-256" in error_of(server, archive, folder)
        assert names(folder) == []
    assert fetch(archive, folder).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.statuses = [503, 429]
    assert fetch(archive, tmp_path / "new").read_bytes() == CONTENT
    server.statuses = [503] * 9
    assert "stopped after 0 of 256,000 bytes: HTTP 503" in error_of(server, archive, tmp_path / "other")


def test_a_wrong_checksum_names_both_and_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    server.files["a.zip"] = CONTENT[::-1]
    message = error_of(server, archive, folder)
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in message
    assert f"not {archive.sha256}, and was removed. " in message
    assert names(folder) == []


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_of_another_size_is_refused(server: FileServer, tmp_path: Path, size: int, says_length: bool) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    server.files["a.zip"], server.says_length = (CONTENT + b"!")[:size], says_length
    message = error_of(server, archive, folder)
    if says_length:
        assert f"has {size:,} bytes, not 256,000" in message
    elif size > len(CONTENT):
        assert "has more bytes, not 256,000" in message
    else:
        assert "stopped after" in message, "where no length is said, a short file looks like a cut connection"
    assert "a.zip" not in names(folder)


def test_a_missing_file_is_said_at_once(server: FileServer, tmp_path: Path) -> None:
    archive = archive_of(server.url("gone.zip"), CONTENT)
    message = error_of(server, archive, tmp_path / "new")
    assert f"{archive.url} cannot be fetched: HTTP 404 Not Found. " in message
    assert len(server.ranges) == 1
    assert names(tmp_path / "new") == []


def test_no_network_is_said_at_once(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    server.stop()
    begun = time.monotonic()
    message = error_of(server, archive, tmp_path / "new")
    assert time.monotonic() - begun < 5
    assert "127.0.0.1:" in message
    assert "cannot be reached for a.zip: Connection refused. Check the network, or give a folder" in message


def test_a_network_that_goes_away_keeps_what_came(server: FileServer, tmp_path: Path) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    server.cuts = [70_000, 0]
    error_of(server, archive, folder)
    server.stop()
    assert "cannot be reached" in error_of(server, archive, folder)
    assert (folder / "a.zip.partial").stat().st_size == 70_000


def test_a_cache_that_cannot_be_written_is_one_sentence(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputFileError, match=r"cannot be written: Not a directory\. Free some space, or set ADAPTGEN"):
        fetch(archive, tmp_path / "file" / "new")
    assert server.ranges == []


def test_a_full_disk_is_one_sentence_and_keeps_what_fitted(server: FileServer, tmp_path: Path) -> None:
    archive, limits = server.offer("a.zip", CONTENT), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputFileError, match="cannot be written: File too large"):
            fetch(archive, tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch(archive, tmp_path / "new").read_bytes() == CONTENT


def test_too_little_room_is_said_before_anything_is_fetched(server: FileServer, tmp_path: Path) -> None:
    archive = server.offer("a.zip", CONTENT).model_copy(update={"size_bytes": 10**18})
    with pytest.raises(OutputFileError, match=r"has room for .*, and 1000000000\.0 GB are needed"):
        fetch(archive, tmp_path / "new")
    assert server.ranges == []


def test_two_processes_do_not_write_the_same_file(server: FileServer, tmp_path: Path) -> None:
    archive, folder = server.offer("a.zip", CONTENT), tmp_path / "new"
    folder.mkdir()
    with (folder / "a.zip.partial").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="is being written by another process"):
            fetch(archive, folder)
    assert fetch(archive, folder).read_bytes() == CONTENT


def test_a_file_is_not_another_process_s_to_write_while_it_is_checked(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, check = server.offer("a.zip", CONTENT), download.check_file
    refused: list[DownloadError] = []

    def fetch_meanwhile(path: Path, archive: ArchiveConfig) -> str:
        with pytest.raises(DownloadError, match="is being written by another process") as caught:
            fetch(archive, tmp_path)
        refused.append(caught.value)
        return check(path, archive)

    monkeypatch.setattr(download, "check_file", fetch_meanwhile)
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert len(refused) == 1


def test_an_interrupt_leaves_what_can_be_gone_on_with(server: FileServer, tmp_path: Path) -> None:
    content = CONTENT * 400
    archive, folder = server.offer("a.zip", content), tmp_path / "new"
    command = [sys.executable, "-c", PROGRAM, archive.url, str(archive.size_bytes), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while int(process.stdout.readline()) == 0:
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert names(folder) == ["a.zip.partial"]
    have = (folder / "a.zip.partial").read_bytes()
    assert 0 < len(have) < len(content)
    assert content.startswith(have)
    assert fetch(archive, folder).read_bytes() == content
    assert server.ranges == [None, f"bytes={len(have)}-"]
