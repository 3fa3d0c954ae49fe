"""A reader of Standard MIDI Files for tests: neither adaptgen's nor mido's, whose reader changes some events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

END_OF_TRACK, TEMPO, METRE, KEY = 0x2F, 0x51, 0x58, 0x59


class Event(NamedTuple):
    """An event at its tick; `data` is the status byte with what follows, a meta event's length left out."""

    tick: int
    data: bytes

    @property
    def meta(self) -> int | None:
        return self.data[1] if self.data[0] == 0xFF else None


class Sounding(NamedTuple):
    """A note with the program in force where it begins; one that is never ended lasts to the file's last event."""

    start: int
    end: int
    pitch: int
    channel: int
    track: int
    program: int
    is_ended: bool = True


@dataclass
class File:
    """A Standard MIDI File taken apart."""

    midi_format: int
    division: int
    tracks: list[list[Event]]

    @property
    def last_tick(self) -> int:
        return max((track[-1].tick for track in self.tracks if track), default=0)

    @cached_property
    def merged(self) -> list[tuple[int, int, bytes]]:
        """Tick, track and data of all events as a player meets them."""
        rows = [(event.tick, index, event.data) for index, track in enumerate(self.tracks) for event in track]
        return sorted(rows, key=lambda row: row[:2])


def read_quantity(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    while data[position] & 0x80:
        value, position = value << 7 | data[position] & 0x7F, position + 1
    return value << 7 | data[position], position + 1


def parse(data: bytes) -> File:
    """Take a well-formed file apart."""
    assert data[:4] == b"MThd"
    midi_format, num_tracks, division = (int.from_bytes(data[at : at + 2]) for at in (8, 10, 12))
    position, tracks = 8 + int.from_bytes(data[4:8]), []
    while position < len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8])
        if kind == b"MTrk":
            tracks.append(parse_track(data[position + 8 : position + 8 + size]))
        position += 8 + size
    assert len(tracks) >= num_tracks
    return File(midi_format, division, tracks)


def parse_track(data: bytes) -> list[Event]:
    events, position, tick, running = [], 0, 0, 0
    while position < len(data):
        delta, position = read_quantity(data, position)
        assert delta < 2**28, "the standard allows four bytes"
        tick += delta
        status = data[position]
        if status < 0x80:
            status = running
        else:
            position += 1
        if status >= 0xF0:
            assert status in (0xF0, 0xF7, 0xFF)
            kind = data[position : position + 1] if status == 0xFF else b""
            length, start = read_quantity(data, position + len(kind))
            content = kind + data[start : start + length]
            position = start + length
        else:
            running = status
            length = 1 if status >> 4 in (0xC, 0xD) else 2
            content = data[position : position + length]
            position += length
        events.append(Event(tick, bytes([status]) + content))
    return events


def is_on(data: bytes) -> bool:
    return data[0] >> 4 == 0x9 and data[2] > 0


def is_off(data: bytes) -> bool:
    return data[0] >> 4 == 0x8 or (data[0] >> 4 == 0x9 and data[2] == 0)


def notes_of(file: File) -> list[Sounding]:
    """All notes, first on first off."""
    programs = [0] * 16
    waiting: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    notes = []
    for tick, track, data in file.merged:
        channel = data[0] & 0xF
        key = (track, channel, data[1] if len(data) > 1 else -1)
        if data[0] >> 4 == 0xC:
            programs[channel] = data[1]
        elif is_on(data):
            waiting[key].append((tick, programs[channel]))
        elif is_off(data) and waiting[key]:
            start, program = waiting[key].pop(0)
            notes.append(Sounding(start, tick, key[2], channel, track, program))
    for (track, channel, pitch), starts in waiting.items():
        for start, program in starts:
            notes.append(Sounding(start, file.last_tick, pitch, channel, track, program, is_ended=False))
    return sorted(notes)
