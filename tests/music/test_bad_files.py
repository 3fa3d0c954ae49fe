"""Files that are no MIDI, no whole MIDI, or MIDI that means nothing: one sentence each, and never another error."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import ODD_FILES, build, melody, metre, note, tempo

from adaptgen.domains.music.song import MAX_FILE_BYTES, Song, parse_song, read_song
from adaptgen.errors import InputFileError

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = build(metre(3, 2) + tempo(400_000) + note(0, 480, 60) + note(480, 240, 64))
HEADER_SIZE, TRACK_BEGIN = 14, 22


def refusal_of(data: bytes) -> str:
    with pytest.raises(InputFileError) as refusal:
        parse_song(data, name="x.mid")
    return str(refusal.value)


def parse_or_refuse(data: bytes) -> Song | None:
    """A song with notes, or None for an `InputFileError` of one sentence and a remedy; nothing else may come out."""
    try:
        song = parse_song(data, name="x.mid")
    except InputFileError as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert "x.mid" in refusal.problem
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 250
        return None
    assert song.num_notes > 0
    assert all(note.start < note.end for part in song.parts for note in part.notes)
    return song


def with_track(body: bytes) -> bytes:
    return build()[:10] + b"\0\1\1\xe0MTrk" + len(body).to_bytes(4) + body


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"gone\.mid does not exist\. Check the name\."):
        read_song(tmp_path / "gone.mid")


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SMALL)
    with pytest.raises(InputFileError, match=r"x\.mid cannot be read: Not a directory"):
        read_song(tmp_path / "file" / "x.mid")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r" is a folder\. Give a MIDI file\."):
        read_song(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.mid"
    path.write_bytes(SMALL)
    path.chmod(0)
    with pytest.raises(InputFileError, match=r"secret\.mid may not be read\. Change its permissions\."):
        read_song(path)


def test_a_file_of_40_megabytes_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "big.mid"
    with path.open("wb") as file:
        file.truncate(40_000_000)
    with pytest.raises(InputFileError, match=r"big\.mid has 38 MiB; MIDI files up to \d+ MiB are read\. Cut it in a"):
        read_song(path)
    assert path.stat().st_size > MAX_FILE_BYTES


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.mid is empty. Give a MIDI file."),
        (b"Dear diary", "x.mid is not a MIDI file: it begins with b'Dear' where MIDI has b'MThd'. Give a MIDI file."),
        (b"MT", "x.mid ends in the middle of its header. Export or download it again."),
        (SMALL[:12], "x.mid ends in the middle of its header. Export or download it again."),
        (SMALL[:-9], "x.mid ends in the middle of track 1. Export or download it again."),
        (SMALL[:HEADER_SIZE], "x.mid ends before track 1 of 1. Export or download it again."),
        (SMALL[:9] + b"\2" + SMALL[10:], "x.mid is MIDI format 2; formats 0 and 1 are read. Export it as format 1."),
        (
            SMALL[:12] + b"\xe7\x28" + SMALL[14:],
            "x.mid counts time in SMPTE frames, which have no bars. Export it with ticks per quarter note.",
        ),
        (
            SMALL[:12] + b"\0\0" + SMALL[14:],
            "x.mid has 0 ticks per quarter note. Export it again from its program.",
        ),
        (
            build(melody(), tempo(0, 960)),
            "x.mid sets a tempo of 0 microseconds per beat at tick 960. Mend the tempo in a sequencer.",
        ),
        (build(tempo(400_000)), "x.mid has no notes. Give a MIDI file with at least one note."),
        (build(), "x.mid has no notes. Give a MIDI file with at least one note."),
        (
            build(midi_format=1, end=5)[:11] + b"\3" + build()[12:],
            "x.mid ends before track 1 of 3. Export or download it",
        ),
        (
            with_track(b"\0\x90\x3c\x90"),
            "x.mid is damaged MIDI: in track 1, event 0x90 holds byte 0x90, which is no data",
        ),
        (with_track(b"\0\x3c\x40"), "in track 1, byte 0x3c stands where an event should begin. Export it again"),
        (with_track(b"\0\xf4"), "in track 1, an event begins with 0xf4, which MIDI does not define. Export"),
        (with_track(b"\xff\xff\xff\xff\x00"), "in track 1, a number has more than four bytes. Export it again"),
        (with_track(b"\0\x90\x3c"), "in track 1, an event goes on beyond the track's end. Export it again"),
        (with_track(b"\0\xff\x01\x87\xff\xff\x7fx"), "in track 1, an event goes on beyond the track's end."),
        (with_track(b"\0\xf0\x8f\xff\xff\x7fx"), "in track 1, an event goes on beyond the track's end."),
    ],
)
def test_what_is_wrong_and_what_to_do_is_said(data: bytes, message: str) -> None:
    assert message in refusal_of(data)


def test_a_file_cut_anywhere_is_refused_or_a_song() -> None:
    results = [parse_or_refuse(SMALL[:length]) for length in range(len(SMALL))]
    assert results == [None] * len(SMALL), "what stands in the header is not all there"
    assert parse_or_refuse(SMALL) is not None


@pytest.mark.parametrize("name", ["meta events of wrong lengths", "exclusive in pieces", "running status"])
def test_an_odd_file_cut_anywhere_is_refused_or_a_song(name: str) -> None:
    data = ODD_FILES[name]()
    assert all(parse_or_refuse(data[:length]) is None for length in range(len(data)))


def test_a_longer_file_cut_at_many_places_is_refused() -> None:
    data = (EXAMPLES / "band.mid").read_bytes()
    assert all(parse_or_refuse(data[:length]) is None for length in range(0, len(data), 61))


def test_a_file_of_two_tracks_without_its_second_is_refused() -> None:
    data = build(melody(), melody(channel=1))
    assert parse_or_refuse(data[: data.rindex(b"MTrk")]) is None


@pytest.mark.parametrize("name", ["song.mid", "corpus/chorale_hymn_09.mid"])
def test_bytes_changed_at_random_give_a_song_or_a_refusal(name: str) -> None:
    data, rng = (EXAMPLES / name).read_bytes(), random.Random(5)
    outcomes = set()
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        outcomes.add(parse_or_refuse(bytes(changed)) is None)
    assert outcomes == {True, False}, "both kinds of outcome should have been met"


@given(st.binary(max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_bytes_in_a_track_give_a_song_or_a_refusal(body: bytes) -> None:
    parse_or_refuse(with_track(body))
    parse_or_refuse(with_track(b"\0\x90\x3c\x40\x60\x3c\0" + body))


@given(st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_song_or_a_refusal(data: bytes) -> None:
    parse_or_refuse(data)
    parse_or_refuse(b"MThd" + data)


@given(kind=st.integers(0, 127), content=st.binary(max_size=8))
@settings(max_examples=400, deadline=None)
def test_no_meta_event_makes_a_file_unreadable(kind: int, content: bytes) -> None:
    event = bytes([0xFF, kind, len(content)]) + content
    data = build([*note(0, 480, 60), (480, event)])
    is_stopped_clock = kind == 0x51 and content == bytes(3)
    assert (parse_or_refuse(data) is None) == is_stopped_clock
