"""MIDI files as training documents, whatever their names, and what is said about the notes they lose."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from odd_files import ODD_FILES, build, melody, note
from players import tokenizer

from adaptgen.domains.music.corpus import check_roundtrip, read_documents
from adaptgen.errors import InputFileError


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"gr\xfc\xdfe.mid")
    try:
        path.write_bytes(build(melody(), melody(low=50)))
    except OSError:
        pytest.skip("this file system has no such names")
    assert read_documents(path, tokenizer(), is_training=True)
    assert len(read_documents(path, tokenizer(), is_training=False)) == 1


def test_notes_that_become_one_are_lost_but_one(tmp_path: Path) -> None:
    path = tmp_path / "pairs.mid"
    pairs = [event for beat in range(16) for start in (0, 12) for event in note(480 * beat + start, 10, 60)]
    path.write_bytes(build(pairs))
    report = check_roundtrip(path, tokenizer())
    assert (report["notes"], report["notes_lost"]) == (32, 16)
    path.write_bytes(build(melody()))
    assert check_roundtrip(path, tokenizer())["notes_lost"] == 0


@pytest.mark.parametrize("read", [partial(read_documents, is_training=False), check_roundtrip])
def test_too_many_bars_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object]
) -> None:
    monkeypatch.setattr("adaptgen.domains.music.corpus.MAX_DOCUMENT_BARS", 1000)
    path = tmp_path / "far.mid"
    path.write_bytes(ODD_FILES["a gap of 2^27 ticks"]())
    with pytest.raises(InputFileError, match=r"far\.mid has 69906 bars; 1000 are read"):
        read(path, tokenizer())
