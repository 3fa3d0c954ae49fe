"""Loops of hand percussion, which go on as they are.

Shakers, tambourines and congas are laid over a beat and go round in it. A model that has met drum kits alone does not
know them, and lets them stop. So what of them repeats every bar, or every two or four, is played on, and the model
writes the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence

import numpy as np

from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import Note

__all__ = ["HAND_PERCUSSION", "LoopStrikes", "Loops", "find_loops"]

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


class LoopStrikes:
    """What the loops have yet to strike in the cell that is being written.

    Attributes:
        keys: what goes round in this cell, and is struck by its loop alone.
    """

    def __init__(self, loops: Loops) -> None:
        self.loops = loops
        self._left: list[tuple[int, int]] = []
        self._ticks: dict[int, set[int]] = {}

    @property
    def keys(self) -> Collection[int]:
        return self._ticks.keys()

    def begin_cell(
        self,
        index: int,
        num_steps: int,
        ticks: dict[int, int],
        playable: np.ndarray,
        bars_to_fill: Sequence[tuple[int, int]],
    ) -> None:
        """Go on to a cell.

        Args:
            index: of the cell.
            num_steps: its length.
            ticks: of its steps.
            playable: bool `[128]`, the keys that may be struck.
            bars_to_fill: start and end of the bars that nobody else can make sound.
        """
        strikes = self.loops.strikes_of(index, num_steps)
        self._left = [(step, key) for step, key in strikes if step in ticks and playable[key]]
        self._ticks = {key: set() for key in self.loops.keys_of(num_steps)}
        for step, key in self._left:
            self._ticks[key].add(ticks[step])
        struck = [ticks[step] for step, _ in self._left]
        if not all(any(start <= tick < stop for tick in struck) for start, stop in bars_to_fill):
            # Where a loop pauses, something has to sound.
            self._ticks = {}

    def next(self, can_strike: Callable[[int, int], bool]) -> tuple[int, int] | None:
        """Step and key of the next strike that can be struck; those before it are given up."""
        while self._left and not can_strike(*self._left[0]):
            del self._left[0]
        return self._left[0] if self._left else None

    def count_at(self, step: int) -> int:
        """How many are yet to come at a step."""
        return sum(other == step for other, _ in self._left)

    def strike(self, step: int, key: int) -> None:
        """A key is struck at a step, and nothing comes before it any more."""
        self._left = [strike for strike in self._left if strike > (step, key)]

    def kept_from(self, tick: int) -> list[int]:
        """Keys that are not to be struck at a tick."""
        return [key for key, ticks in self._ticks.items() if tick not in ticks]


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
