"""How long each part may rest, by its own habit, so that a band does not thin out to its busiest player.

A model that has met few bands lets part after part fall silent, and what is silent in the context stays silent. So a
part that has rested for as many bars as it ever did in the prompt's last bars is due, and must play in the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import Part

__all__ = ["RestHabit", "Rests", "find_habit"]

HABIT_BARS = 16
"""How far back a habit is looked for."""


@dataclass(frozen=True)
class RestHabit:
    """How a part has rested up to the join, counted in cells of the grid.

    Attributes:
        longest: its longest rest between two cells with sound; None if it has none to go by.
        so_far: for how long it has been resting; more than `longest` means that it has left.
        rings_until: tick at which its last note ends.
    """

    longest: int | None
    so_far: int
    rings_until: int


def find_habit(parts: Sequence[Part], grid: Grid, *, join_bar: int) -> RestHabit:
    """The habit of parts that play as one, in the bars before `join_bar`."""
    layout = grid.layout(max(0, join_bar - HABIT_BARS), join_bar)
    lines = [grid.tick(cell.first_bar, cell.first_step) for cell in layout] + [grid.tick(join_bar, 0)]
    rings_until = max(note.end for part in parts for note in part.notes)
    recent = [note for part in parts for note in part.notes if note.end > lines[0]]
    sounds = []
    for start, stop in pairwise(lines):
        enough = min(grid.bars.ticks_per_beat / 4, stop - start - 1)
        sounds.append(any(n.start < stop and (n.start >= start or n.end - start > enough) for n in recent))
    if not any(sounds):
        return RestHabit(None, 0, rings_until)
    so_far = sounds[::-1].index(True)
    longest = run = 0
    for is_sounding in sounds[sounds.index(True) : len(sounds) - so_far]:
        run = 0 if is_sounding else run + 1
        longest = max(longest, run)
    return RestHabit(longest, so_far, rings_until)


class Rests:
    """Who is due, as a continuation is written.

    Args:
        habits: of each part.
        least_ring: by how many ticks a note must reach into a cell to sound in it.
    """

    def __init__(self, habits: Sequence[RestHabit], *, least_ring: float) -> None:
        self.habits, self.least_ring = habits, least_ring
        self._resting = [habit.so_far for habit in habits]
        self._rings_until = [habit.rings_until for habit in habits]
        self._silent: set[int] = set()
        self._left = {
            part for part, habit in enumerate(habits) if habit.longest is None or habit.so_far > habit.longest
        }
        self.due: set[int] = set()
        """Parts that have yet to play in this cell."""

    def begin_cell(self, tick: int) -> None:
        """Go on to the cell that begins at a tick."""
        for part in self._silent:
            self._resting[part] += 1
        self._silent = {part for part, until in enumerate(self._rings_until) if until - tick <= self.least_ring}
        self.due = {part for part in self._silent - self._left if self._resting[part] >= self.habits[part].longest}

    def play(self, part: int, end: int) -> None:
        """A part plays a note that ends at a tick."""
        self._silent.discard(part)
        if self.habits[part].longest is not None:
            self._left.discard(part)
        self.due.discard(part)
        self._resting[part] = 0
        self._rings_until[part] = max(self._rings_until[part], end)
