"""How many notes a part plays at a time, by its own habit, so that chords do not crowd all the rest out.

A model repeats what is in its context. Once it has written a bar of chords on every sixteenth, it goes on with them. So
a part that has struck half as many notes again as it ever did in the prompt in so short a time, or six more where that
is more, waits for a quarter before each onset, until that is no longer so. By then the context looks otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adaptgen.domains.music.song import Part

__all__ = ["Density", "DensityHabit", "find_density"]

SPAN_BEATS = 4
"""Over how many quarters notes are counted: a bar of most songs."""
SLACK = 1.5
"""How many times the most of the prompt."""
LEAST_MORE = 6
"""How many notes more than that anybody may play. Of 4,482 parts in songs cut somewhere 79 soon play more than both
allow, no more than if anybody might play on every sixteenth (docs/LOG.md)."""
WAIT_BEATS = 1


@dataclass(frozen=True)
class DensityHabit:
    """How densely a part has played up to the join.

    Attributes:
        most: how many notes it may have struck within `SPAN_BEATS` before an onset.
        recent: ticks at which its last notes began, one more than that if there are so many.
    """

    most: int
    recent: tuple[int, ...]


def find_density(parts: Sequence[Part], *, ticks_per_beat: int) -> DensityHabit:
    """The habit of parts that play as one."""
    starts = np.sort([note.start for part in parts for note in part.notes])
    spans = starts - SPAN_BEATS * ticks_per_beat
    num_before = np.searchsorted(starts, starts) - np.searchsorted(starts, spans, side="right")
    most = max(int(SLACK * num_before.max()), int(num_before.max()) + LEAST_MORE)
    return DensityHabit(most, tuple(starts[-most - 1 :].tolist()))


class Density:
    """When one part may strike again, as a continuation is written.

    Args:
        habit: of the part.
        ticks_per_beat: length of a quarter.
    """

    def __init__(self, habit: DensityHabit, *, ticks_per_beat: int) -> None:
        self.ticks_per_beat = ticks_per_beat
        self._starts = deque(habit.recent, maxlen=habit.most + 1)

    def strike(self, tick: int) -> None:
        """The part plays a note that begins at a tick."""
        self._starts.append(tick)

    @property
    def earliest(self) -> int:
        """The tick from which its next onset may come."""
        if len(self._starts) < self._starts.maxlen:
            return 0
        span, wait = (beats * self.ticks_per_beat for beats in (SPAN_BEATS, WAIT_BEATS))
        return min(self._starts[0] + span, self._starts[-1] + wait)
