"""Which notes sound while a continuation is written, and so which pitches are free."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adaptgen.domains.music.grid import least_ring_ticks
from adaptgen.domains.music.plan import Plan

__all__ = ["SoundingNotes"]


class SoundingNotes:
    """What sounds when, on which channel: notes of the prompt that ring on, and all new ones not yet over."""

    def __init__(self, plan: Plan) -> None:
        self._least_ring = least_ring_ticks(plan.ticks_per_beat)
        self._begin = plan.start
        self._recent: dict[int, list[tuple[int, int, int]]] = {slot.channel: [] for slot in plan.slots}
        """Pitch, start and end of notes that may matter to the cell being written."""
        for (channel, pitch), end in plan.sounding.items():
            if channel in self._recent:
                self._recent[channel].append((pitch, plan.start - 1, end))

    def add(self, channel: int, pitch: int, start: int, end: int) -> None:
        self._recent[channel].append((pitch, start, end))

    def cut(self, channel: int, note: tuple[int, int, int], end: int) -> None:
        """Let a note end sooner."""
        self._recent[channel].remove(note)
        self._recent[channel].append((*note[:2], end))

    def forget_before(self, tick: int) -> None:
        for notes in self._recent.values():
            notes[:] = [note for note in notes if note[2] > tick]

    def num_recent(self, channel: int) -> int:
        return len(self._recent[channel])

    def free(self, channel: int, start: int, end: int) -> np.ndarray:
        """bool `[128]`: pitches with nothing between two ticks."""
        free = np.ones(128, dtype=bool)
        for pitch, other_start, other_end in self._recent[channel]:
            if other_start < end and other_end > start:
                free[pitch] = False
        return free

    def next_start(self, channel: int, pitch: int, tick: int) -> int | None:
        """Where a pitch is struck next after a tick, if it is."""
        return min((s for p, s, _ in self._recent[channel] if p == pitch and s > tick), default=None)

    def sound_in(self, start: int, end: int) -> bool:
        """Whether a new note begins in a bar, or rings into it by more than a sixteenth or all through it."""
        return any(
            start <= s < end or (self._begin <= s < start and e - start > min(self._least_ring, end - start - 1))
            for _, s, e in self._all()
        )

    def _all(self) -> Iterator[tuple[int, int, int]]:
        for notes in self._recent.values():
            yield from notes
