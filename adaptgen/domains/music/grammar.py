"""Which token may come next in a continuation, so that every sequence drawn is music that fits its plan.

The order within a bar is: steps ascending; at a step, parts in writing order; in a part, pitches ascending. So
no note can be written twice. A pitch that still sounds on its channel cannot be struck; a note can end no later
than the plan; a bar can be left only when something begins in it, for which every part keeps a few pitches free.
"""

from __future__ import annotations

from enum import Enum, auto

import numpy as np

from adaptgen.domains.base import Grammar
from adaptgen.domains.music.plan import Cell, Plan, Slot
from adaptgen.domains.music.tokenizer import MusicTokenizer

__all__ = ["MusicGrammar"]

MAX_NOTES_PER_ONSET = 10
"""In one part at one step: ten fingers. Keeps the tokens per bar, and so the time per bar, bounded."""
RESERVED_PITCHES = 8
"""Of each part's, these are struck only to break the silence of a bar, and shortly. Otherwise long chords could
leave nothing to strike for bars. No music comes near: eighty piano keys would have to be down."""
DRUM_STEPS = 1


class State(Enum):
    """What the last token was."""

    NOTHING = auto()
    BAR = auto()
    BAR_LENGTH = auto()
    POSITION = auto()
    PROGRAM = auto()
    PITCH = auto()
    VELOCITY = auto()
    NOTE = auto()


class MusicGrammar(Grammar):
    """The rules for one continuation.

    Args:
        tokenizer: whose tokens are drawn.
        plan: the bars to fill and who may play.
    """

    def __init__(self, tokenizer: MusicTokenizer, plan: Plan) -> None:
        self.tokenizer, self.plan = tokenizer, plan
        self.state = State.NOTHING
        self.cell_index = -1
        self.step, self.tick = -1, plan.start
        self.slot: Slot | None = None
        self.pitch, self.notes_at_onset = -1, 0
        self.last_onset = -1
        self._done = False
        free = {channel: np.zeros(128, dtype=np.int64) for channel in {slot.channel for slot in plan.slots}}
        for (channel, pitch), end in plan.sounding.items():
            free[channel][pitch] = end
        self.free_from = free
        """Per channel, the tick from which each pitch may be struck again."""
        self._ids = {slot.program_token: tokenizer.pitch_ids(is_drums=slot.is_drums) for slot in plan.slots}
        self._playable = {
            slot.program_token: np.array(
                [p in slot.pitches and self._ids[slot.program_token][p] >= 0 for p in range(128)]
            )
            for slot in plan.slots
        }
        self._program_ids = {tokenizer.ids[f"Program_{slot.program_token}"]: slot for slot in plan.slots}

    @property
    def is_done(self) -> bool:
        return self._done

    @property
    def progress(self) -> float:
        return 1.0 if self._done else max(0, self.cell_index) / len(self.plan.cells)

    @property
    def cell(self) -> Cell:
        return self.plan.cells[self.cell_index]

    def allowed(self) -> np.ndarray:
        tokenizer = self.tokenizer
        mask = np.zeros((1, tokenizer.vocab_sizes[0]), dtype=bool)
        row = mask[0]
        if self.state is State.NOTHING:
            row[tokenizer.bar] = True
        elif self.state is State.BAR:
            row[tokenizer.bar_length_id(self.cell.num_steps)] = True
        elif self.state in (State.BAR_LENGTH, State.NOTE):
            positions = self._open_positions()
            row[[tokenizer.position_ids[step] for step in positions]] = True
            row[tokenizer.bar] = self._may_leave_bar(positions)
            if self.state is State.NOTE:
                self._allow_more_at_onset(row)
        elif self.state is State.POSITION:
            for program_id, slot in self._program_ids.items():
                row[program_id] = slot is not self.slot and self._free_pitches(slot).any()
            if self.slot is not None:
                row[self._ids[self.slot.program_token][self._free_pitches(self.slot)]] = True
        elif self.state is State.PROGRAM:
            row[self._ids[self.slot.program_token][self._free_pitches(self.slot)]] = True
        elif self.state is State.PITCH:
            row[tokenizer.velocity_ids] = True
        else:
            row[self._fitting_durations()] = True
        return mask

    @property
    def _is_bar_silent(self) -> bool:
        return self.last_onset < self.cell.bar_start

    def _open_positions(self) -> list[int]:
        """Later steps of the cell at which somebody has a pitch to strike."""
        any_free, more_free = np.inf, np.inf
        for slot in self.plan.slots:
            ends = self.free_from[slot.channel][self._playable[slot.program_token]]
            ends = np.partition(ends, (0, RESERVED_PITCHES))
            any_free, more_free = min(any_free, ends[0]), min(more_free, ends[RESERVED_PITCHES])
        in_bar_from = max(any_free, self.cell.bar_start) if self._is_bar_silent else np.inf
        earliest = min(more_free, in_bar_from)
        return [step for step, tick in self.cell.ticks.items() if step > self.step and tick >= earliest]

    def _may_leave_bar(self, positions: list[int]) -> bool:
        is_cut_bar = not self.plan.is_last_bar_whole and self.cell.bar == self.plan.cells[-1].bar
        if is_cut_bar or not self._is_bar_silent or not self.cell.is_last_chance:
            return True
        return not any(self.cell.ticks[step] >= self.cell.bar_start for step in positions)

    def _free_pitches(self, slot: Slot) -> np.ndarray:
        """bool `[128]`: what a part may strike now."""
        free = self._playable[slot.program_token] & (self.free_from[slot.channel] <= self.tick)
        breaks_silence = self._is_bar_silent and self.tick >= self.cell.bar_start
        if free.sum() <= RESERVED_PITCHES and not breaks_silence:
            free[:] = False
        return free

    def _allow_more_at_onset(self, row: np.ndarray) -> None:
        if self.notes_at_onset < MAX_NOTES_PER_ONSET:
            higher = self._free_pitches(self.slot)
            higher[: self.pitch + 1] = False
            row[self._ids[self.slot.program_token][higher]] = True
        slots = list(self._program_ids.items())
        current = next(index for index, (_, slot) in enumerate(slots) if slot is self.slot)
        for program_id, slot in slots[current + 1 :]:
            row[program_id] = self._free_pitches(slot).any()

    def _fitting_durations(self) -> np.ndarray:
        """Durations that end within the plan; the shortest always, since a note may be cut by the plan's end."""
        ids = self.tokenizer.duration_ids
        slot = self.slot
        num_free = (self._playable[slot.program_token] & (self.free_from[slot.channel] <= self.tick)).sum()
        if num_free <= RESERVED_PITCHES:
            return ids[:1]
        steps = [self.tokenizer.steps_of_duration[int(token)] for token in ids]
        fits = np.array([index == 0 or self.plan.fits(self.tick, value) for index, value in enumerate(steps)])
        return ids[fits]

    def accept(self, frame: np.ndarray) -> None:
        token = int(frame[0])
        kind, value = self.tokenizer.kinds[token], self.tokenizer.values[token]
        if kind == "Bar":
            self.cell_index += 1
            if self.cell_index == len(self.plan.cells):
                self._done = True
                return
            self.state, self.step, self.slot = State.BAR, -1, None
        elif kind == "TimeSig":
            self.state = State.BAR_LENGTH
        elif kind == "Position":
            self.step = int(value)
            self.tick = self.cell.ticks[self.step]
            self.pitch, self.notes_at_onset = -1, 0
            self.state = State.POSITION
        elif kind == "Program":
            self.slot = self._program_ids[token]
            self.pitch, self.notes_at_onset = -1, 0
            self.state = State.PROGRAM
        elif kind in ("Pitch", "PitchDrum"):
            self.pitch = int(value)
            self.notes_at_onset += 1
            self.state = State.PITCH
        elif kind == "Velocity" and not self.slot.is_drums:
            self.state = State.VELOCITY
        else:
            duration = DRUM_STEPS if kind == "Velocity" else self.tokenizer.steps_of_duration[token]
            self.free_from[self.slot.channel][self.pitch] = self.plan.end_tick(self.tick, duration)
            self.last_onset = self.tick
            self.state = State.NOTE
