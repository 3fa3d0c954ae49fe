"""What a MIDI file asks a player to do: notes in seconds and the controllers that shape them.

Sound and pictures both start here, so that they never disagree about when a note begins and ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from itertools import takewhile

import mido
import numpy as np

from adaptgen.domains.music.controllers import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    DATA_ENTRY,
    EXPRESSION,
    PAN,
    PEDAL,
    PEDAL_DOWN,
    RESET,
    RPN_HIGH,
    RPN_LOW,
    VOLUME,
)
from adaptgen.domains.music.timing import BarLines, TempoMap, all_events, read_metres, read_tempos

__all__ = ["Controllers", "SoundingNote", "bar_lines", "read_controllers", "sounding_notes"]

_MAX_DRAWN_BARS = 2_000


@dataclass(frozen=True, order=True)
class SoundingNote:
    """One note as it sounds.

    Args:
        start: seconds from the beginning of the file.
        end: seconds; never before `start`, equal to it for a note without length.
        pitch: MIDI key, 0-127.
        velocity: 1-127.
        channel: 0-15; `DRUM_CHANNEL` plays drums.
        program: General MIDI program in force when the note starts, 0-127.
        track: index of the track in the file.
    """

    start: float
    end: float
    pitch: int
    velocity: int
    channel: int
    program: int
    track: int


@dataclass(frozen=True)
class _Timed:
    """A channel message at its time in seconds."""

    seconds: float
    track: int
    message: mido.Message


class _Settings:
    """Values that change over time, per track and channel.

    Tracks often share a channel. A track that sets a thing itself follows its own settings from then on, for files
    with more instruments than channels give each track its own; until it does, and if it never does, it follows its
    channel, for the pedal of a piano is often written in one of its two tracks.
    """

    def __init__(self) -> None:
        self._of_track: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        self._of_channel: dict[int, list[tuple[float, float]]] = defaultdict(list)
        self._found: dict[tuple[int, int], list[tuple[float, float]]] = {}

    def add(self, timed: _Timed, value: float) -> None:
        entry = (timed.seconds, value)
        self._of_track[timed.track, timed.message.channel].append(entry)
        self._of_channel[timed.message.channel].append(entry)
        self._found.clear()

    def of(self, track: int, channel: int) -> list[tuple[float, float]]:
        part = (track, channel)
        if part not in self._found:
            own, shared = self._of_track.get(part, []), self._of_channel.get(channel, [])
            first = own[0][0] if own else np.inf
            self._found[part] = [entry for entry in shared if entry[0] < first] + own
        return self._found[part]

    def at(self, seconds: np.ndarray, track: int, channel: int, *, default: float) -> np.ndarray:
        entries = self.of(track, channel)
        if not entries:
            return np.full(len(seconds), default)
        times = np.array([time for time, _ in entries])
        values = np.array([default] + [value for _, value in entries])
        return values[np.searchsorted(times, seconds, side="right")]


class Controllers:
    """The channel controllers of a file as functions of time. Made by `read_controllers`.

    Each method takes times in seconds [n], a track and a channel, and returns values [n].
    """

    def __init__(self) -> None:
        self.volume, self.expression, self.panning, self.bend = (_Settings() for _ in range(4))

    def gain(self, seconds: np.ndarray, track: int, channel: int) -> np.ndarray:
        """Amplitude from channel volume (CC 7) and expression (CC 11), 1 when both are 127.

        Source: General MIDI recommends 40 log10(value / 127) dB for each, the square of the value.
        """
        volume = self.volume.at(seconds, track, channel, default=100)
        expression = self.expression.at(seconds, track, channel, default=127)
        return (volume * expression / (127 * 127)) ** 2

    def pan(self, seconds: np.ndarray, track: int, channel: int) -> np.ndarray:
        """Position from CC 10, -0.5 (left) to 0.5 (right)."""
        position = (self.panning.at(seconds, track, channel, default=64) - 64) / 126
        return np.clip(position, -0.5, 0.5)

    def bend_cents(self, seconds: np.ndarray, track: int, channel: int) -> np.ndarray:
        """Pitch bend in cents, with the range that the file sets (RPN 0), else two semitones."""
        return self.bend.at(seconds, track, channel, default=0)


def sounding_notes(midi: mido.MidiFile, *, use_pedal: bool = True) -> list[SoundingNote]:
    """Read the notes of a file in seconds, as a listener hears them.

    A note ends at its note-off, at a note-on of velocity 0, when its key is struck again, at all-notes-off or
    all-sound-off, or else where its track ends. Tempo changes in any track hold for all tracks.

    Args:
        midi: a parsed file; `ticks_per_beat` must be at least 1.
        use_pedal: hold notes while the sustain pedal (CC 64) is down, until it rises or the key is struck
            again.

    Returns:
        The notes, sorted by start.
    """
    timed, track_ends = _timed_messages(midi)
    programs, pedals = _Settings(), _Settings()
    silences: dict[int, list[float]] = defaultdict(list)
    for event in timed:
        message = event.message
        if message.type == "program_change":
            programs.add(event, message.program)
        elif message.type == "control_change":
            if message.control in (PEDAL, RESET):
                pedals.add(event, message.value if message.control == PEDAL else 0)
            elif message.control == ALL_SOUND_OFF:
                silences[message.channel].append(event.seconds)

    held = _held_notes(timed, track_ends)
    if use_pedal:
        held = _hold_with_pedal(held, pedals, max(track_ends, default=0.0))
    notes = []
    for start, end, pitch, velocity, channel, track in held:
        if stops := silences.get(channel):
            following = bisect_right(stops, start)
            end = min([end, *stops[following : following + 1]])
        program = int(_value_at(programs.of(track, channel), start, default=0))
        notes.append(SoundingNote(start, end, pitch, velocity, channel, program, track))
    return sorted(notes)


def read_controllers(midi: mido.MidiFile) -> Controllers:
    """Read volume, expression, pan and pitch bend of every channel.

    Args:
        midi: a parsed file.

    Returns:
        The controllers as functions of time.
    """
    controllers = Controllers()
    settings = {VOLUME: controllers.volume, EXPRESSION: controllers.expression, PAN: controllers.panning}
    registered: dict[tuple[int, int], list[int]] = defaultdict(lambda: [127, 127])
    bend_range: dict[tuple[int, int], int] = defaultdict(lambda: 2)
    for event in _timed_messages(midi)[0]:
        message = event.message
        part = (event.track, message.channel)
        if message.type == "pitchwheel":
            controllers.bend.add(event, message.pitch / 8192 * bend_range[part] * 100)
        elif message.type != "control_change":
            continue
        elif message.control in settings:
            settings[message.control].add(event, message.value)
        elif message.control in (RPN_HIGH, RPN_LOW):
            registered[part][message.control == RPN_LOW] = message.value
        elif message.control == DATA_ENTRY and registered[part] == [0, 0]:
            bend_range[part] = min(message.value, 24)
        elif message.control == RESET:
            controllers.expression.add(event, 127)
            controllers.bend.add(event, 0)
    return controllers


def bar_lines(midi: mido.MidiFile, until_seconds: float) -> list[float]:
    """Find where bars begin, if the file tells its metre.

    Args:
        midi: a parsed file.
        until_seconds: the last time of interest.

    Returns:
        Seconds, ascending; empty if the file has no time signature or if bars are too many to draw.
    """
    metres = read_metres(midi)
    if not metres:
        return []
    bars, tempo = BarLines(metres, midi.ticks_per_beat), TempoMap(read_tempos(midi), midi.ticks_per_beat)
    times = (tempo.seconds(bars.start(bar)) for bar in range(_MAX_DRAWN_BARS + 1))
    lines = list(takewhile(lambda seconds: seconds <= until_seconds, times))
    return lines if len(lines) <= _MAX_DRAWN_BARS else []


def _timed_messages(midi: mido.MidiFile) -> tuple[list[_Timed], list[float]]:
    """All channel messages in order of time, and the end of every track, in seconds."""
    tempo = TempoMap(read_tempos(midi), midi.ticks_per_beat)
    messages = [
        _Timed(tempo.seconds(tick), index, message)
        for tick, index, message in all_events(midi)
        if hasattr(message, "channel")
    ]
    return messages, [tempo.seconds(sum(message.time for message in track)) for track in midi.tracks]


_Held = tuple[float, float, int, int, int, int]  # start, end, pitch, velocity, channel, track


def _held_notes(timed: list[_Timed], track_ends: list[float]) -> list[_Held]:
    """Pair the note-ons of each track and channel with what ends them."""
    keys: dict[tuple[int, int, int], tuple[float, int]] = {}
    notes: list[_Held] = []

    def finish(key: tuple[int, int, int], end: float, *, is_restruck: bool = False) -> None:
        start, velocity = keys.pop(key)
        if not (is_restruck and end == start):  # the same key twice at once is one note
            track, channel, pitch = key
            notes.append((start, max(start, end), pitch, velocity, channel, track))

    for event in timed:
        message = event.message
        if message.type in ("note_on", "note_off"):
            key = (event.track, message.channel, message.note)
            is_strike = message.type == "note_on" and message.velocity > 0
            if key in keys:
                finish(key, event.seconds, is_restruck=is_strike)
            if is_strike:
                keys[key] = (event.seconds, message.velocity)
        elif message.type == "control_change" and (
            message.control == ALL_SOUND_OFF or message.control in ALL_NOTES_OFF
        ):
            for key in [key for key in keys if key[1] == message.channel]:
                finish(key, event.seconds)
    for key in list(keys):
        finish(key, track_ends[key[0]])
    return notes


def _hold_with_pedal(notes: list[_Held], pedals: _Settings, end_seconds: float) -> list[_Held]:
    """Move the end of each note that falls under the pedal to where the pedal rises or its key is struck."""
    strikes: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for start, _, pitch, _, channel, track in sorted(notes):
        strikes[track, channel, pitch].append(start)
    releases: dict[tuple[int, int], tuple[list[float], list[float]]] = {}
    extended = []
    for start, end, pitch, velocity, channel, track in notes:
        part = (track, channel)
        if part not in releases:
            releases[part] = _pedal_spans(pedals.of(track, channel), end_seconds)
        downs, ups = releases[part]
        span = bisect_right(downs, end) - 1
        if span >= 0 and end < ups[span]:
            own = strikes[track, channel, pitch]
            restrike = bisect_left(own, max(end, np.nextafter(start, np.inf)))
            end = min([ups[span], *own[restrike : restrike + 1]])
        extended.append((start, end, pitch, velocity, channel, track))
    return extended


def _pedal_spans(entries: list[tuple[float, float]], end_seconds: float) -> tuple[list[float], list[float]]:
    """Times at which the pedal goes down, and at which it rises again."""
    downs: list[float] = []
    ups: list[float] = []
    for seconds, value in entries:
        is_down = len(downs) > len(ups)
        if value >= PEDAL_DOWN and not is_down:
            downs.append(seconds)
        elif value < PEDAL_DOWN and is_down:
            ups.append(seconds)
    if len(downs) > len(ups):
        ups.append(max(end_seconds, downs[-1]))
    return downs, ups


def _value_at(entries: list[tuple[float, float]], seconds: float, *, default: float) -> float:
    """The last value set at or before a time; before the first one, `default`."""
    place = bisect_right(entries, (seconds, float("inf")))
    return entries[place - 1][1] if place else default
