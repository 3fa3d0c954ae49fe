"""Where new notes may stand: the bars to be written, in ticks, and the parts that may play in them.

All that is exact about a continuation is decided here, once, in the ticks of the user's file; the grammar keeps
to it while tokens are drawn, and the splice writes notes at the same ticks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from adaptgen.domains.music.grid import CELL_STEPS, STEPS_PER_BEAT, Grid
from adaptgen.domains.music.song import Part, Song
from adaptgen.domains.music.tokenizer import DRUMS, PartNames

__all__ = ["Cell", "Plan", "Slot", "find_join_bar", "find_slots"]

PIANO_PROGRAMS = range(8)
PIANO_PITCHES = range(21, 109)
ALL_PITCHES = range(128)
GENERAL_MIDI_DRUM_PITCHES = range(35, 82)


@dataclass
class Slot:
    """Part or parts that one program token stands for."""

    program_token: int
    parts: list[Part]
    pitches: frozenset[int]
    """What may be played: a piano's keys for pianos, the usual drums and those in use for drums."""
    part_of_pitch: dict[int, Part] = field(default_factory=dict)
    """For drums: who struck a pitch last."""

    @property
    def is_drums(self) -> bool:
        return self.program_token == DRUMS

    @property
    def channel(self) -> int:
        return self.parts[0].channel

    def part_for(self, pitch: int) -> Part:
        """Who plays a pitch."""
        return self.part_of_pitch.get(pitch, self.parts[0])


@dataclass(frozen=True)
class Cell:
    """A bar to be written, or a stretch of a very long one."""

    bar: int
    bar_start: int
    num_steps: int
    ticks: dict[int, int]
    """Tick of every step at which a note may begin; no two are equal."""
    ends_bar: bool


@dataclass(frozen=True)
class Plan:
    """What a continuation may hold.

    Attributes:
        start, stop: ticks between which all of it lies.
        cells: the bars.
        slots: the parts, in writing order.
        sounding: (channel, pitch) of prompt notes that ring into the new part, and the tick at which they end.
        is_last_bar_whole: whether `stop` is a bar line.
    """

    start: int
    stop: int
    ticks_per_beat: int
    cells: Sequence[Cell]
    slots: Sequence[Slot]
    sounding: dict[tuple[int, int], int]
    is_last_bar_whole: bool

    def end_tick(self, start_tick: int, duration: int) -> int:
        """Where a note of so many steps ends: at least a tick after its start, never after the plan's end."""
        length = max(1, round(duration * self.ticks_per_beat / STEPS_PER_BEAT))
        return min(start_tick + length, self.stop)

    def fits(self, start_tick: int, duration: int) -> bool:
        """Whether a note of so many steps ends by itself before the plan does."""
        return start_tick + max(1, round(duration * self.ticks_per_beat / STEPS_PER_BEAT)) <= self.stop

    @classmethod
    def make(cls, grid: Grid, *, join_bar: int, stop: int, slots: Sequence[Slot]) -> Plan:
        """Lay out the bars from `join_bar` up to the tick `stop`."""
        bars = grid.bars
        start = bars.start(join_bar)
        sounding: dict[tuple[int, int], int] = {}
        for slot in slots:
            for part in slot.parts:
                for note in part.notes:
                    if note.end > start:
                        key = (part.channel, note.pitch)
                        sounding[key] = max(note.end, sounding.get(key, 0))
        cells = tuple(_cells(grid, join_bar, start, stop))
        last_bar_end = bars.start(cells[-1].bar + 1)
        return cls(start, stop, bars.ticks_per_beat, cells, slots, sounding, last_bar_end == stop)


def _cells(grid: Grid, join_bar: int, start: int, stop: int) -> Iterator[Cell]:
    bar, last_tick = join_bar, start - 1
    while (bar_start := grid.bars.start(bar)) < stop:
        lengths = grid.cells(bar)
        for index, num_steps in enumerate(lengths):
            ticks = {}
            for step in range(num_steps):
                tick = max(start, grid.tick(bar, index * CELL_STEPS + step))
                if last_tick < tick < stop:
                    ticks[step] = last_tick = tick
            yield Cell(bar, bar_start, num_steps, ticks, ends_bar=index == len(lengths) - 1)
        bar += 1


def find_join_bar(song: Song) -> int:
    """The bar that the continuation begins with: the one after the last bar in use.

    A bar in which nothing begins, and into which notes ring by a sixteenth at most, is not in use.
    """
    last_start = max(note.start for part in song.parts for note in part.notes)
    last_end = max(note.end for part in song.parts for note in part.notes)
    bar = song.bars.index(last_end - 1)
    bar_start = song.bars.start(bar)
    if last_start < bar_start and last_end - bar_start <= song.ticks_per_beat / 4:
        return bar
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
        if part.is_drums:
            slot = slots.setdefault(token, Slot(token, [], frozenset()))
            slot.parts.append(part)
        elif part.program == newest[part.channel].program:
            pitches = PIANO_PITCHES if part.program in PIANO_PROGRAMS else ALL_PITCHES
            slots.setdefault(token, Slot(token, [], frozenset(pitches))).parts.append(part)
    if DRUMS in slots:
        _share_out_drums(slots[DRUMS])
    order = {token: index for index, token in enumerate(names.tokens)}
    return sorted(slots.values(), key=lambda slot: order[slot.program_token])


def _share_out_drums(slot: Slot) -> None:
    slot.parts.sort(key=lambda part: -len(part.notes))
    last_struck: dict[int, int] = {}
    for part in slot.parts:
        for note in part.notes:
            if note.start >= last_struck.get(note.pitch, -1):
                last_struck[note.pitch] = note.start
                slot.part_of_pitch[note.pitch] = part
    slot.pitches = frozenset(GENERAL_MIDI_DRUM_PITCHES) | frozenset(last_struck)


def notes_before(part: Part, tick: int) -> Part:
    """The part as far as a tick; notes that ring over it end there."""
    stop = bisect_left(part.notes, (tick,))
    notes = [note._replace(end=min(note.end, tick)) for note in part.notes[:stop]]
    return Part(part.track, part.channel, part.program, notes)
