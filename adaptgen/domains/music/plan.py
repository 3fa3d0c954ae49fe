"""Where new notes may stand: the bars to be written, in ticks, and the parts that may play in them.

All that is exact about a continuation is decided here, once, in the ticks of the user's file; the grammar keeps
to it while tokens are drawn, and the splice writes notes at the same ticks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from adaptgen.domains.music.accents import Accents, find_accents
from adaptgen.domains.music.density import DensityHabit, find_density
from adaptgen.domains.music.grid import STEPS_PER_BEAT, Grid, GridCell, least_ring_ticks
from adaptgen.domains.music.loops import Loops
from adaptgen.domains.music.rests import RestHabit, Tune, find_habit, find_tune
from adaptgen.domains.music.song import GENERAL_MIDI_DRUMS, PIANO_PITCHES, Part, Song
from adaptgen.domains.music.tokenizer import DRUMS, PartNames
from adaptgen.errors import UsageError

__all__ = ["MAX_NEW_BARS", "Cell", "Plan", "Slot", "SlotHabits", "find_join_bar", "find_slots"]

MAX_NEW_BARS = 10_000
"""That can be asked for, of up to eight quarters; a longer bar counts as several."""

PIANO_PROGRAMS = range(8)
ALL_PITCHES = range(128)
GENERAL_MIDI_DRUM_PITCHES = range(35, 82)
REACH = 5
"""By how many semitones a part may go beyond the range it has in the prompt: a bass stays a bass."""
LEAST_RANGE = 24
"""A part may move within two octaves at least, however little it has played."""
LEAST_NOTES_OF_ONE_VOICE = 8
"""With fewer a part has not shown that it has one. Of 359 such parts in songs cut at half, two soon have more."""
LEAST_DRUM_NOTES = 32
"""With fewer a drummer has not shown his kit. Of 380 in the Groove MIDI Dataset who have struck 64, 3.5 % of the next
64 are on other drums."""
CHORD_NOTES = 3
THINNEST_CHORDS = 0.1
"""Share of a part's chords that may be thinner than those it goes on with."""
LEAST_CHORDS = 8
"""With fewer onsets a part has not shown that it plays chords alone. Of 277 such parts in songs cut somewhere one soon
plays less."""
SPREAD_PARTS_OF_BEAT = 12
"""Notes that begin within a twelfth of a quarter are struck together."""
LEGATO_PARTS_OF_BEAT = 8
"""Notes that overlap by an eighth of a quarter are still one after the other."""


@dataclass
class Slot:
    """Part or parts that one program token stands for."""

    program_token: int
    parts: list[Part]
    pitches: frozenset[int]
    """What may be played: a range about what was, on the keys for pianos; the drums in use, and where these were struck
    seldom, the usual ones."""
    part_of_pitch: dict[int, Part] = field(default_factory=dict)
    """For drums: who struck a pitch last."""
    keys: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """For drums: of pitches of General MIDI, the keys on which who last struck them has their sound."""

    @property
    def is_drums(self) -> bool:
        return self.program_token == DRUMS

    @property
    def channel(self) -> int:
        return self.parts[0].channel

    def keys_of(self, pitch: int) -> tuple[int, ...]:
        """On which keys, all of one part, a pitch that was drawn may be struck."""
        return self.keys.get(pitch, (pitch,))

    def velocities(self, pitch: int) -> list[int]:
        """Of all notes of the part that plays a pitch."""
        return [note.velocity for note in self.part_for(self.keys_of(pitch)[0]).notes]

    def has_one_voice(self, *, ticks_per_beat: int) -> bool:
        """Whether no two of its notes sound together, but for what is played legato. No drums have."""
        notes, legato = sorted(self.parts[0].notes), ticks_per_beat / LEGATO_PARTS_OF_BEAT
        if self.is_drums or len(notes) < LEAST_NOTES_OF_ONE_VOICE:
            return False
        return all(note.start < later.start and note.end - later.start <= legato for note, later in pairwise(notes))

    def least_notes(self, *, ticks_per_beat: int) -> int:
        """How many it strikes at once, but in a tenth of its chords, if it has always struck three or more; else 1."""
        if self.is_drums:
            return 1
        chords: list[set[int]] = []
        first = -ticks_per_beat
        for note in self.parts[0].notes:
            if note.start - first > ticks_per_beat / SPREAD_PARTS_OF_BEAT:
                first = note.start
                chords.append(set())
            chords[-1].add(note.pitch)
        sizes = sorted(map(len, chords))
        plays_chords_alone = len(sizes) >= LEAST_CHORDS and sizes[0] >= CHORD_NOTES
        return sizes[int(THINNEST_CHORDS * len(sizes))] if plays_chords_alone else 1

    def part_for(self, pitch: int) -> Part:
        """Who plays a pitch."""
        return self.part_of_pitch.get(pitch, self.parts[0])


@dataclass(frozen=True)
class SlotHabits:
    """How a slot has played up to the join, and so goes on.

    Attributes:
        rest: how it has rested.
        tune: of one that accompanies itself, None for others.
        density: how densely it has played.
        accents: how loud it is at which place of a bar, if it has kept to that.
        has_one_voice: whether it strikes one note at a time.
        least_notes: how many it strikes at once, if it can.
    """

    rest: RestHabit
    tune: Tune | None
    density: DensityHabit
    accents: Accents
    has_one_voice: bool
    least_notes: int

    @classmethod
    def find(cls, slot: Slot, grid: Grid, *, join_bar: int, last_start: int) -> SlotHabits:
        """Those in the bars before `join_bar`, where the song's last note begins at a tick."""
        ticks_per_beat = grid.bars.ticks_per_beat
        has_one_voice = slot.has_one_voice(ticks_per_beat=ticks_per_beat)
        has_tune = not (slot.is_drums or has_one_voice)
        return cls(
            rest=find_habit(slot.parts, grid, join_bar=join_bar, last_start=last_start),
            tune=find_tune(slot.parts, grid, join_bar=join_bar, last_start=last_start) if has_tune else None,
            density=find_density(slot.parts, ticks_per_beat=ticks_per_beat),
            accents=find_accents(slot.parts, grid, join_bar=join_bar),
            has_one_voice=has_one_voice,
            least_notes=slot.least_notes(ticks_per_beat=ticks_per_beat),
        )


@dataclass(frozen=True)
class Cell:
    """What one Bar token stands for: a bar, a group of one-beat bars, or a stretch of a very long bar.

    Attributes:
        start: the bar line of its bar, or of the first one of its group.
        num_steps: length.
        ticks: tick of every step at which a note may begin; no two are equal. Where the grid stands early, the
            first steps may lie before the bar line; none lies behind the bar.
        bars: start and end of each bar that must sound by the end of this cell, because no later cell reaches it.
    """

    start: int
    num_steps: int
    ticks: dict[int, int]
    bars: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Plan:
    """What a continuation may hold.

    Attributes:
        start, stop: ticks between which all of it lies.
        cells: the bars.
        slots: the parts, in writing order.
        habits: of each of them.
        loops: what hand percussion goes on with.
        sounding: (channel, pitch) of prompt notes that ring into the new part, and the tick at which they end.
        num_bars: how many bars that is, a last one that `stop` cuts included.
    """

    start: int
    stop: int
    ticks_per_beat: int
    cells: Sequence[Cell]
    slots: Sequence[Slot]
    habits: Sequence[SlotHabits]
    loops: Loops
    sounding: dict[tuple[int, int], int]
    num_bars: int

    def end_tick(self, start_tick: int, duration: int) -> int:
        """Where a note of so many steps ends: at least a tick after its start, never after the plan's end."""
        length = max(1, round(duration * self.ticks_per_beat / STEPS_PER_BEAT))
        return min(start_tick + length, self.stop)

    def fits(self, start_tick: int, duration: int, *, stop: int | None = None) -> bool:
        """Whether a note of so many steps ends by itself before the plan does, and before `stop`."""
        length = max(1, round(duration * self.ticks_per_beat / STEPS_PER_BEAT))
        return start_tick + length <= min(self.stop, self.stop if stop is None else stop)

    @classmethod
    def make(cls, song: Song, grid: Grid, *, join_bar: int, stop: int, loops: Loops) -> Plan:
        """Lay out the bars from `join_bar` up to the tick `stop`; `loops` are those before it.

        Raises:
            UsageError: it is more than can be written.
        """
        start, slots = grid.bars.start(join_bar), find_slots(song.parts)
        sounding: dict[tuple[int, int], int] = {}
        for part in song.parts:
            for note in part.notes:
                if note.end > start:
                    key = part.channel, part.sound_of(note.pitch)
                    sounding[key] = max(note.end, sounding.get(key, 0))
        last_bar = grid.bars.index(stop - 1)
        num_bars = last_bar - join_bar + 1
        if num_bars * len(grid.layout(last_bar, last_bar + 1)) > MAX_NEW_BARS:
            raise UsageError(
                f"that is {num_bars} bars; {MAX_NEW_BARS} of up to eight quarters can be written", "Ask for less"
            )
        layout = grid.layout(join_bar, last_bar + 1)
        cells = tuple(_cells(grid, layout, start, stop))
        last_start = max(note.start for part in song.parts for note in part.notes)
        habits = [SlotHabits.find(slot, grid, join_bar=join_bar, last_start=last_start) for slot in slots]
        return cls(start, stop, grid.bars.ticks_per_beat, cells, slots, habits, loops, sounding, num_bars)


def _cells(grid: Grid, layout: Sequence[GridCell], start: int, stop: int) -> Iterator[Cell]:
    ticks_of = [_ticks(grid, cell, start, stop) for cell in layout]
    for index, (cell, ticks) in enumerate(zip(layout, ticks_of, strict=True)):
        stop_index = index + 1
        while stop_index < len(layout) and layout[stop_index].first_bar == cell.first_bar:
            stop_index += 1
        later = ticks_of[index + 1 : stop_index]
        bars = []
        for bar in range(cell.first_bar, cell.first_bar + cell.num_bars):
            bar_start, bar_end = grid.bars.start(bar), grid.bars.start(bar + 1)
            # A bar that is cut may be silent, unless it is all there is; so may one without a step.
            must_sound = bar_end <= stop or bar_start == start
            if must_sound and _reaches(ticks, bar_start) and not any(_reaches(t, bar_start) for t in later):
                bars.append((bar_start, min(bar_end, stop)))
        yield Cell(grid.bars.start(cell.first_bar), cell.num_steps, ticks, tuple(bars))


def _reaches(ticks: dict[int, int], bar_start: int) -> bool:
    return any(tick >= bar_start for tick in ticks.values())


def _ticks(grid: Grid, cell: GridCell, start: int, stop: int) -> dict[int, int]:
    """Tick of every step of a cell that is free for notes."""
    # An early grid has the first steps of the next bar before the bar line; they must find their ticks free.
    early = round(min(0.0, grid.phase) * grid.bars.ticks_per_beat)
    ticks = {}
    base = 0
    for bar in range(cell.first_bar, cell.first_bar + cell.num_bars):
        bar_end = min(stop, grid.bars.start(bar + 1))
        last_tick = max(start, grid.bars.start(bar) + early) - 1
        for step in range(grid.num_steps(bar)):
            position = base + step - cell.first_step
            tick = max(start, grid.tick(bar, step))
            if last_tick < tick < bar_end:
                last_tick = tick
                if 0 <= position < cell.num_steps:
                    ticks[position] = tick
        base += grid.num_steps(bar)
    return ticks


def find_join_bar(song: Song) -> int:
    """The bar that the continuation begins with: the one after the last bar in use.

    A bar in which nothing begins, and into which notes ring by a sixteenth at most, is not in use.
    """
    last_start = max(note.start for part in song.parts for note in part.notes)
    last_end = max(note.end for part in song.parts for note in part.notes)
    bar = song.bars.index(last_end - 1)
    least_ring = least_ring_ticks(song.ticks_per_beat)
    while last_start < song.bars.start(bar) and last_end - song.bars.start(bar) <= least_ring:
        bar -= 1
    return bar + 1


def find_slots(parts: Sequence[Part]) -> list[Slot]:
    """Who may play on: on each channel of each track, the part with the program it was last heard with."""
    names = PartNames(parts)
    newest: dict[int, Part] = {}
    for part in parts:
        current = newest.get(part.channel)
        if current is None or part.notes[-1].start >= current.notes[-1].start:
            newest[part.channel] = part
    slots: dict[int, Slot] = {}
    for part, token in zip(parts, names.token_of, strict=True):
        if part.program != newest[part.channel].program:
            continue
        if part.is_drums:
            slots.setdefault(token, Slot(token, [], frozenset())).parts.append(part)
        else:
            slots.setdefault(token, Slot(token, [], _range(part))).parts.append(part)
    if DRUMS in slots:
        _share_out_drums(slots[DRUMS])
    order = {token: index for index, token in enumerate(names.tokens)}
    return sorted(slots.values(), key=lambda slot: order[slot.program_token])


def _range(part: Part) -> frozenset[int]:
    lowest, highest = min(note.pitch for note in part.notes), max(note.pitch for note in part.notes)
    reach = max(REACH, -(-(LEAST_RANGE - (highest - lowest)) // 2))
    instrument = PIANO_PITCHES if part.program in PIANO_PROGRAMS else ALL_PITCHES
    # A note that a piano does not have leaves it all of its own keys.
    return frozenset(set(range(lowest - reach, highest + reach + 1)) & set(instrument)) or frozenset(instrument)


def _share_out_drums(slot: Slot) -> None:
    slot.parts.sort(key=lambda part: -len(part.notes))
    last_struck: dict[int, int] = {}
    for part in slot.parts:
        for note in part.notes:
            if note.start >= last_struck.get(note.pitch, -1):
                last_struck[note.pitch] = note.start
                slot.part_of_pitch[note.pitch] = part
    for pitch in GENERAL_MIDI_DRUMS.values():
        keys = [key for key in last_struck if GENERAL_MIDI_DRUMS.get(key, key) == pitch]
        if keys:
            newest = slot.part_of_pitch[max(keys, key=last_struck.__getitem__)]
            slot.keys[pitch] = tuple(sorted(key for key in keys if slot.part_of_pitch[key] is newest))
    has_shown_all = sum(len(part.notes) for part in slot.parts) >= LEAST_DRUM_NOTES
    usual = slot.keys.keys() if has_shown_all else GENERAL_MIDI_DRUM_PITCHES
    slot.pitches = frozenset(last_struck) | frozenset(usual)
