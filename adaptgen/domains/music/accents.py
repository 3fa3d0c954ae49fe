"""Accents that come again in every bar, such as a strummer's or a programmed hi-hat's, go on at their places.

A model draws one of sixteen levels for each note, and after some bars all are alike. So where each place of the bar has
had its own loudness, it keeps it. Players vary theirs, and are left to the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import Part

__all__ = ["Accents", "find_accents"]

LOOKED_AT_CELLS = 8
LEAST_CELLS = 3
"""In which a place of the bar is struck, to have shown its loudness."""
MOST_SPREAD = 16
"""Velocities that are no farther apart are one loudness, as a hand or a sequencer that imitates one repeats it."""
LEAST_SHARE = 0.9
"""Of the notes that must be at such places."""


@dataclass(frozen=True)
class Accents:
    """Softest and loudest velocity at places of a bar.

    Attributes:
        num_steps: of the cells that they are known for.
        ranges: by key, which is a drum's pitch and 0 for all others, and step.
    """

    num_steps: int
    ranges: dict[tuple[int, int], tuple[int, int]]

    def at(self, key: int, step: int, *, num_steps: int) -> tuple[int, int] | None:
        """Those of a step of a cell of so many; None if anything goes."""
        return self.ranges.get((key, step)) if num_steps == self.num_steps else None


def find_accents(parts: Sequence[Part], grid: Grid, *, join_bar: int) -> Accents:
    """The accents of parts that play as one, in the last cells before `join_bar`; none where they are not steady."""
    cells = grid.last_cells(join_bar, LOOKED_AT_CELLS)
    struck: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        for note in part.notes:
            place = grid.place_in(cells, note.start)
            if place is not None:
                key = part.sound_of(note.pitch) if part.is_drums else 0
                struck[key][place[1]].append((place[0], note.velocity))
    ranges = {}
    for key, by_step in struck.items():
        steady = {step: found for step, hits in by_step.items() if (found := _range_of(hits)) is not None}
        share = sum(len(by_step[step]) for step in steady) / sum(map(len, by_step.values()))
        lows = [low for low, _ in steady.values()]
        if share >= LEAST_SHARE and max(lows) - min(lows) > MOST_SPREAD:
            ranges |= {(key, step): found for step, found in steady.items()}
    return Accents(cells[-1].num_steps if cells else 0, ranges)


def _range_of(hits: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Softest and loudest of a step's hits, given as cell and velocity; None if it has not shown its loudness."""
    velocities = [velocity for _, velocity in hits]
    low, high = min(velocities), max(velocities)
    is_steady = len({cell for cell, _ in hits}) >= LEAST_CELLS and high - low <= MOST_SPREAD
    return (low, high) if is_steady else None
