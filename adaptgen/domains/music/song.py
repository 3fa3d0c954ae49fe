"""A MIDI file as music: parts, notes, bars and tempo, beside the events it was read from.

The bytes are parsed in Python, so that a malformed file raises an error and cannot end the process as a C++
parser could. The `mido.MidiFile` stays with the song: a continuation is written by adding to those events.
Source for the format: Standard MIDI Files 1.0 (RP-001), MIDI Manufacturers Association.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import mido

from adaptgen.domains.music import smf
from adaptgen.errors import InputFileError

__all__ = [
    "DRUM_CHANNEL",
    "BarLines",
    "Note",
    "Part",
    "Song",
    "TempoMap",
    "interpret",
    "parse_song",
    "read_song",
]

DRUM_CHANNEL = 9
MAX_FILE_BYTES = 4 * 2**20
"""Half a million notes. Reading and writing this much takes about a minute and a gigabyte."""
DEFAULT_TEMPO = 500_000
LARGEST_DENOMINATOR = 64


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


class BarLines:
    """Where bars begin, from the metre changes of a file; goes on for ever in the last metre.

    A metre change begins a new bar wherever it stands, so that a pick-up bar is a short bar.

    Args:
        metres: (tick, numerator, denominator), in order; 4/4 before the first.
        ticks_per_beat: ticks of a quarter note.
    """

    def __init__(self, metres: list[tuple[int, int, int]], ticks_per_beat: int) -> None:
        self.ticks_per_beat = ticks_per_beat
        self.segments: list[tuple[int, int, int, int]] = []  # start tick, first bar, numerator, denominator
        for tick, numerator, denominator in [(0, 4, 4), *metres]:
            if self.segments and self.segments[-1][0] == tick:
                self.segments.pop()
            first_bar = self._bar_in_last_segment(tick - 1) + 1 if self.segments else 0
            self.segments.append((tick, first_bar, numerator, denominator))
        self._ticks = [segment[0] for segment in self.segments]
        self._first_bars = [segment[1] for segment in self.segments]

    def _bar_in_last_segment(self, tick: int) -> int:
        start, first_bar, numerator, denominator = self.segments[-1]
        return first_bar + (tick - start) * denominator // (4 * numerator * self.ticks_per_beat)

    def index(self, tick: float) -> int:
        """The bar that holds a tick."""
        segment = bisect_right(self._ticks, tick) - 1
        start, first_bar, numerator, denominator = self.segments[segment]
        bar = first_bar + int((tick - start) * denominator // (4 * numerator * self.ticks_per_beat))
        # A fractional bar length puts the rounded bar line up to half a tick off the exact one.
        if tick >= self.start(bar + 1):
            return bar + 1
        return bar - 1 if bar > first_bar and tick < self.start(bar) else bar

    def start(self, bar: int) -> int:
        """The tick at which a bar begins."""
        segment = bisect_right(self._first_bars, bar) - 1
        start, first_bar, numerator, denominator = self.segments[segment]
        return start + round((bar - first_bar) * 4 * numerator * self.ticks_per_beat / denominator)

    def stretch(self, bar: int) -> tuple[int, int | None]:
        """First bar of the stretch in one metre that holds a bar, and the first one after it, if there is any."""
        segment = bisect_right(self._first_bars, bar) - 1
        after = self._first_bars[segment + 1] if segment + 1 < len(self._first_bars) else None
        return self._first_bars[segment], after

    def metre(self, bar: int) -> tuple[int, int]:
        """Numerator and denominator in force in a bar."""
        return self.segments[bisect_right(self._first_bars, bar) - 1][2:]


class TempoMap:
    """Ticks to seconds and back.

    Args:
        tempos: (tick, microseconds per quarter), in order; 120 beats a minute before the first.
        ticks_per_beat: ticks of a quarter note.
    """

    def __init__(self, tempos: list[tuple[int, int]], ticks_per_beat: int) -> None:
        self._points: list[tuple[int, float, float]] = []  # tick, seconds there, seconds per tick from there
        for tick, tempo in [(0, DEFAULT_TEMPO), *tempos]:
            seconds = self._extrapolate(self._points[-1], tick) if self._points else 0.0
            if self._points and self._points[-1][0] == tick:
                self._points.pop()
            self._points.append((tick, seconds, tempo * 1e-6 / ticks_per_beat))
        self._ticks = [point[0] for point in self._points]
        self._seconds = [point[1] for point in self._points]

    @staticmethod
    def _extrapolate(point: tuple[int, float, float], tick: float) -> float:
        return point[1] + (tick - point[0]) * point[2]

    def seconds(self, tick: float) -> float:
        """Time of a tick from the start."""
        return self._extrapolate(self._points[bisect_right(self._ticks, tick) - 1], tick)

    def tick(self, seconds: float) -> int:
        """The last tick that is not after a time."""
        tick, start, per_tick = self._points[bisect_right(self._seconds, seconds) - 1]
        return tick + math.floor((seconds - start) / per_tick + 1e-9)


@dataclass
class Song:
    """What a MIDI file holds."""

    midi: mido.MidiFile
    parts: list[Part]
    bars: BarLines
    tempo: TempoMap
    unended: list[tuple[int, int, int]]
    """Track, channel and pitch of notes that the file never ends."""
    program_changes: list[tuple[int, int, int]]
    """Tick, track and channel of every program change, in order."""

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
    events = []
    for track_index, track in enumerate(midi.tracks):
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, track_index, message))
    events.sort(key=lambda event: event[0])

    metres, tempos, program_changes = [], [], []
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
            program_changes.append((tick, track_index, message.channel))
        elif kind == "set_tempo":
            if message.tempo == 0:
                raise InputFileError(
                    f"{name} sets a tempo of 0 microseconds per beat at tick {tick}",
                    "Mend the tempo in a sequencer",
                )
            tempos.append((tick, message.tempo))
        elif kind == "time_signature" and _has_bars(message, midi.ticks_per_beat):
            metres.append((tick, message.numerator, message.denominator))

    last_tick = events[-1][0] if events else 0
    unended = []
    for (track_index, channel, pitch), waiting in sounding.items():
        for start, velocity, part in waiting:
            part.notes.append(Note(start, max(last_tick, start + 1), pitch, velocity))
            unended.append((track_index, channel, pitch))
    for part in parts.values():
        part.notes.sort()
    bars = BarLines(metres, midi.ticks_per_beat)
    tempo = TempoMap(tempos, midi.ticks_per_beat)
    return Song(midi, list(parts.values()), bars, tempo, unended, program_changes)


def _has_bars(message: mido.MetaMessage, ticks_per_beat: int) -> bool:
    """Whether a metre means something: bars of at least a tick, note values of at least a 64th."""
    bar_ticks = 4 * message.numerator * ticks_per_beat / message.denominator
    return message.denominator <= LARGEST_DENOMINATOR and bar_ticks >= 1
