"""How a player stands about the grid, so that new notes are played as the old ones were.

Tokens round onsets to twelfths of a quarter and lengths to note values. Written out as they are, they sound like a
machine beside a player who drags the snare, rushes off-beats or plays eighths short. So the prompt is read as it is
meant (`straighten`), and new notes are moved off the grid as far as the same player was (`Feel`), and sound for as much
of their note value as was usual. `keep_apart` sees to it that what holds for them on the grid still holds. A part that
stands exactly on the grid stays there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from adaptgen.domains.music.grid import (
    STEPS_PER_BEAT,
    STEPS_PER_SIXTEENTH,
    Grid,
    find_phase,
    least_ring_ticks,
    snap_duration,
)
from adaptgen.domains.music.plan import Plan, Slot
from adaptgen.domains.music.song import Note, Part
from adaptgen.domains.music.splice import NewNote

__all__ = ["Feel", "PlayedNote", "keep_apart", "straighten"]

LEAST_CONCENTRATION = 0.65
"""How closely onsets must gather about one place in the sixteenth to be taken to mean sixteenths; swung eighths come to
.5 or .6."""
FURTHEST_STEPS = 0.75
"""So far from the sixteenth that it means a note may stand; a triplet stands a step from it."""
NUM_RECENT_NOTES = 4_000
"""So many of the last notes of a part show how it is played."""
MOST_OF_VALUE = 1.5
"""No note sounds for more of its note value; what the prompt holds for longer, it holds for some other reason."""
LONGEST_DRUM_STEPS = STEPS_PER_BEAT
ALL = -1
"""In place of the pitch of a drum: every note of a part."""


def straighten(part: Part, grid: Grid) -> list[Note]:
    """A part's notes, in its order, where they are meant to stand rather than where they were struck.

    Notes that are played alike, which are those of a part, or of one drum, are shifted by their own distance from the
    grid, if they have one: a snare that drags by half a step would else be read now on the beat, now after it. If they
    keep to sixteenths, each that stands near one is moved there.
    """
    straight = list(part.notes)
    alike = defaultdict(list)
    for index, note in enumerate(part.notes):
        alike[note.pitch if part.is_drums else ALL].append(index)
    for indices in alike.values():
        starts = [part.notes[index].start for index in indices]
        phase = find_phase(starts, grid.bars, least_concentration=LEAST_CONCENTRATION)
        if phase is None or phase == grid.phase == 0:
            continue
        for index in indices:
            note = part.notes[index]
            start = _meant(note.start, phase, grid)
            straight[index] = note._replace(start=start, end=start + note.end - note.start)
    return straight


def _meant(tick: int, phase: float, grid: Grid) -> int:
    """The tick that a note at a tick means, where notes like it stand off the bar's own steps by `phase` beats."""
    bars = grid.bars
    shifted = max(0.0, tick - phase * bars.ticks_per_beat)
    line = bars.start(bars.index(shifted))
    steps = (shifted - line) * STEPS_PER_BEAT / bars.ticks_per_beat
    sixteenth = STEPS_PER_SIXTEENTH * round(steps / STEPS_PER_SIXTEENTH)
    if phase and abs(steps - sixteenth) < FURTHEST_STEPS:
        steps = sixteenth
    return max(0, line + round((steps / STEPS_PER_BEAT + grid.phase) * bars.ticks_per_beat))


@dataclass(frozen=True)
class Habit:
    """How notes that are played alike were played.

    Attributes:
        onsets: by step of the beat, ticks off the grid of notes struck together, from low to high; early ones first.
        shares: by note value in steps, for how much of it notes sounded, ascending.
    """

    onsets: dict[int, list[tuple[int, ...]]]
    shares: dict[int, list[float]]

    @classmethod
    def of(cls, notes: Iterable[tuple[Note, Note]], grid: Grid, *, is_drums: bool) -> Habit:
        """From notes as they were played and as they were meant. Those of drums are of one step, as in tokens."""
        onsets, shares = defaultdict(list), defaultdict(list)
        step_ticks = grid.bars.ticks_per_beat / STEPS_PER_BEAT
        placed = sorted((grid.place(meant.start), played) for played, meant in notes)
        for place, pairs in groupby(placed, key=lambda pair: pair[0]):
            struck = sorted((note for _, note in pairs), key=lambda note: note.pitch)
            on_grid = grid.tick(*place)
            onsets[place[1] % STEPS_PER_BEAT].append(tuple(note.start - on_grid for note in struck))
            for note in struck:
                steps = (note.end - note.start) / step_ticks
                value = 1 if is_drums else snap_duration(steps)
                shares[value].append(min(steps / value, LONGEST_DRUM_STEPS if is_drums else MOST_OF_VALUE))
        for early_first in onsets.values():
            early_first.sort(key=lambda ticks: sum(ticks) / len(ticks))
        for ascending in shares.values():
            ascending.sort()
        return cls(dict(onsets), dict(shares))

    def shifts(self, step: int, quantile: float) -> tuple[int, ...]:
        """Ticks off the grid of an onset at a step of the beat, or the nearest one known; early for a low quantile."""
        onsets = self.onsets[_nearest(self.onsets, step)]
        return onsets[int(quantile * len(onsets))]

    def share(self, value: int, quantile: float) -> float:
        """For how much of a note value, or of the nearest one known, a note sounds."""
        shares = self.shares[_nearest(self.shares, value)]
        return shares[int(quantile * len(shares))]


def _nearest(known: Iterable[int], wanted: int) -> int:
    return min(known, key=lambda value: (abs(value - wanted), value))


class PlayedNote(NamedTuple):
    """A new note: on the grid, by how many ticks it is struck later, and for how many it sounds."""

    note: NewNote
    shift: int
    length: int
    is_alone: bool
    """Whether its part strikes one note at a time."""


class Feel:
    """How the parts of a slot play what is written for them.

    Args:
        slot: the parts.
        grid: of the song.
        rng: decides how late and how long what is struck together is played.
    """

    def __init__(self, slot: Slot, grid: Grid, rng: np.random.Generator) -> None:
        self.slot, self.grid = slot, grid
        notes = defaultdict(list)
        for part in slot.parts:
            recent = Part(part.track, part.channel, part.program, part.notes[-NUM_RECENT_NOTES:])
            for played, meant in zip(recent.notes, straighten(recent, grid), strict=True):
                for pitch in (ALL, played.pitch) if slot.is_drums else (ALL,):
                    notes[pitch].append((played, meant))
        self._habits = {pitch: Habit.of(each, grid, is_drums=slot.is_drums) for pitch, each in notes.items()}
        self._rng = rng
        self._onset = (-1, 0.0, 0.0)
        """Tick on the grid, and how late and how long, as quantiles, what is struck there is played."""
        self._num_struck: dict[int, int] = defaultdict(int)

    def play(self, start: int, value: int, key: int) -> tuple[int, int]:
        """How many ticks late a note is struck, and for how many it sounds.

        Notes at one tick are early or late together, and those of a chord are spread as some chord was.

        Args:
            start: tick on the grid, none before that of the last call.
            value: its length in steps.
            key: its pitch, as it will be struck.
        """
        if start != self._onset[0]:
            self._onset = (start, *self._rng.random(2))
            self._num_struck.clear()
        _, late, held = self._onset
        voice = key if key in self._habits else ALL
        habit = self._habits[voice]
        shifts = habit.shifts(self.grid.place(start)[1] % STEPS_PER_BEAT, late)
        shift = shifts[min(self._num_struck[voice], len(shifts) - 1)]
        self._num_struck[voice] += 1
        length = value * habit.share(value, held) * self.grid.bars.ticks_per_beat / STEPS_PER_BEAT
        return shift, max(1, round(length))


def keep_apart(played: Sequence[PlayedNote], plan: Plan, grid: Grid) -> list[NewNote]:
    """New notes as they are struck, with all that holds for them on the grid.

    Each stays in its bar and after what sounds on its key, ends before its key is struck again, or its part's next note
    if that has one voice, and rings on into every bar, by a sixteenth if it did so, into which it rang on the grid.
    """
    bars, enough = grid.bars, math.floor(least_ring_ticks(plan.ticks_per_beat)) + 1
    starts, following = [], [[] for _ in played]
    earliest, latest = [], []
    for note, *_ in played:
        bar = bars.index(note.start)
        key = note.part.channel, note.part.sound_of(note.pitch)
        earliest.append(max(plan.start, bars.start(bar), plan.sounding.get(key, 0)))
        latest.append(min(plan.stop, bars.start(bar + 1)) - 1)
    for first, second in _neighbours(played):
        middle = (played[first].note.start + played[second].note.start) // 2
        latest[first], earliest[second] = min(latest[first], middle), max(earliest[second], middle + 1)
        following[first].append(second)
    for (note, shift, *_), low, high in zip(played, earliest, latest, strict=True):
        starts.append(min(max(note.start + shift, low), high))
    result = []
    for index, (note, _, length, _) in enumerate(played):
        line = bars.start(bars.index(note.end - 1))
        rings_to = min(note.end, line + enough) if line > note.start else 0
        stop = min([plan.stop, *(starts[later] for later in following[index])])
        result.append(note._replace(start=starts[index], end=min(max(starts[index] + length, rings_to), stop)))
    return result


def _neighbours(played: Sequence[PlayedNote]) -> Iterator[tuple[int, int]]:
    """Indices of notes that follow each other on a key or in a part of one voice, in order."""
    lines = defaultdict(list)
    for index, (note, _, _, is_alone) in sorted(enumerate(played), key=lambda each: each[1].note.start):
        lines[note.part.channel, note.pitch].append(index)
        if is_alone:
            lines[note.part.track, note.part.channel, note.part.program, None].append(index)
    for line in lines.values():
        yield from pairwise(line)
