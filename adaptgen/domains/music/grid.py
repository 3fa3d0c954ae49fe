"""The bar grid: notes in ticks to notes in twelfths of a beat, counted from the bar line.

Twelve steps a quarter note hold sixteenths and triplets. Many recordings stand off their own grid by a constant
delay (POP909 does in most songs), so the grid may be shifted: `estimate_phase` finds by how much, tokens are
counted from the shifted grid, and new notes are shifted back, so that they sit where the player's notes sit.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adaptgen.domains.music.song import Note
from adaptgen.domains.music.timing import BarLines

__all__ = [
    "BEATS_PER_GROUP",
    "CELL_STEPS",
    "DURATIONS",
    "STEPS_PER_BEAT",
    "STEPS_PER_SIXTEENTH",
    "Grid",
    "GridCell",
    "GridNote",
    "estimate_phase",
    "find_phase",
    "least_ring_ticks",
    "snap_duration",
]

STEPS_PER_BEAT = 12
STEPS_PER_SIXTEENTH = 3
CELL_STEPS = 96
"""The longest bar that one Bar token stands for: eight quarters. A longer bar is written as several."""

DURATIONS = (
    *(1, 2, 3, 4, 6, 8, 9, 12, 15, 16, 18, 20, 21, 24),
    *range(30, 49, 6),
    *range(60, 193, 12),
)
"""Note values in steps: sixteenths, triplets and dotted notes to a half, then eighths, then quarters, up to
sixteen beats. What lies between is taken to be articulation, which the prompt keeps and the model need not learn."""

ONE_BEAT = (1, 4)
BEATS_PER_GROUP = 4
"""Files that know beats but no bars declare 1/4 (three quarters of POP909 do). Four such bars are one to the model,
which then sees metre at all, and a quarter of the Bar tokens."""

MIN_NOTES_FOR_PHASE = 16
MIN_CONCENTRATION = 0.5
ON_GRID_BEATS = 0.01


class GridCell(NamedTuple):
    """What one Bar token stands for: a bar, a group of one-beat bars, or a stretch of a very long bar.

    `first_step` counts from the bar line of `first_bar`; `num_steps` is the cell's length.
    """

    first_bar: int
    num_bars: int
    first_step: int
    num_steps: int


class GridNote(NamedTuple):
    """A note on the grid; `position` and `duration` in steps, `bar` from the start of the file."""

    bar: int
    position: int
    duration: int
    pitch: int
    velocity: int


def least_ring_ticks(ticks_per_beat: int) -> float:
    """A sixteenth: a note that rings into a bar by no more does not sound in it."""
    return ticks_per_beat / 4


def snap_duration(steps: float, *, longest: float = math.inf) -> int:
    """The note value nearest to a length, none longer than `longest` unless it is below one step."""
    allowed = DURATIONS[: max(1, bisect_right(DURATIONS, longest))]
    return min(allowed, key=lambda value: abs(value - steps))


def find_phase(
    starts: Sequence[int], bars: BarLines, *, least_concentration: float = MIN_CONCENTRATION
) -> float | None:
    """By how many beats notes stand off the sixteenths of their bars, in (-1/8, 1/8]; None if that cannot be told.

    The circular mean of onsets modulo a sixteenth. Zero if they are on the grid of twelfths already; None if they are
    few, or on no sixteenth grid at all.

    Args:
        starts: ticks.
        bars: the bar lines.
        least_concentration: how closely they must gather about one place in the sixteenth, from 0 to 1.
    """
    if len(starts) < MIN_NOTES_FOR_PHASE:
        return None
    beats = np.array([tick - bars.start(bars.index(tick)) for tick in starts]) / bars.ticks_per_beat
    steps = beats * STEPS_PER_BEAT
    if np.abs(steps - np.round(steps)).mean() / STEPS_PER_BEAT < ON_GRID_BEATS:
        return 0.0
    mean = np.exp(2j * np.pi * 4 * beats).mean()
    return float(np.angle(mean) / (2 * np.pi * 4)) if abs(mean) > least_concentration else None


def estimate_phase(starts: Sequence[int], bars: BarLines) -> float:
    """By how many beats the notes of a song stand off its sixteenth grid; zero where that cannot be told."""
    return find_phase(starts, bars) or 0.0


class Grid:
    """Bars of a song in steps.

    Args:
        bars: the bar lines.
        phase: shift of the grid in beats.
        anchor: a bar at which a group of one-beat bars begins; where the metre begins if not given.
    """

    def __init__(self, bars: BarLines, *, phase: float = 0.0, anchor: int | None = None) -> None:
        self.bars, self.phase, self.anchor = bars, phase, anchor

    def num_steps(self, bar: int) -> int:
        """Steps that begin inside a bar; at least one."""
        ticks = self.bars.start(bar + 1) - self.bars.start(bar)
        return max(1, math.ceil(ticks * STEPS_PER_BEAT / self.bars.ticks_per_beat - 1e-6))

    def layout(self, first_bar: int, stop_bar: int) -> list[GridCell]:
        """The cells that hold a range of bars; those of a group of one-beat bars hold the whole group."""
        cells, bar = [], self._group_start(first_bar)
        while bar < stop_bar:
            num_bars = self._group_size(bar)
            steps = sum(self.num_steps(member) for member in range(bar, bar + num_bars))
            for first_step in range(0, steps, CELL_STEPS):
                cells.append(GridCell(bar, num_bars, first_step, min(CELL_STEPS, steps - first_step)))
            bar += num_bars
        return cells

    def _group_start(self, bar: int) -> int:
        if self.bars.metre(bar) != ONE_BEAT:
            return bar
        first, after = self.bars.stretch(bar)
        return max(first, bar - (bar - self._anchor_in(first, after)) % BEATS_PER_GROUP)

    def _group_size(self, bar: int) -> int:
        """Bars in one cell from a bar that begins one."""
        if self.bars.metre(bar) != ONE_BEAT:
            return 1
        first, after = self.bars.stretch(bar)
        size = BEATS_PER_GROUP - (bar - self._anchor_in(first, after)) % BEATS_PER_GROUP
        return size if after is None else min(size, after - bar)

    def _anchor_in(self, first: int, after: int | None) -> int:
        """The anchor, if it lies in a stretch of bars or at its end; else where the stretch begins."""
        is_in = self.anchor is not None and first <= self.anchor and (after is None or self.anchor <= after)
        return self.anchor if is_in else first

    def place(self, tick: int) -> tuple[int, int]:
        """Bar and step nearest to a tick."""
        shifted = max(0.0, tick - self.phase * self.bars.ticks_per_beat)
        bar = self.bars.index(shifted)
        step = math.floor((shifted - self.bars.start(bar)) * STEPS_PER_BEAT / self.bars.ticks_per_beat + 0.5)
        return (bar + 1, 0) if step >= self.num_steps(bar) else (bar, step)

    def last_cells(self, stop_bar: int, count: int) -> list[GridCell]:
        """The last cells before a bar, so many at most, back to one that is longer or shorter than the last."""
        # One-beat bars are several to a cell.
        cells = self.layout(max(0, stop_bar - BEATS_PER_GROUP * count), stop_bar)[-count:]
        alike = itertools.takewhile(lambda cell: cell.num_steps == cells[-1].num_steps, reversed(cells))
        return list(alike)[::-1]

    def place_in(self, cells: Sequence[GridCell], tick: int) -> tuple[int, int] | None:
        """Which of some cells that follow one another a tick is in, and at which of its steps; None if in none."""
        bar, step = self.place(tick)
        for index, cell in enumerate(cells):
            if cell.first_bar <= bar < cell.first_bar + cell.num_bars:
                within = sum(self.num_steps(before) for before in range(cell.first_bar, bar)) + step - cell.first_step
                if 0 <= within < cell.num_steps:
                    return index, within
        return None

    def tick(self, bar: int, step: float) -> int:
        """The tick of a step, with the phase, not before the file's start."""
        beats = step / STEPS_PER_BEAT + self.phase
        return max(0, self.bars.start(bar) + round(beats * self.bars.ticks_per_beat))

    def quantize(self, notes: Sequence[Note]) -> list[GridNote]:
        """Notes of one part on the grid, in order, no two of a pitch at once.

        Of notes of one pitch on one step the longest is kept; a note ends where its pitch is struck again.
        """
        longest: dict[tuple[int, int, int], GridNote] = {}
        for note in notes:
            bar, position = self.place(note.start)
            steps = (note.end - note.start) * STEPS_PER_BEAT / self.bars.ticks_per_beat
            placed = GridNote(bar, position, snap_duration(steps), note.pitch, note.velocity)
            key = (bar, position, note.pitch)
            if key not in longest or longest[key].duration < placed.duration:
                longest[key] = placed
        result: list[GridNote] = []
        next_start: dict[int, tuple[int, int]] = {}
        for key in sorted(longest, reverse=True):
            note = longest[key]
            if note.pitch in next_start:
                gap = self._steps_between((note.bar, note.position), next_start[note.pitch], limit=note.duration)
                note = note._replace(duration=snap_duration(min(note.duration, gap), longest=gap))
            next_start[note.pitch] = (note.bar, note.position)
            result.append(note)
        return result[::-1]

    def _steps_between(self, start: tuple[int, int], stop: tuple[int, int], *, limit: int) -> int:
        """Steps from one place to a later one, counted no further than `limit`."""
        bar, position = start
        steps = stop[1] - position
        while bar < stop[0] and steps - stop[1] < limit:
            steps += self.num_steps(bar)
            bar += 1
        return steps if bar == stop[0] else limit
