"""New notes into the events of a MIDI file, which stay as they are.

Nothing of the input is rewritten: its messages keep their order, their ticks and their content, and new messages
are merged in behind those that stand at the same tick.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import mido

from adaptgen.domains.music.controllers import BANK, BANK_FINE, EXPRESSION, PAN, PEDAL, PEDAL_DOWN, RESET, VOLUME
from adaptgen.domains.music.smf import LONGEST_DELTA_TICKS
from adaptgen.domains.music.song import Part, Song
from adaptgen.domains.music.timing import Timed, all_events, timed

__all__ = ["NewNote", "PedalMove", "cut", "extract_new", "merge", "untimed", "with_tempo"]

UNSET = {BANK: 0, BANK_FINE: 0, VOLUME: 100, PAN: 64, EXPRESSION: 127, PEDAL: 0}
"""Controllers that hold for the new part, and what they are where nothing sets them.

A reset leaves bank, volume and pan as they are (MIDI Recommended Practice 015).
"""
FADED_SHARE = 0.25
"""A channel whose volume or expression ends below this share of its loudest is taken to have faded out."""

IN_FORCE = ("set_tempo", "time_signature", "key_signature")
"""Meta messages that hold for the whole file until the next of their kind."""

OFF, SETUP, ON = range(3)
"""Order of new messages at one tick."""


class NewNote(NamedTuple):
    """A note to be added; ticks from the start of the file."""

    part: Part
    start: int
    end: int
    pitch: int
    velocity: int


class PedalMove(NamedTuple):
    """A pedal to be pressed or lifted; `value` of controller 64."""

    tick: int
    track: int
    channel: int
    value: int


def untimed(events: Sequence[Timed], *, end: int) -> mido.MidiTrack:
    """The reverse of `timed`; ends the track at `end` or at its last message."""
    track, previous = mido.MidiTrack(), 0

    def append(tick: int, message: mido.Message | mido.MetaMessage) -> None:
        nonlocal previous
        while tick - previous > LONGEST_DELTA_TICKS:
            track.append(mido.MetaMessage("text", time=LONGEST_DELTA_TICKS))
            previous += LONGEST_DELTA_TICKS
        # `copy(time=...)` would check the message, and refuse some that were read.
        message = message.copy()
        vars(message)["time"] = tick - previous
        track.append(message)
        previous = tick

    for tick, message in events:
        append(tick, message)
    append(max(end, previous), mido.MetaMessage("end_of_track"))
    return track


def cut(midi: mido.MidiFile, tick: int) -> mido.MidiFile:
    """A copy that holds what comes before a tick. Notes that ring over it have no end there; `merge` gives them one.

    A metre, tempo or key that begins at the tick stays: it belongs to the bar that begins there.
    """
    result = _empty_like(midi)
    for track in midi.tracks:
        kept = [
            (when, message)
            for when, message in timed(track)
            if message.type != "end_of_track" and (when < tick or (when == tick and message.type in IN_FORCE))
        ]
        result.tracks.append(untimed(kept, end=tick))
    return result


def with_tempo(midi: mido.MidiFile, tick: int, tempo: int) -> mido.MidiFile:
    """A copy that goes on from a tick with a tempo in microseconds per quarter."""
    result = _empty_like(midi)
    for index, track in enumerate(midi.tracks):
        events = [event for event in timed(track) if event[1].type != "end_of_track"]
        if index == 0:
            events.append((tick, mido.MetaMessage("set_tempo", tempo=tempo)))
            events.sort(key=lambda event: event[0])
        result.tracks.append(untimed(events, end=sum(message.time for message in track)))
    return result


def merge(
    song: Song, notes: Sequence[NewNote], pedal_moves: Sequence[PedalMove], *, start: int, stop: int
) -> mido.MidiFile:
    """The song with the notes in it.

    Args:
        song: what the notes are added to.
        notes: all between `start` and `stop`.
        pedal_moves: beside them.
        start: the join. Notes that the file never ends are ended there, and a held pedal, a bent pitch or a
            faded volume is put right for the channels that go on. What the file does to their settings after that
            is taken back at the same tick. A pedal that is never lifted is, at the file's old end, on all others.
        stop: tick up to which the tracks last at least.
    """
    additions: dict[int, list[tuple[int, int, mido.Message]]] = {}
    for track, channel, pitch in song.unended:
        off = mido.Message("note_off", channel=channel, note=pitch)
        additions.setdefault(track, []).append((start, OFF, off))
    channels, parts = _channels_at(song.midi, start), _parts_of(notes)
    for part in parts:
        channel = channels[part.channel]
        messages = _setup(channel, part, is_fresh=False)
        track = max(part.track, channel.last_track_at_join)
        additions.setdefault(track, []).extend((start, SETUP, message) for message in messages)
        for tick, track, message in channel.later:
            if tick < stop:
                again = _undo(message, channel, part)
                additions.setdefault(max(track, part.track), []).extend((tick, SETUP, each) for each in again)
    played = {part.channel for part in parts}
    for tick, track, message in _pedals_left_down(song.midi):
        if message.channel not in played:
            up = message.copy(value=0, time=0)
            additions.setdefault(track, []).append((max(start, tick), SETUP, up))
    for track, tick, order, message in [*_pedal_messages(pedal_moves), *_note_messages(notes)]:
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


def extract_new(
    song: Song, notes: Sequence[NewNote], pedal_moves: Sequence[PedalMove], *, start: int, stop: int
) -> mido.MidiFile:
    """The new notes alone, from tick 0, with the names, tempo, metre, key and instruments in force at the join."""
    result = _empty_like(song.midi)
    tracks: list[list[tuple[int, int, mido.Message | mido.MetaMessage]]] = [[] for _ in song.midi.tracks]
    in_force: dict[str, tuple[int, mido.MetaMessage]] = {}
    for index, track in enumerate(song.midi.tracks):
        for tick, message in timed(track):
            if message.type in ("track_name", "instrument_name"):
                tracks[index].append((0, OFF, message))
            elif message.type in IN_FORCE:
                if tick > start:
                    tracks[index].append((tick - start, OFF, message))
                elif message.type not in in_force or tick >= in_force[message.type][0]:
                    in_force[message.type] = (tick, message)
    tracks[0].extend((0, OFF, message) for _, message in in_force.values())
    channels = _channels_at(song.midi, start)
    for part in _parts_of(notes):
        messages = _setup(channels[part.channel], part, is_fresh=True)
        tracks[part.track].extend((0, SETUP, message) for message in messages)
    for track, tick, order, message in [*_pedal_messages(pedal_moves), *_note_messages(notes)]:
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


def _pedal_messages(moves: Sequence[PedalMove]) -> Iterator[tuple[int, int, int, mido.Message]]:
    for tick, track, channel, value in moves:
        message = mido.Message("control_change", channel=channel, control=PEDAL, value=value)
        yield track, tick, SETUP, message


@dataclass
class Channel:
    """What a channel is set to at a tick.

    Attributes:
        controls: the value of each controller that was set.
        loudest: the largest value so far of the controllers for loudness, set or, where a note was struck before that,
            unset.
        later: tick, track and message of what changes its settings afterwards.
        last_track_at_join: the last one that changes them at that very tick, whose word would be the last.
    """

    program: int = 0
    bend: int = 0
    controls: dict[int, int] = field(default_factory=dict)
    loudest: dict[int, int] = field(default_factory=lambda: {VOLUME: 0, EXPRESSION: 0})
    later: list[tuple[int, int, mido.Message]] = field(default_factory=list)
    last_track_at_join: int = 0


def _channels_at(midi: mido.MidiFile, start: int) -> list[Channel]:
    channels = [Channel() for _ in range(16)]
    for tick, track, message in all_events(midi):
        if message.type == "note_on" and message.velocity and tick < start:
            channel = channels[message.channel]
            for control in channel.loudest.keys() - channel.controls.keys():
                channel.loudest[control] = UNSET[control]
        if message.type not in ("program_change", "pitchwheel", "control_change"):
            continue
        channel = channels[message.channel]
        # A program at the join is for notes that were to come, a controller may be for those that ring on.
        if tick > start or (tick == start and message.type == "program_change"):
            channel.later.append((tick, track, message))
            continue
        if tick == start:
            channel.last_track_at_join = max(channel.last_track_at_join, track)
        if message.type == "program_change":
            channel.program = message.program
        elif message.type == "pitchwheel":
            channel.bend = message.pitch
        elif message.control == RESET:
            channel.bend = 0
            channel.controls |= {control: UNSET[control] for control in (EXPRESSION, PEDAL)}
        else:
            channel.controls[message.control] = message.value
            if message.control in channel.loudest:
                channel.loudest[message.control] = max(channel.loudest[message.control], message.value)
    return channels


def _setup(channel: Channel, part: Part, *, is_fresh: bool) -> list[mido.Message]:
    """Messages that make a part's channel ready to play.

    Args:
        is_fresh: state everything, because nothing comes before; else only what must change.
    """
    values, messages = channel.controls, []
    for control in channel.loudest:
        held = _held(channel, control)
        if control in values and (is_fresh or held != values[control]):
            messages.append((control, held))
    if is_fresh:
        messages = [(control, values[control]) for control in (BANK, BANK_FINE, PAN) if control in values] + messages
    elif values.get(PEDAL, 0) >= PEDAL_DOWN:
        messages.append((PEDAL, 0))
    setup = [
        mido.Message("control_change", channel=part.channel, control=control, value=value)
        for control, value in messages
    ]
    if is_fresh or channel.program != part.program:
        setup.append(mido.Message("program_change", channel=part.channel, program=part.program))
    if channel.bend and not is_fresh:
        setup.append(mido.Message("pitchwheel", channel=part.channel, pitch=0))
    return setup


def _held(channel: Channel, control: int) -> int:
    """The value that a controller has for the new part: the one at the join, but no pedal and nothing faded."""
    value = 0 if control == PEDAL else channel.controls.get(control, UNSET[control])
    loudest = channel.loudest.get(control, 0)
    return loudest if value < FADED_SHARE * loudest else value


def _undo(message: mido.Message, channel: Channel, part: Part) -> list[mido.Message]:
    """What takes a later change of a part's settings back; nothing where there is nothing to take back."""
    if message.type == "program_change":
        return [mido.Message("program_change", channel=part.channel, program=part.program)]
    if message.type == "pitchwheel":
        return [mido.Message("pitchwheel", channel=part.channel, pitch=0)] if message.pitch else []
    control, value = message.control, message.value
    if control == RESET:
        control, value = EXPRESSION, UNSET[EXPRESSION]
    if control not in UNSET or value == _held(channel, control):
        return []
    return [mido.Message("control_change", channel=part.channel, control=control, value=_held(channel, control))]


def _pedals_left_down(midi: mido.MidiFile) -> list[tuple[int, int, mido.Message]]:
    """Tick of the file's end, track and last message of each channel's pedal that is not lifted before."""
    last: dict[int, tuple[int, mido.Message]] = {}
    events = all_events(midi)
    for _, track, message in events:
        if message.type == "control_change" and message.control in (PEDAL, RESET):
            last[message.channel] = (track, message)
    return [
        (events[-1][0], track, message)
        for track, message in last.values()
        if message.control == PEDAL and message.value >= PEDAL_DOWN
    ]
