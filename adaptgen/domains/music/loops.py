"""Loops of hand percussion, which go on as they are.

Shakers, tambourines and congas are laid over a beat and go round in it. A model that has met drum kits alone does not
know them, and lets them stop. So what of them repeats every bar, or every two or four, is played on, and the model
writes the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import Note

__all__ = ["HAND_PERCUSSION", "Loops", "find_loops"]

HAND_PERCUSSION = frozenset({39, 54, 56, 58, *range(60, 83)})
"""Keys of General MIDI: the clap, and all that is no part of a drum kit."""
LOOKED_AT_CELLS = 8
PERIODS = (1, 2, 4)
LEAST_REPEATS = 2
LEAST_SHARE = 0.75
"""How much of what is struck must be of the loop, and how often each strike of it must come."""


class Loops:
    """What goes round, cell by cell.

    Args:
        num_steps: of the cells that it fits.
        strikes: of each key, the steps at which it is struck in each cell of its period.
    """

    def __init__(self, num_steps: int, strikes: dict[int, tuple[frozenset[int], ...]]) -> None:
        self.num_steps, self.strikes = num_steps, strikes

    def strikes_of(self, index: int, num_steps: int) -> list[tuple[int, int]]:
        """Steps and keys, in order, of a cell of so many steps, counted from the first new one."""
        if num_steps != self.num_steps:
            return []
        return sorted((step, key) for key, cells in self.strikes.items() for step in cells[index % len(cells)])

    def keys_of(self, num_steps: int) -> Collection[int]:
        """What goes round in a cell of so many steps."""
        return self.strikes.keys() if num_steps == self.num_steps else ()


def find_loops(notes: Sequence[Note], grid: Grid, *, join_bar: int) -> Loops:
    """The loops of hand percussion in the last cells before `join_bar`.

    Args:
        notes: of all drums, at the ticks that are meant.
        grid: of the song.
        join_bar: where new music begins.
    """
    cells = grid.last_cells(join_bar, LOOKED_AT_CELLS)
    struck: dict[int, list[set[int]]] = defaultdict(lambda: [set() for _ in cells])
    for note in notes:
        place = grid.place_in(cells, note.start) if note.pitch in HAND_PERCUSSION else None
        if place is not None:
            struck[note.pitch][place[0]].add(place[1])
    strikes = {}
    for key, steps in struck.items():
        for period in PERIODS:
            loop = _loop_of(steps, period)
            if loop is not None:
                strikes[key] = loop
                break
    return Loops(cells[-1].num_steps if cells else 0, strikes)


def _loop_of(steps: Sequence[set[int]], period: int) -> tuple[frozenset[int], ...] | None:
    """What comes again every so many cells; None if it is not nearly all, or stopped before the last of them."""
    repeats = len(steps) // period
    if repeats < LEAST_REPEATS:
        return None
    recent = steps[len(steps) - repeats * period :]
    loop = []
    for phase in range(period):
        counts = Counter(step for cell in recent[phase::period] for step in cell)
        loop.append(frozenset(step for step, count in counts.items() if count >= LEAST_SHARE * repeats))
    expected = sum(map(len, loop))
    kept = [len(cell & loop[index % period]) for index, cell in enumerate(recent)]
    is_most = sum(kept) >= LEAST_SHARE * sum(map(len, recent))
    # The last cell may be an ending, or cut short.
    goes_on = max(sum(kept[-period:]), sum(kept[-period - 1 : -1])) >= LEAST_SHARE * expected
    return tuple(loop) if expected and is_most and goes_on else None
