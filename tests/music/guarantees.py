"""What a continuation of a MIDI file promises, checked on bytes alone.

Nothing of adaptgen is used here, nor mido, whose reader changes some events: the files are parsed once more, from
the standard, and every rule is stated once more, in exact fractions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from smf_reader import END_OF_TRACK, KEY, METRE, TEMPO, File, Sounding, is_off, is_on, notes_of, parse

DRUM_CHANNEL = 9
PIANOS = range(8)
PIANO_PITCHES = range(21, 109)
GENERAL_MIDI_DRUMS = range(35, 82)
DEFAULTS = {7: 100, 11: 127}
"""Volume and expression of a channel where nothing sets them."""


class Bars:
    """Bar lines: each metre change begins a bar, the lines after it follow at the nearest ticks.

    Metres that have no bar of a tick or more, or a note value below a 64th, count for nothing.
    """

    def __init__(self, file: File) -> None:
        self.beat = file.division
        segments = {0: Fraction(4 * file.division)}
        for tick, _, data in file.merged:
            if data[:2] == bytes([0xFF, METRE]) and len(data) == 6 and data[2] and data[3] <= 6:
                length = Fraction(4 * data[2] * file.division, 2 ** data[3])
                if length >= 1:
                    segments[tick] = length
        self.segments = sorted(segments.items())

    def next_line(self, tick: int | Fraction) -> int:
        """The first bar line after a tick."""
        index = max(i for i, (start, _) in enumerate(self.segments) if i == 0 or start <= tick)
        start, length = self.segments[index]
        number = max(0, (tick - start) // length)
        line = next(line for n in range(number, number + 4) if (line := start + round(n * length)) > tick)
        following = [start for start, _ in self.segments[index + 1 :][:1]]
        return min([line, *following])

    def line_after(self, tick: int, count: int) -> int:
        for _ in range(count):
            tick = self.next_line(tick)
        return tick


class FoundBars(Bars):
    """Bar lines that were found in what was played, of which the first is where new music begins."""

    def __init__(self, lines: list[int], *, beat: int) -> None:
        self.lines, self.beat = lines, beat

    def next_line(self, tick: int | Fraction) -> int:
        return next(line for line in self.lines if line > tick)


def seconds_at(file: File, tick: int) -> Fraction:
    """Time of a tick by the tempo map."""
    now, seconds, tempo = 0, Fraction(0), 500_000
    for when, _, data in file.merged:
        if data[:2] == bytes([0xFF, TEMPO]) and len(data) == 5 and when <= tick:
            seconds += Fraction((when - now) * tempo, 1_000_000 * file.division)
            now, tempo = when, int.from_bytes(data[2:])
    return seconds + Fraction((tick - now) * tempo, 1_000_000 * file.division)


def cut(file: File, tick: int) -> File:
    """What stands before a tick, and what metre, tempo and key begin with it."""
    tracks = [
        [
            event
            for event in track
            if event.meta != END_OF_TRACK
            and (event.tick < tick or (event.tick == tick and event.meta in (METRE, TEMPO, KEY)))
        ]
        for track in file.tracks
    ]
    return File(file.midi_format, file.division, tracks)


@dataclass
class Promise:
    """What was asked of a continuation: one length, and perhaps a first bar counted from 1."""

    bars: int | None = None
    seconds: float | None = None
    from_bar: int | None = None


@dataclass
class Found:
    """Bars of a file that has none of its own: lines in ticks from the join on, and the ticks of a quarter there."""

    lines: list[int]
    beat: int


@dataclass
class Outcome:
    """What `check` found: where the new part lies and its notes."""

    join: int
    stop: int
    notes: list[Sounding]


def join_of(file: File, notes: list[Sounding]) -> int:
    """The first bar line after which nothing begins and over which nothing rings by more than a sixteenth."""
    bars = Bars(file)
    after_onsets = bars.next_line(max(note.start for note in notes))
    rings_until = Fraction(max(max(note.end, note.start + 1) for note in notes)) - Fraction(file.division, 4)
    return max(after_onsets, bars.next_line(-(-rings_until.numerator // rings_until.denominator) - 1))


def stop_after(file: File, join: int, seconds: float) -> int:
    """The last tick that is at most so many seconds after the join."""
    end = seconds_at(file, join) + Fraction(str(seconds))
    tempos = {0: 500_000}
    for tick, _, data in file.merged:
        if data[:2] == bytes([0xFF, TEMPO]) and len(data) == 5:
            tempos[tick] = int.from_bytes(data[2:])
    start = max(tick for tick in tempos if tick == 0 or seconds_at(file, tick) <= end)
    return start + int((end - seconds_at(file, start)) * 1_000_000 * file.division / tempos[start])


def check(before: bytes, after: bytes, promise: Promise, *, found: Found | None = None) -> Outcome:
    """Fail with a reason unless `after` is a continuation of `before` that keeps every promise."""
    old, new = parse(before), parse(after)
    assert new.division == old.division
    assert new.midi_format == old.midi_format or (new.midi_format == 1 and len(new.tracks) > 1)
    assert len(new.tracks) == len(old.tracks)
    check_tracks_end(old, new, is_cut=promise.from_bar is not None)
    bars = FoundBars(found.lines, beat=found.beat) if found else Bars(new)
    if found is not None:
        join = found.lines[0]
    elif promise.from_bar is None:
        join = join_of(old, notes_of(old))
    else:
        join = Bars(old).line_after(0, promise.from_bar - 1)
    if promise.from_bar is not None:
        old = cut(old, join)
    stop = bars.line_after(join, promise.bars) if promise.bars is not None else stop_after(new, join, promise.seconds)
    old_notes = notes_of(old)
    notes = pair(added_events(old, new), unended=[note for note in old_notes if not note.is_ended], join=join)
    notes = with_programs(new, notes)
    check_places(notes, old_notes, join=join, stop=stop)
    check_players(notes, old_notes)
    check_kit(notes, with_programs(old, old_notes))
    check_velocities(notes, old, new)
    check_voices(notes, old_notes, beat=bars.beat)
    check_controllers(new, notes, join=join, stop=stop, beat=bars.beat)
    check_no_bar_is_silent(notes, bars, join=join, stop=stop)
    return Outcome(join, stop, notes)


def check_kit(notes: list[Sounding], old_notes: list[Sounding]) -> None:
    """A drummer who has struck 32 notes on his last kit goes on with the drums that it has."""
    drummed = [note for note in old_notes if note.channel == 9]
    kit = [note.pitch for note in drummed if note.program == drummed[-1].program]
    if len(kit) >= 32:
        new = {note.pitch for note in notes if note.channel == 9} - set(kit)
        assert not new, f"the drums {sorted(new)} were never struck before"


def check_tracks_end(old: File, new: File, *, is_cut: bool) -> None:
    for before, after in zip(old.tracks, new.tracks, strict=True):
        assert [event.meta for event in after].count(END_OF_TRACK) == 1
        assert after[-1].meta == END_OF_TRACK
        assert is_cut or not before or after[-1].tick >= before[-1].tick


def added_events(old: File, new: File) -> list[tuple[int, int, bytes]]:
    """Tick, track and data of what is new; all that was there must be there, in its order."""
    added = []
    for index, (before, after) in enumerate(zip(old.tracks, new.tracks, strict=True)):
        kept = iter([event for event in before if event.meta != END_OF_TRACK])
        expected = next(kept, None)
        for event in after[:-1]:
            if event == expected:
                expected = next(kept, None)
            else:
                added.append((event.tick, index, event.data))
        assert expected is None, f"track {index} lacks {expected} or has it elsewhere"
    return added


def pair(added: list[tuple[int, int, bytes]], *, unended: list[Sounding], join: int) -> list[Sounding]:
    """The new notes from the new events, of which there may be no others but a channel's settings."""
    to_end = Counter((note.track, note.channel, note.pitch) for note in unended)
    open_notes: dict[tuple[int, int, int], int] = {}
    notes = []
    for tick, track, data in added:
        assert tick >= join, f"{data.hex()} at {tick} is before the join at {join}"
        channel, key = data[0] & 0xF, (track, data[0] & 0xF, data[1])
        if is_on(data):
            assert key not in open_notes, f"{key} is struck again at {tick} while it sounds"
            open_notes[key] = tick
        elif is_off(data):
            if key in open_notes:
                notes.append(Sounding(open_notes.pop(key), tick, data[1], channel, track, -1))
            else:
                assert tick == join, f"nothing is there to end at {tick}: {key}"
                to_end[key] -= 1
        else:
            is_setting = data[0] >> 4 in (0xC, 0xE) or (data[0] >> 4 == 0xB and data[1] in (0, 7, 10, 11, 32, 64))
            is_tempo = tick == join and data[:2] == bytes([0xFF, TEMPO])
            assert is_setting or is_tempo or data == b"\xff\x01", f"unexpected {data.hex()}"
    assert not open_notes, f"notes hang: {open_notes}"
    assert not any(to_end.values()), f"notes of the prompt hang or are ended twice: {to_end}"
    return sorted(notes)


def with_programs(file: File, notes: list[Sounding]) -> list[Sounding]:
    """The notes with the program in force on their channel when their note-on comes."""
    programs, at_start = [0] * 16, {}
    for tick, track, data in file.merged:
        channel = data[0] & 0xF
        if is_on(data):
            at_start[tick, track, channel, data[1]] = programs[channel]
        elif data[0] >> 4 == 0xC:
            programs[channel] = data[1]
    return [n._replace(program=at_start[n.start, n.track, n.channel, n.pitch]) for n in notes]


def check_places(notes: list[Sounding], old_notes: list[Sounding], *, join: int, stop: int) -> None:
    free_from: dict[tuple[int, int], int] = defaultdict(int)
    for note in old_notes:
        end = note.end if note.is_ended else join
        free_from[note.channel, note.pitch] = max(free_from[note.channel, note.pitch], end)
    for note in notes:
        assert join <= note.start < note.end <= stop, f"{note} is not within {join} to {stop}"
        key = (note.channel, note.pitch)
        assert note.start >= free_from[key], f"{note} begins before {free_from[key]}, when its pitch is free"
        free_from[key] = note.end


def check_players(notes: list[Sounding], old_notes: list[Sounding]) -> None:
    players = defaultdict(set)
    for note in old_notes:
        players[note.track, note.channel].add(note.program)
    drums = {note.pitch for note in old_notes if note.channel == DRUM_CHANNEL} | {*GENERAL_MIDI_DRUMS}
    for note in notes:
        assert note.program in players[note.track, note.channel], f"{note} has a player that the prompt lacks"
        if note.channel == DRUM_CHANNEL:
            assert note.pitch in drums, f"{note} is no drum"
        elif note.program in PIANOS:
            assert note.pitch in PIANO_PITCHES, f"{note} is not on a piano"


def check_velocities(notes: list[Sounding], old: File, new: File) -> None:
    """Fail unless each player stays between its softest and its loudest."""
    was = defaultdict(list)
    for _, track, data in old.merged:
        if is_on(data):
            was[track, data[0] & 0xF].append(data[2])
    begun = {(note.start, note.track, note.channel, note.pitch) for note in notes}
    for tick, track, data in new.merged:
        if is_on(data) and (tick, track, data[0] & 0xF, data[1]) in begun:
            own = was[track, data[0] & 0xF]
            assert min(own) <= data[2] <= max(own), f"velocity {data[2]} in a part of {min(own)} to {max(own)}"


def check_voices(notes: list[Sounding], old_notes: list[Sounding], *, beat: int) -> None:
    """Fail if a player of eight notes or more, none of which sounded together with another, now sounds several."""
    for player in {(note.track, note.channel, note.program) for note in notes}:
        was, now = (
            sorted((n.start, n.end) for n in those if (n.track, n.channel, n.program) == player)
            for those in (old_notes, notes)
        )
        if player[1] == DRUM_CHANNEL or len(was) < 8:
            continue
        if all(start < later and end - later <= beat / 8 for (start, end), (later, _) in pairwise(was)):
            for (_, end), (later, _) in pairwise(now):
                assert end <= later, f"{player}, who has one voice, plays two notes at {later}"


def check_controllers(new: File, notes: list[Sounding], *, join: int, stop: int, beat: int) -> None:
    """Fail if a pitch is bent or a channel faded or set otherwise than at the join while it plays, or a pedal hangs.

    Only a channel that was pedalled is, for no longer than eight quarters, and to the end at most.
    """
    played = {note.channel for note in notes}
    after: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    struck: dict[int, list[int]] = defaultdict(list)
    for tick, _, data in new.merged:
        if data[0] >> 4 == 9 and data[2]:
            struck[data[0] & 0xF].append(tick)
        if data[0] >> 4 in (0xB, 0xE) and data[0] & 0xF in played and (tick < stop or (tick == stop and lifts(data))):
            after[data[0] & 0xF].append((tick, data))
    for channel, events in after.items():
        pedal = bend = num_presses = 0
        pressed = None
        for place, (tick, data) in enumerate(events):
            if data[0] >> 4 == 0xE:
                bend = data[1] + 128 * data[2] - 8192
            elif data[1] in (64, 121):
                pedal, bend = (data[2] if data[1] == 64 else 0), (bend if data[1] == 64 else 0)
            num_presses += pedal >= 64 and tick < join
            is_last = place + 1 == len(events) or events[place + 1][0] > tick
            if tick >= join and is_last:
                assert pedal < 64 or num_presses >= 4, f"channel {channel} has its pedal down at {tick}"
                if pedal >= 64:
                    pressed = tick if pressed is None else pressed
                elif pressed is not None:
                    assert tick - pressed <= 8 * beat, f"channel {channel} has its pedal down from {pressed}"
                    pressed = None
                assert not bend, f"channel {channel} is bent at {tick}"
        assert pressed is None, f"the pedal of channel {channel} hangs from {pressed}"
        for control in (7, 11):
            set_to = [(tick, value) for tick, data in events if (value := value_of(control, data)) is not None]
            at_join = next((value for tick, value in reversed(set_to) if tick <= join), DEFAULTS[control])
            given = [data[2] for tick, data in events if tick <= join and (data[0] >> 4, data[1]) == (0xB, control)]
            first_set = next((tick for tick, _ in set_to), join)
            given += [DEFAULTS[control] for tick in struck[channel] if tick < min(first_set, join)]
            assert 4 * at_join >= max(given, default=0), f"controller {control} of channel {channel} has faded"
            for note in notes:
                if note.channel == channel:
                    value = next((value for tick, value in reversed(set_to) if tick <= note.start), DEFAULTS[control])
                    assert value == at_join, f"controller {control} is {value} for {note}, at the join {at_join}"


def lifts(data: bytes) -> bool:
    return (data[0] >> 4, data[1]) == (0xB, 64) and data[2] < 64


def value_of(control: int, data: bytes) -> int | None:
    """What an event sets a controller to; all controllers reset is full expression (MIDI RP-015)."""
    if data[0] >> 4 != 0xB:
        return None
    if (data[1], control) == (121, 11):
        return DEFAULTS[control]
    return data[2] if data[1] == control else None


def check_no_bar_is_silent(notes: list[Sounding], bars: Bars, *, join: int, stop: int) -> None:
    """Fail unless in every whole new bar a new note begins, or rings on by more than a sixteenth or all through."""
    line = join
    while (following := bars.next_line(line)) <= stop:
        enough = min(Fraction(bars.beat, 4), following - line - 1)
        begins = any(line <= note.start < following for note in notes)
        rings_on = any(note.start < line and note.end - line > enough for note in notes)
        assert begins or rings_on, f"the bar from {line} to {following} is silent"
        line = following


def check_new_part(whole: bytes, part: bytes, outcome: Outcome) -> None:
    """Fail unless `part` is the new part of `whole` alone, from tick 0, with all that was in force at the join."""
    full, alone = parse(whole), parse(part)
    assert (alone.division, len(alone.tracks)) == (full.division, len(full.tracks))
    assert all(track[-1].tick <= outcome.stop - outcome.join for track in alone.tracks)
    notes = [note._replace(start=note.start - outcome.join, end=note.end - outcome.join) for note in outcome.notes]
    assert notes_of(alone) == sorted(notes)
    for channel in {note.channel for note in notes}:
        for control in (0, 7, 10, 32):
            values = [setting(file, channel, control, tick) for file, tick in ((full, outcome.join), (alone, 0))]
            assert values[0] == values[1], f"controller {control} of channel {channel} is not as at the join"
    line, begin = 0, seconds_at(full, outcome.join)
    while line < outcome.stop - outcome.join:
        expected = Bars(full).next_line(outcome.join + line) - outcome.join
        line = Bars(alone).next_line(line)
        is_fractional = any(length.denominator > 1 for _, length in Bars(full).segments)
        assert abs(line - expected) <= is_fractional, "the metre is another"
        assert seconds_at(alone, line) == seconds_at(full, line + outcome.join) - begin


def setting(file: File, channel: int, control: int, tick: int) -> int | None:
    """What a controller of a channel was last set to up to a tick."""
    status = bytes([0xB0 | channel, control])
    return next((data[2] for when, _, data in reversed(file.merged) if data[:2] == status and when <= tick), None)
