"""How long each part may rest, by its own habit, so that a band does not thin out to its busiest player.

A model that has met few bands lets part after part fall silent, and what is silent in the context stays silent. So a
part that has rested for as many bars as it ever did in the prompt's last bars is due, and must play in the next one.
The same goes for the tune of a part that accompanies itself, such as a pianist's right hand: it is due by the step at
which it always came. While the last chord of the song rings on, nobody rests.

Within a bar, drums that have played for eight come in again after their longest rest, and who has never paused for more
than a beat comes in after two: a bass of eighths does not miss the second half of a bar. Others rest as they like, for
singers and pianists do (docs/LOG.md).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from statistics import median

from adaptgen.domains.music.grid import STEPS_PER_BEAT, Grid, least_ring_ticks
from adaptgen.domains.music.song import Note, Part

__all__ = ["RestHabit", "Rests", "Tune", "find_habit", "find_tune"]

HABIT_BARS = 16
"""How far back a habit is looked for."""
TUNE_DEPTH = 7
"""By how many semitones a tune may be below the middle one of its bars' highest notes."""
LEAST_STEADY_CELLS = 8
"""With notes in fewer a part has not shown how long it rests within a bar."""
MOST_BEATS_OF_STEADY = 2
"""That a part rests which has never paused for more than one. In the next eight bars one in ten does in pop songs and
lieder, and none in chorales and folk tunes."""
LEAST_TUNE_BARS = 4
"""Fewer bars with notes show no tune."""
LAST_CHORD_BEATS = 1
"""Within how much of its cell a last chord is struck: it may be spread."""


@dataclass(frozen=True)
class RestHabit:
    """How a part has rested up to the join, counted in cells of the grid.

    Attributes:
        longest: its longest rest between two cells with sound; None if it has none to go by.
        so_far: for how long it has been resting; more than `longest` means that it has left.
        rings_until: tick at which its last note ends.
        most_ticks: for how long it may rest within a bar; None if it may as long as it likes.
    """

    longest: int | None
    so_far: int
    rings_until: int
    most_ticks: int | None = None


@dataclass(frozen=True)
class Tune:
    """The upper voice of a part that accompanies itself.

    Attributes:
        lowest: the pitch from which a note belongs to it.
        latest_step: of a cell, by which it came in wherever it played.
        habit: how it has rested.
    """

    lowest: int
    latest_step: int
    habit: RestHabit


def find_habit(parts: Sequence[Part], grid: Grid, *, join_bar: int, last_start: float = math.inf) -> RestHabit:
    """The habit of parts that play as one, in the bars before `join_bar`; the song's last note begins at a tick."""
    notes = [note for part in parts for note in part.notes]
    habit = _habit_of(notes, grid, join_bar, last_start)
    lines = _lines(grid, join_bar, last_start)
    most_ticks = _most_ticks(notes, lines, grid.bars.ticks_per_beat, is_drums=parts[0].is_drums)
    return replace(habit, most_ticks=most_ticks)


def _most_ticks(notes: Sequence[Note], lines: Sequence[int], ticks_per_beat: int, *, is_drums: bool) -> int | None:
    """As of `RestHabit`, by the notes that begin from the first line on; those of drums are over as they are struck."""
    recent = sorted(note for note in notes if note.start >= lines[0])
    if len({bisect_right(lines, note.start) for note in recent}) < LEAST_STEADY_CELLS:
        return None
    ends = accumulate((note.start if is_drums else note.end for note in recent), max)
    longest = max(later.start - end for end, later in zip(ends, recent[1:], strict=False))
    if is_drums:
        return max(longest, ticks_per_beat)
    return MOST_BEATS_OF_STEADY * ticks_per_beat if longest <= ticks_per_beat else None


def find_tune(parts: Sequence[Part], grid: Grid, *, join_bar: int, last_start: float = math.inf) -> Tune | None:
    """The tune above an accompaniment, in most of the last bars, of parts that play as one; None if there is none."""
    notes = [note for part in parts for note in part.notes]
    lines = _lines(grid, join_bar, last_start)
    cells = [[n for n in notes if start <= n.start < stop] for start, stop in pairwise(lines)]
    tops = [max(note.pitch for note in cell) for cell in cells if cell]
    if len(tops) < LEAST_TUNE_BARS:
        return None
    lowest = int(median(tops)) - TUNE_DEPTH
    if 2 * sum(_is_accompanied(cell, lowest) for cell in cells) < len(cells):
        return None
    upper = [note for note in notes if note.pitch >= lowest]
    entries = [
        min((note.start - line for note in cell if note.pitch >= lowest), default=0)
        for line, cell in zip(lines, cells, strict=False)
    ]
    latest_step = round(max(entries) * STEPS_PER_BEAT / grid.bars.ticks_per_beat)
    return Tune(lowest, latest_step, _habit_of(upper, grid, join_bar, last_start))


def _is_accompanied(notes: Sequence[Note], lowest: int) -> bool:
    """Whether a note from a pitch up sounds together with one below it."""
    upper, lower = ([n for n in notes if (n.pitch >= lowest) == is_upper] for is_upper in (True, False))
    return any(one.start < other.end and other.start < one.end for one in upper for other in lower)


def _lines(grid: Grid, join_bar: int, last_start: float) -> list[int]:
    """Ticks at which the last cells up to the song's last onset begin, and at which the last of them ends."""
    early = grid.phase * grid.bars.ticks_per_beat
    stop_bar = join_bar if last_start >= grid.tick(join_bar, 0) else grid.bars.index(max(0.0, last_start - early)) + 1
    layout = grid.layout(max(0, stop_bar - HABIT_BARS), stop_bar)
    end_bar = min(join_bar, layout[-1].first_bar + layout[-1].num_bars)
    return [grid.tick(cell.first_bar, cell.first_step) for cell in layout] + [grid.tick(end_bar, 0)]


def _habit_of(notes: Sequence[Note], grid: Grid, join_bar: int, last_start: float) -> RestHabit:
    lines = _lines(grid, join_bar, last_start)
    rings_until = max(note.end for note in notes)
    recent = [note for note in notes if note.end > lines[0]]
    sounds = []
    for start, stop in pairwise(lines):
        enough = min(least_ring_ticks(grid.bars.ticks_per_beat), stop - start - 1)
        sounds.append(any(n.start < stop and (n.start >= start or n.end - start > enough) for n in recent))
    if not any(sounds):
        return RestHabit(None, 0, rings_until)
    last = len(sounds) - 1 - sounds[::-1].index(True)
    so_far = sum(line < last_start - LAST_CHORD_BEATS * grid.bars.ticks_per_beat for line in lines[last + 1 : -1])
    longest = run = 0
    for is_sounding in sounds[sounds.index(True) : last]:
        run = 0 if is_sounding else run + 1
        longest = max(longest, run)
    return RestHabit(longest, so_far, rings_until)


class Rests:
    """Who is due, as a continuation is written.

    Args:
        habits: of each part.
        least_ring: a note sounds in a cell if it reaches into it by more ticks.
        begin: tick at which the continuation does.
    """

    def __init__(self, habits: Sequence[RestHabit], *, least_ring: float, begin: int) -> None:
        self.habits, self.least_ring, self.begin = habits, least_ring, begin
        self._resting = [habit.so_far for habit in habits]
        self._rings_until = [habit.rings_until for habit in habits]
        self._silent: set[int] = set()
        self._left = {
            part for part, habit in enumerate(habits) if habit.longest is None or habit.so_far > habit.longest
        }
        self.due: set[int] = set()
        """Parts that have yet to play in this cell."""

    def begin_cell(self, tick: int, end: int) -> None:
        """Go on to the cell that begins at a tick and ends at another."""
        for part in self._silent:
            self._resting[part] += 1
        self._silent = {part for part, until in enumerate(self._rings_until) if until - tick <= self.least_ring}
        self.due = {part for part in self._silent - self._left if self._resting[part] >= self.habits[part].longest}
        self.due |= {part for part in range(len(self.habits)) if self.deadline(part) < end}

    def deadline(self, part: int) -> float:
        """The tick by which a part, as it stands, must play again."""
        most = self.habits[part].most_ticks
        if most is None or part in self._left:
            return math.inf
        return max(self._rings_until[part], self.begin) + most

    def play(self, part: int, end: int) -> None:
        """A part plays a note that ends at a tick."""
        self._silent.discard(part)
        if self.habits[part].longest is not None:
            self._left.discard(part)
        self.due.discard(part)
        self._resting[part] = 0
        self._rings_until[part] = max(self._rings_until[part], end)

    def let_go(self, part: int, tick: int) -> None:
        """What a part has played ends at a tick, if it rings on."""
        self._rings_until[part] = min(self._rings_until[part], tick)
