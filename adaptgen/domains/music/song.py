"""A MIDI file as music: parts, notes, bars and tempo, beside the events it was read from.

The bytes are parsed in Python, so that a malformed file raises an error and cannot end the process as a C++
parser could. The `mido.MidiFile` stays with the song: a continuation is written by adding to those events.
Source for the format: Standard MIDI Files 1.0 (RP-001), MIDI Manufacturers Association.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import mido

from adaptgen.domains.music import smf
from adaptgen.domains.music.timing import BarLines, TempoMap, all_events, read_metres, read_tempos
from adaptgen.errors import InputFileError

__all__ = [
    "DRUM_CHANNEL",
    "GENERAL_MIDI_DRUMS",
    "PIANO_PITCHES",
    "Note",
    "Part",
    "Song",
    "interpret",
    "parse_song",
    "read_song",
]

DRUM_CHANNEL = 9
"""Channel 10 of General MIDI, counted from zero."""
GENERAL_MIDI_DRUMS = {22: 42, 26: 46}
"""Hi-hat edges of Roland drum kits, which General MIDI lacks, and the hi-hat sounds it has instead."""
PIANO_PITCHES = range(21, 109)
MAX_FILE_BYTES = 4 * 2**20
"""Half a million notes. Reading and writing this much takes about a minute and a gigabyte."""


class Note(NamedTuple):
    """One note; `start` and `end` in ticks."""

    start: int
    end: int
    pitch: int
    velocity: int


@dataclass
class Part:
    """The notes that one track plays on one channel with one program."""

    track: int
    channel: int
    program: int
    notes: list[Note] = field(default_factory=list)

    @property
    def is_drums(self) -> bool:
        return self.channel == DRUM_CHANNEL

    def sound_of(self, pitch: int) -> int:
        """The pitch whose sound a key of the part has in General MIDI: its own, but for edges of the hi-hat."""
        return GENERAL_MIDI_DRUMS.get(pitch, pitch) if self.is_drums else pitch


@dataclass
class Song:
    """What a MIDI file holds."""

    midi: mido.MidiFile
    parts: list[Part]
    bars: BarLines
    tempo: TempoMap
    unended: list[tuple[int, int, int]]
    """Track, channel and pitch of notes that the file never ends."""

    @property
    def ticks_per_beat(self) -> int:
        return self.midi.ticks_per_beat

    @property
    def num_notes(self) -> int:
        return sum(len(part.notes) for part in self.parts)


def read_song(path: Path) -> Song:
    """Read a Standard MIDI File of format 0 or 1.

    Args:
        path: the file.

    Returns:
        The song, with at least one note.

    Raises:
        InputFileError: the file is missing, unreadable, too large, not MIDI, damaged or without notes.
    """
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder", "Give a MIDI file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputFileError(
                f"{path} has {size / 2**20:.0f} MiB; MIDI files up to {MAX_FILE_BYTES // 2**20} MiB are read",
                "Cut it in a sequencer and give the last part",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist", "Check the name") from None
    except PermissionError:
        raise InputFileError(f"{path} may not be read", "Change its permissions") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    return parse_song(data, name=str(path))


def parse_song(data: bytes, *, name: str) -> Song:
    """Like `read_song`, from bytes; `name` stands for the file in errors."""
    midi = smf.load(data, name=name)
    song = interpret(midi, name=name)
    if not song.num_notes:
        raise InputFileError(f"{name} has no notes", "Give a MIDI file with at least one note")
    return song


def interpret(midi: mido.MidiFile, *, name: str) -> Song:
    """Pair note-ons with note-offs and collect programs, metres and tempos, which hold across tracks."""
    tempos = read_tempos(midi)
    for tick, tempo in tempos:
        if tempo == 0:
            raise InputFileError(
                f"{name} sets a tempo of 0 microseconds per beat at tick {tick}", "Mend the tempo in a sequencer"
            )
    events = all_events(midi)
    programs = [0] * 16
    parts: dict[tuple[int, int, int], Part] = {}
    sounding: dict[tuple[int, int, int], deque[tuple[int, int, Part]]] = defaultdict(deque)

    for tick, track_index, message in events:
        kind = message.type
        if kind == "note_on" and message.velocity > 0:
            key = (track_index, message.channel, programs[message.channel])
            part = parts.setdefault(key, Part(*key))
            sounding[track_index, message.channel, message.note].append((tick, message.velocity, part))
        elif kind in ("note_on", "note_off"):
            waiting = sounding.get((track_index, message.channel, message.note))
            if waiting:
                start, velocity, part = waiting.popleft()
                part.notes.append(Note(start, max(tick, start + 1), message.note, velocity))
        elif kind == "program_change":
            programs[message.channel] = message.program

    last_tick = events[-1][0] if events else 0
    unended = []
    for (track_index, channel, pitch), waiting in sounding.items():
        for start, velocity, part in waiting:
            part.notes.append(Note(start, max(last_tick, start + 1), pitch, velocity))
            unended.append((track_index, channel, pitch))
    for part in parts.values():
        part.notes.sort()
    bars = BarLines(read_metres(midi), midi.ticks_per_beat)
    tempo = TempoMap(tempos, midi.ticks_per_beat)
    return Song(midi, list(parts.values()), bars, tempo, unended)
