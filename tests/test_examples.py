"""The example files are what their script writes, and clean enough to build on."""

import subprocess
import sys
from pathlib import Path

import mido
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*.mid") if "lieder" not in path.parts)
DRUM_CHANNEL = 9
MAX_CORPUS_BYTES = 300_000


def find_note_faults(midi: mido.MidiFile) -> list[str]:
    """List the notes that overlap on a pitch of one channel, have no length or do not end."""
    faults, open_notes = [], {}
    events = [(tick, message) for track in midi.tracks for tick, message in add_ticks(track)]
    # As a player does, take the note-offs of one tick before its note-ons.
    for tick, message in sorted(events, key=lambda event: (event[0], event[1].type == "note_on")):
        if message.type not in ("note_on", "note_off"):
            continue
        key = (message.channel, message.note)
        if message.type == "note_off":
            start = open_notes.pop(key, None)
            if start is None or start == tick:
                faults.append(f"tick {tick}: note {key} ends without having sounded")
        elif key in open_notes:
            faults.append(f"tick {tick}: note {key} overlaps the one from tick {open_notes[key]}")
        else:
            open_notes[key] = tick
    return faults + [f"note {key} from tick {tick} never ends" for key, tick in open_notes.items()]


def add_ticks(track: mido.MidiTrack) -> list[tuple[int, mido.Message | mido.MetaMessage]]:
    tick, timed = 0, []
    for message in track:
        tick += message.time
        timed.append((tick, message))
    return timed


def get_note_channels(track: mido.MidiTrack) -> set[int]:
    return {message.channel for message in track if message.type == "note_on"}


def test_the_script_writes_the_committed_files(tmp_path):
    subprocess.run([sys.executable, "-B", EXAMPLES / "compose.py", tmp_path], check=True)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.mid")}
    assert written == {path.relative_to(EXAMPLES): path.read_bytes() for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_clean(path):
    midi = mido.MidiFile(path)
    assert find_note_faults(midi) == []
    velocities = [message.velocity for track in midi.tracks for message in track if message.type == "note_on"]
    assert velocities
    assert min(velocities) > 0


def test_faults_are_found():
    on, off = (mido.Message(kind, note=60) for kind in ("note_on", "note_off"))
    hanging = mido.MidiTrack([on, off.copy(time=10), on])
    overlapping = mido.MidiTrack([on, on.copy(time=5), off.copy(time=5)])
    empty = mido.MidiTrack([on, off])
    for track in (hanging, overlapping, empty):
        assert find_note_faults(mido.MidiFile(tracks=[track]))


def test_the_song_has_the_three_tracks_and_pedals():
    midi = mido.MidiFile(EXAMPLES / "song.mid")
    assert midi.type == 1
    assert midi.ticks_per_beat == 480
    assert [track.name for track in midi.tracks[1:]] == ["MELODY", "BRIDGE", "PIANO"]
    assert [get_note_channels(track) for track in midi.tracks[1:]] == [{0}, {1}, {2}]
    assert any(message.is_cc(64) and message.value == 127 for message in midi.tracks[3])


def test_the_band_has_twelve_tracks_and_drums_in_two():
    midi = mido.MidiFile(EXAMPLES / "band.mid")
    channels = [get_note_channels(track) for track in midi.tracks if get_note_channels(track)]
    assert len(channels) == 12
    assert channels.count({DRUM_CHANNEL}) == 2
    assert len(set.union(*channels)) == 11
    types = [message.type for track in midi.tracks for message in track]
    assert "marker" in types
    assert "pitchwheel" in types


def test_the_waltz_begins_with_a_short_bar_and_is_one_track():
    midi = mido.MidiFile(EXAMPLES / "waltz.mid")
    (track,) = midi.tracks
    metres = [
        (tick, message.numerator, message.denominator)
        for tick, message in add_ticks(track)
        if message.type == "time_signature"
    ]
    assert metres == [(0, 1, 4), (480, 3, 4)]


def test_the_corpus_is_small_and_varied():
    files = [path for path in FILES if path.parent.name == "corpus"]
    assert len(files) == 24
    assert sum(path.stat().st_size for path in files) < MAX_CORPUS_BYTES
    metres = {
        (message.numerator, message.denominator)
        for path in files
        for message in mido.MidiFile(path).tracks[0]
        if message.type == "time_signature"
    }
    assert metres == {(4, 4), (3, 4), (6, 8)}
