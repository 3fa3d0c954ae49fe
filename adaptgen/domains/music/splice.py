"""New notes into the events of a MIDI file, which stay as they are.

Nothing of the input is rewritten: its messages keep their order, their ticks and their content, and new messages
are merged in behind those that stand at the same tick.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mido

from adaptgen.domains.music.song import Part, Song

__all__ = ["NewNote", "cut", "extract_new", "merge"]

BANK, VOLUME, PAN, EXPRESSION, BANK_FINE, PEDAL = 0, 7, 10, 11, 32, 64
PEDAL_DOWN = 64
FADED_SHARE = 0.25
"""A channel whose volume or expression ends below this share of its loudest is taken to have faded out."""

OFF, SETUP, ON = range(3)
"""Order of new messages at one tick."""

Timed = tuple[int, mido.Message | mido.MetaMessage]


class NewNote(NamedTuple):
    """A note to be added; ticks from the start of the file."""

    part: Part
    start: int
    end: int
    pitch: int
    velocity: int


def timed(track: mido.MidiTrack) -> Iterator[Timed]:
    """Messages with their ticks from the start, in order."""
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def untimed(events: Sequence[Timed], *, end: int) -> mido.MidiTrack:
    """The reverse of `timed`; ends the track at `end` or at its last message."""
    track, previous = mido.MidiTrack(), 0
    for tick, message in events:
        track.append(message.copy(time=tick - previous))
        previous = tick
    track.append(mido.MetaMessage("end_of_track", time=max(0, end - previous)))
    return track


def cut(midi: mido.MidiFile, tick: int) -> mido.MidiFile:
    """A copy that holds what comes before a tick; notes that ring over it end there."""
    result = _empty_like(midi)
    for track in midi.tracks:
        kept, sounding = [], {}
        for when, message in timed(track):
            if when >= tick or message.type == "end_of_track":
                continue
            kept.append((when, message))
            if message.type in ("note_on", "note_off"):
                key = (message.channel, message.note)
                is_on = message.type == "note_on" and message.velocity > 0
                sounding[key] = max(0, sounding.get(key, 0) + (1 if is_on else -1))
        for (channel, pitch), count in sounding.items():
            kept += [(tick, mido.Message("note_off", channel=channel, note=pitch))] * count
        result.tracks.append(untimed(kept, end=tick))
    return result


def merge(song: Song, notes: Sequence[NewNote], *, start: int, stop: int) -> mido.MidiFile:
    """The song with the notes in it.

    Args:
        song: what the notes are added to.
        notes: all between `start` and `stop`.
        start: the join. Notes that the file never ends are ended there, and a held pedal, a bent pitch or a
            faded volume is put right for the channels that go on.
        stop: tick up to which the tracks last at least.
    """
    additions: dict[int, list[tuple[int, int, mido.Message]]] = {}
    for track, channel, pitch in song.unended:
        off = mido.Message("note_off", channel=channel, note=pitch)
        additions.setdefault(track, []).append((start, OFF, off))
    for part in _parts_of(notes):
        messages = _setup(song.midi, part, start, is_fresh=False)
        additions.setdefault(part.track, []).extend((start, SETUP, message) for message in messages)
    for track, tick, order, message in _note_messages(notes):
        additions.setdefault(track, []).append((tick, order, message))
    result = _empty_like(song.midi)
    for index, track in enumerate(song.midi.tracks):
        new = [(tick, message) for tick, _, message in sorted(additions.get(index, []), key=lambda event: event[:2])]
        old, end = [], 0
        for tick, message in timed(track):
            end = tick
            if message.type != "end_of_track":
                old.append((tick, message))
        # Both are in order and the sort is stable, so what was there stands before what is new.
        events = sorted([*old, *new], key=lambda event: event[0])
        result.tracks.append(untimed(events, end=max(end, stop) if new else end))
    return result


def extract_new(song: Song, notes: Sequence[NewNote], *, start: int, stop: int) -> mido.MidiFile:
    """The new notes alone, from tick 0, with the names, tempo, metre, key and instruments in force at the join."""
    result = _empty_like(song.midi)
    tracks: list[list[tuple[int, int, mido.Message | mido.MetaMessage]]] = [[] for _ in song.midi.tracks]
    in_force: dict[str, tuple[int, mido.MetaMessage]] = {}
    for index, track in enumerate(song.midi.tracks):
        for tick, message in timed(track):
            if message.type in ("track_name", "instrument_name"):
                tracks[index].append((0, OFF, message))
            elif message.type in ("set_tempo", "time_signature", "key_signature"):
                if tick > start:
                    tracks[index].append((tick - start, OFF, message))
                elif message.type not in in_force or tick >= in_force[message.type][0]:
                    in_force[message.type] = (tick, message)
    tracks[0].extend((0, OFF, message) for _, message in in_force.values())
    for part in _parts_of(notes):
        tracks[part.track].extend((0, SETUP, message) for message in _setup(song.midi, part, start, is_fresh=True))
    for track, tick, order, message in _note_messages(notes):
        tracks[track].append((tick - start, order, message))
    for events in tracks:
        events.sort(key=lambda event: event[:2])
        result.tracks.append(untimed([(tick, message) for tick, _, message in events], end=stop - start))
    return result


def _empty_like(midi: mido.MidiFile) -> mido.MidiFile:
    return mido.MidiFile(type=midi.type, ticks_per_beat=midi.ticks_per_beat, charset=midi.charset)


def _parts_of(notes: Sequence[NewNote]) -> list[Part]:
    return list({id(note.part): note.part for note in notes}.values())


def _note_messages(notes: Sequence[NewNote]) -> Iterator[tuple[int, int, int, mido.Message]]:
    for part, start, end, pitch, velocity in notes:
        yield (
            part.track,
            start,
            ON,
            mido.Message("note_on", channel=part.channel, note=pitch, velocity=velocity),
        )
        yield part.track, end, OFF, mido.Message("note_off", channel=part.channel, note=pitch)


def _setup(midi: mido.MidiFile, part: Part, start: int, *, is_fresh: bool) -> list[mido.Message]:
    """Messages that make a part's channel ready to play at a tick.

    Args:
        is_fresh: state everything, because nothing comes before; else only what must change.
    """
    channel = part.channel
    program, bend, values, loudest = 0, 0, {}, {VOLUME: 0, EXPRESSION: 0}
    events = sorted((event for track in midi.tracks for event in timed(track)), key=lambda event: event[0])
    for tick, message in events:
        if tick > start or getattr(message, "channel", None) != channel:
            continue
        if message.type == "program_change":
            program = message.program
        elif message.type == "pitchwheel":
            bend = message.pitch
        elif message.type == "control_change":
            values[message.control] = message.value
            if message.control in loudest:
                loudest[message.control] = max(loudest[message.control], message.value)
    messages = []
    for control, value in loudest.items():
        is_faded = values.get(control, value) < FADED_SHARE * value
        if is_faded or (is_fresh and control in values):
            messages.append((control, value if is_faded else values[control]))
    if is_fresh:
        messages = [(control, values[control]) for control in (BANK, BANK_FINE, PAN) if control in values] + messages
    elif values.get(PEDAL, 0) >= PEDAL_DOWN:
        messages.append((PEDAL, 0))
    setup = [
        mido.Message("control_change", channel=channel, control=control, value=value) for control, value in messages
    ]
    if is_fresh or program != part.program:
        setup.append(mido.Message("program_change", channel=channel, program=part.program))
    if bend and not is_fresh:
        setup.append(mido.Message("pitchwheel", channel=channel, pitch=0))
    return setup
