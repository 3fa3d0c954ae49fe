"""What is refused before anything is drawn, because its sound could not be made afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from odd_files import ODD_FILES, build, melody, tempo
from players import WINDOW, tokenizer

from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.errors import InputFileError


def read_prompt(path: Path, **request: object) -> None:
    get("music").read_prompt(path, tokenizer(), ContinuationRequest(**request), window=WINDOW)


def test_a_sound_font_that_cannot_be_used(tmp_path: Path) -> None:
    path, font = tmp_path / "song.mid", tmp_path / "nope.sf2"
    path.write_bytes(build(melody()))
    with pytest.raises(InputFileError, match=r"nope\.sf2 cannot be read"):
        read_prompt(path, soundfont=font)
    font.write_bytes(b"no font")
    with pytest.raises(InputFileError, match=r"nope\.sf2 is not a sound font"):
        read_prompt(path, soundfont=font)
    read_prompt(path, soundfont=font, sound=False)


def test_music_that_lasts_too_long_to_be_played(tmp_path: Path) -> None:
    path = tmp_path / "long.mid"
    path.write_bytes(ODD_FILES["a gap of 2^27 ticks"]())
    with pytest.raises(InputFileError, match=r"lasts 38\.8 hours, too long to be played .*--no-wav"):
        read_prompt(path)
    read_prompt(path, sound=False)
    read_prompt(path, new_only=True)
    path.write_bytes(build(tempo(0xFFFFFF) + melody()))
    for new_only, hours in ((False, "2.2"), (True, "2.1")):
        with pytest.raises(InputFileError, match=f"lasts {hours} hours, too long to be played"):
            read_prompt(path, seconds=7500.0, new_only=new_only)
    read_prompt(path, seconds=7199.0, new_only=True)


def test_music_too_dense_to_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptgen.domains.music.render._MAX_VOICE_SECONDS", 10)
    path = tmp_path / "dense.mid"
    path.write_bytes(build(melody()))
    with pytest.raises(InputFileError, match="too much to be played"):
        read_prompt(path)
    read_prompt(path, new_only=True)
