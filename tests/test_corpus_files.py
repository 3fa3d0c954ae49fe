"""Files of a corpus: which are found, and on which side of a split they fall."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptgen.config import DataConfig
from adaptgen.corpus_files import SPLITS, find_files, split_files

CONFIG = DataConfig(folder=".", validation_share=0.25, test_share=0.25)


def test_finds_files_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.mid", "a.MID", "sub/c.midi", ".hidden.mid", ".git/d.mid", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path, (".mid", ".midi"))]
    assert found == ["a.MID", "b.mid", "sub/c.midi"]


def test_pipes_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "song.mid").write_bytes(b"")
    (tmp_path / "gone.mid").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "link.mid").symlink_to("pipe.mid")
    splits = split_files(tmp_path, (".mid",), CONFIG)
    found = {path.name for files in splits.values() for path, _ in files}
    assert found == {"gone.mid", "song.mid"}, "the reader says what is wrong with a link to nothing"


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "files", tmp_path / "elsewhere"
    for path in (target / "song.mid", elsewhere / "tune.mid"):
        path.parent.mkdir()
        path.write_bytes(b"")
    (target / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(target)
    found = [path.relative_to(target).as_posix() for path in find_files(target, (".mid",))]
    assert found == ["song.mid", "link/tune.mid"]


def test_copies_of_a_file_stay_on_one_side(tmp_path: Path) -> None:
    for index in range(40):
        for copy in ("one", "two", "three"):
            (tmp_path / f"{copy}_{index}.mid").write_bytes(b"song %d" % index)
    splits = split_files(tmp_path, (".mid",), CONFIG)
    digests = {split: {digest for _, digest in files} for split, files in splits.items()}
    assert {split: len(files) for split, files in splits.items()} == {"train": 60, "validation": 30, "test": 30}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not digests[one] & digests[other]


def test_a_split_depends_on_content_alone(tmp_path: Path) -> None:
    for index in range(20):
        for place in ("here", "there"):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / f"{place}{index * 7 % 20}.mid").write_bytes(b"song %d" % index)
    here, there = (split_files(tmp_path / place, (".mid",), CONFIG) for place in ("here", "there"))
    for split in SPLITS:
        assert {digest for _, digest in here[split]} == {digest for _, digest in there[split]}


@pytest.mark.parametrize("num_files", [1, 2, 3])
def test_a_small_folder_is_trained_on_first(tmp_path: Path, num_files: int) -> None:
    for index in range(num_files):
        (tmp_path / f"{index}.mid").write_bytes(b"song %d" % index)
    splits = split_files(tmp_path, (".mid",), CONFIG)
    assert [len(splits[split]) for split in SPLITS] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]][num_files - 1]


def test_the_bulk_of_a_folder_is_trained_on_and_nothing_empty_is_held_out(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / "novel.txt").write_text(f"once upon a time {index} " * 1000)
        for note in range(10):
            (tmp_path / f"{note}.txt").write_text(f"note {note}")
            (tmp_path / f"empty {note}.txt").write_text("")
        splits = split_files(tmp_path, (".txt",), CONFIG)
        held_out = [path for split in ("validation", "test") for path, _ in splits[split]]
        assert len(held_out) == 6, "a quarter of eleven files with something in them, twice"
        assert all(path.read_text().startswith("note") for path in held_out)


def test_folders_named_as_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}.mid").write_bytes(b"the same")
    splits = split_files(tmp_path, (".mid",), CONFIG)
    assert [[path.stem for path, _ in splits[split]] for split in SPLITS] == [["train"], ["validation"], ["test"]]


def test_a_single_file_named_train_makes_no_splits(tmp_path: Path) -> None:
    for name in ("train.txt", "other.txt", "third.txt"):
        (tmp_path / name).write_text(name)
    config = DataConfig(folder=str(tmp_path), validation_share=0.3, test_share=0)
    splits = split_files(tmp_path, (".txt",), config)
    assert (len(splits["train"]), len(splits["validation"])) == (2, 1)
