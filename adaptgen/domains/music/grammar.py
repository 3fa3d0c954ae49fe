"""Which token may come next in a continuation, so that every sequence drawn is music that fits its plan.

The order within a bar is: parts in writing order; in a part, steps ascending; at a step, pitches ascending. So no
note can be written twice. A pitch that sounds on its channel cannot be struck, a note ends no later than the plan
and no later than its pitch begins again, a part of one voice strikes one note at a time and lets go of the one before,
a part of chords alone strikes as many notes as it did, a part plays between its softest and its loudest, with its
accents (adaptgen.domains.music.accents), and not much more at a time than it did (adaptgen.domains.music.density), hand
percussion strikes what its loop has and nothing else (adaptgen.domains.music.loops), and a bar is left only when
something sounds in it and nobody is due (adaptgen.domains.music.rests).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np

from adaptgen.domains.base import Grammar, StandIn
from adaptgen.domains.music.density import Density
from adaptgen.domains.music.grid import least_ring_ticks
from adaptgen.domains.music.loops import LoopStrikes
from adaptgen.domains.music.plan import Cell, Plan, Slot, SlotHabits
from adaptgen.domains.music.rests import RestHabit, Rests
from adaptgen.domains.music.sounding import SoundingNotes
from adaptgen.domains.music.tokenizer import MusicTokenizer

__all__ = ["MusicGrammar"]

MAX_NOTES_PER_ONSET = 10
"""In one part at one step: ten fingers. Keeps the tokens per bar, and so the time per bar, bounded."""
DRUM_STEPS = 1


class State(Enum):
    """What the last token was."""

    NOTHING = auto()
    BAR = auto()
    BAR_LENGTH = auto()
    PROGRAM = auto()
    POSITION = auto()
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
        self.part, self.step, self.pitch = -1, -1, -1
        """The slot's index, the step and the pitch written last; -1 for none."""
        self.notes_at_onset = 0
        self._done = False
        self._ways: dict[int, list[int]] | None = None
        self._notes = SoundingNotes(plan)
        least_ring = least_ring_ticks(plan.ticks_per_beat)
        self._rests = Rests([habits.rest for habits in plan.habits], least_ring=least_ring, begin=plan.start)
        tunes = [habits.tune for habits in plan.habits]
        tune_habits = [RestHabit(None, 0, 0) if tune is None else tune.habit for tune in tunes]
        self._tune_rests = Rests(tune_habits, least_ring=least_ring, begin=plan.start)
        self._densities = [Density(habits.density, ticks_per_beat=plan.ticks_per_beat) for habits in plan.habits]
        self._ids = [tokenizer.pitch_ids(is_drums=slot.is_drums) for slot in plan.slots]
        self._playable = [
            np.array([pitch in slot.pitches and ids[pitch] >= 0 for pitch in range(128)])
            for slot, ids in zip(plan.slots, self._ids, strict=True)
        ]
        self._num_playable = [int(playable.sum()) for playable in self._playable]
        self._velocity_ids = [_levels(tokenizer, slot) for slot in plan.slots]
        self._last_notes: dict[int, tuple[int, int, int]] = {}
        """Pitch, start and end of what each part of one voice played last."""
        self._program_ids = [tokenizer.ids[f"Program_{slot.program_token}"] for slot in plan.slots]
        self._drums = next((part for part, slot in enumerate(plan.slots) if slot.is_drums), None)
        self._loops = LoopStrikes(plan.loops)
        self._leaving = np.array([tokenizer.bar, *np.flatnonzero(tokenizer.kinds == "Program")])
        self._duration_steps = [tokenizer.steps_of_duration[int(token)] for token in tokenizer.duration_ids]

    @property
    def is_done(self) -> bool:
        return self._done

    @property
    def progress(self) -> float:
        return 1.0 if self._done else max(0, self.cell_index) / len(self.plan.cells)

    @property
    def _cell(self) -> Cell:
        return self.plan.cells[self.cell_index]

    @property
    def _cell_end(self) -> int:
        """Tick at which the next cell begins, or all ends."""
        later = self.plan.cells[self.cell_index + 1 : self.cell_index + 2]
        return min([*later[0].ticks.values(), later[0].start]) if later else self.plan.stop

    @property
    def _slot(self) -> Slot:
        return self.plan.slots[self.part]

    @property
    def _habits(self) -> SlotHabits:
        return self.plan.habits[self.part]

    @property
    def _tick(self) -> int:
        return self._cell.ticks[self.step]

    def allowed(self) -> np.ndarray:
        tokenizer = self.tokenizer
        mask = np.zeros((1, tokenizer.vocab_sizes[0]), dtype=bool)
        row = mask[0]
        if self.state is State.NOTHING:
            row[tokenizer.bar] = True
        elif self.state is State.BAR:
            row[tokenizer.bar_length_id(self._cell.num_steps)] = True
        elif self.state is State.PROGRAM:
            steps = self._ways_on()[self.part]
            in_time = self._tune_steps(steps) or self._pressing_steps(steps) or steps
            row[[tokenizer.position_ids[step] for step in in_time]] = True
        elif self.state is State.POSITION:
            pitches = self._next_pitches()
            pitches[self._last_pitch() + 1 :] = False
            row[self._ids[self.part][pitches]] = True
        elif self.state is State.PITCH:
            row[self._fitting_velocities()] = True
        elif self.state is State.VELOCITY:
            row[self._fitting_durations()] = True
        else:
            self._allow_after_note(row)
        return mask

    def _allow_after_note(self, row: np.ndarray) -> None:
        """A higher pitch, a later step, a later part, or the next bar; while a chord lacks notes, a higher pitch."""
        if self._lacks_notes():
            row[self._ids[self.part][self._next_pitches()]] = True
            return
        ways = self._ways_on()
        to_the_tune = self._ways_to_the_tune(ways)
        if to_the_tune:
            row[to_the_tune] = True
            return
        strike = self._next_strike()
        if strike is not None and self._strikes_here():
            higher = self._free_pitches(self.part, self._tick)
            higher[: self.pitch + 1] = False
            higher[strike[1] + 1 :] = False
            if self.notes_at_onset >= MAX_NOTES_PER_ONSET - self._strikes_here():
                higher[: strike[1]] = False
            row[self._ids[self.part][higher]] = True
            return
        most = 1 if self.part >= 0 and self._habits.has_one_voice else MAX_NOTES_PER_ONSET
        if self.state is State.NOTE and self.notes_at_onset < most:
            higher = self._free_pitches(self.part, self._tick)
            higher[: self.pitch + 1] = False
            row[self._ids[self.part][higher]] = True
        pressing = self._pressing_steps(ways.get(self.part, []))
        if pressing:
            row[[self.tokenizer.position_ids[step] for step in pressing]] = True
            return
        next_due = self._next_due(ways)
        for part, steps in ways.items():
            if next_due is not None and part > next_due:
                continue
            if part == self.part:
                row[[self.tokenizer.position_ids[step] for step in steps]] = True
            else:
                row[self._program_ids[part]] = True
        # Without a way to make it sound, a bar may stay silent; only odd files come to that.
        is_due = next_due is not None or (strike is not None and self.part == self._drums)
        row[self.tokenizer.bar] = not is_due and (self._first_silent_bar() is None or not ways)

    def _ways_to_the_tune(self, ways: dict[int, list[int]]) -> list[int]:
        """Tokens of later steps and higher pitches by which the part's tune, if it is due, can yet come."""
        if self.part not in self._tune_rests.due:
            return []
        steps = self._tune_steps(ways.get(self.part, []))
        tokens = [self.tokenizer.position_ids[step] for step in steps]
        if self.state is State.NOTE and self.notes_at_onset < MAX_NOTES_PER_ONSET:
            higher = self._free_pitches(self.part, self._tick)
            higher[: self.pitch + 1 if steps else max(self.pitch + 1, self._habits.tune.lowest)] = False
            tokens += self._ids[self.part][higher].tolist()
        return tokens

    def _tune_steps(self, steps: list[int]) -> list[int]:
        """Those of the part's steps at which its tune, if it is due, can come in good time; none if it is not due."""
        if self.part not in self._tune_rests.due:
            return []
        tune, ticks = self._habits.tune, self._cell.ticks
        in_time = (step for step in steps if step <= tune.latest_step)
        return [step for step in in_time if self._free_pitches(self.part, ticks[step])[tune.lowest :].any()]

    def _pressing_steps(self, steps: list[int]) -> list[int]:
        """Those of the part's steps by which it has to come in again within this cell, if it has to; else none."""
        if not steps or self._rests.deadline(self.part) >= self._cell_end:
            return []
        deadline, ticks = self._rests.deadline(self.part), self._cell.ticks
        return [step for step in steps if ticks[step] <= deadline] or steps[:1]

    def _next_strike(self) -> tuple[int, int] | None:
        """Step and pitch that the loops of hand percussion have next in this cell, of those that can be struck."""
        return self._loops.next(self._can_strike)

    def _can_strike(self, step: int, pitch: int) -> bool:
        is_here = self.part == self._drums and step == self.step
        has_room = not is_here or self.notes_at_onset < MAX_NOTES_PER_ONSET
        return has_room and bool(self._free_pitches(self._drums, self._cell.ticks[step])[pitch])

    def _strikes_here(self) -> int:
        """How many strikes of loops are yet to come at the step that is being written."""
        if self.part != self._drums or self.state not in (State.POSITION, State.NOTE):
            return 0
        return self._loops.count_at(self.step)

    def _last_pitch(self) -> int:
        """The highest that may be struck next: nothing passes over a strike of a loop."""
        strike = self._next_strike()
        return strike[1] if strike is not None and self._strikes_here() else len(self._playable[0]) - 1

    def _next_due(self, ways: dict[int, list[int]]) -> int | None:
        """The part that must not be passed over, of those that can play."""
        due = self._rests.due | self._tune_rests.due
        due |= {self._drums} if self._next_strike() is not None else set()
        return min((part for part in ways if part > self.part and part in due), default=None)

    def stand_ins(self) -> Sequence[StandIn]:
        """Going to the part that is due stands for leaving the bar and for going to parts that may not come next.

        The first step for which a part need not wait stands for those before it.
        """
        if self.state not in (State.BAR_LENGTH, State.NOTE):
            return ()
        ways = self._ways_on()
        steps = ways.get(self.part, [])
        if self._lacks_notes() or self._ways_to_the_tune(ways) or self._pressing_steps(steps):
            return ()
        strike = self._next_strike()
        if self.part == self._drums and strike is not None:
            return [self._stand_in_of(strike)]
        found = []
        next_due = self._next_due(ways)
        if next_due is not None:
            legal = [self._program_ids[part] for part in ways if part <= next_due]
            found.append(StandIn(0, self._program_ids[next_due], np.setdiff1d(self._leaving, legal)))
        too_soon = [step for step in self._cell.ticks if self.step < step < steps[0]] if steps else []
        if too_soon:
            positions = np.array(self.tokenizer.position_ids)
            found.append(StandIn(0, positions[steps[0]], positions[too_soon]))
        return found

    def _stand_in_of(self, strike: tuple[int, int]) -> StandIn:
        """The strike that a loop has next stands for all that would pass over it."""
        positions = np.array(self.tokenizer.position_ids)
        step, pitch = strike
        if step == self.step:
            pitches = self._ids[self.part][pitch + 1 :]
            passing = [*self._leaving, *positions, *pitches[pitches >= 0]]
            return StandIn(0, self._ids[self.part][pitch], np.array(passing))
        return StandIn(0, positions[step], np.array([*self._leaving, *positions[step + 1 :]]))

    def _ways_on(self) -> dict[int, list[int]]:
        """What `_find_ways` finds, once for each token: both the mask and the stand-ins need it."""
        if self._ways is None:
            self._ways = self._find_ways()
        return self._ways

    def _find_ways(self) -> dict[int, list[int]]:
        """Steps at which each part may still strike in this cell, so that every bar of it can yet be filled.

        While a bar is silent, somebody must be left to sound in it: a part may be taken up, and a step passed
        over, only if the silent bar can be reached afterwards. If need be, nobody waits in it for having played much.
        """
        silent, ways = self._first_silent_bar(), self._steps_ahead(is_patient=True)
        if silent is None:
            return ways
        return self._reaching(ways, silent) or self._reaching(self._steps_ahead(is_patient=False), silent) or ways

    def _steps_ahead(self, *, is_patient: bool) -> dict[int, list[int]]:
        """Steps at which each part may strike before the cell ends; if patient, not where it has to wait."""
        ways = {}
        is_due = self._rests.due | self._tune_rests.due
        first = max(self.part, 0)
        for part in range(first, len(self.plan.slots)):
            after = self.step if part == self.part else -1
            earliest = self._densities[part].earliest if is_patient and part not in is_due else 0
            earliest = min(earliest, self._rests.deadline(part))
            strike = self._next_strike() if part == self._drums else None
            steps = [
                step
                for step, tick in self._cell.ticks.items()
                if step > after and (tick >= earliest or (strike is not None and step == strike[0]))
            ]
            if strike is not None:
                steps = [step for step in steps if step <= strike[0]]
            if not self._is_roomy(part):
                steps = [step for step in steps if self._free_pitches(part, self._cell.ticks[step]).any()]
            if steps:
                ways[part] = steps
        return ways

    def _reaching(self, ways: dict[int, list[int]], bar: tuple[int, int]) -> dict[int, list[int]]:
        """Those of the ways from which a bar can yet be reached; none if it can not."""
        start, stop = bar
        reaching = {
            part: [step for step in steps if start <= self._cell.ticks[step] < stop] for part, steps in ways.items()
        }
        last_part = max((part for part, steps in reaching.items() if steps), default=None)
        if last_part is None:
            return {}
        last_step = reaching[last_part][-1]
        return {
            part: [step for step in steps if part < last_part or step <= last_step]
            for part, steps in ways.items()
            if part <= last_part
        }

    def _first_silent_bar(self) -> tuple[int, int] | None:
        for bar in self._cell.bars:
            if not self._notes.sound_in(*bar):
                return bar
        return None

    def _is_roomy(self, part: int) -> bool:
        """Whether a part has a free pitch wherever it begins, there being fewer notes about than pitches."""
        num_looped = len(self._loops.keys) if part == self._drums else 0
        return self._notes.num_recent(self.plan.slots[part].channel) < self._num_playable[part] - num_looped

    def _free_pitches(self, part: int, tick: int) -> np.ndarray:
        """bool `[128]`: what a part may strike at a tick."""
        shortest = self.plan.end_tick(tick, DRUM_STEPS) - tick
        free = self._playable[part] & self._notes.free(self.plan.slots[part].channel, tick, tick + shortest)
        if part == self._drums:
            free[self._loops.kept_from(tick)] = False
        return free

    def _lacks_notes(self) -> bool:
        """Whether the chord that is being written must have another note, and can."""
        is_short = self.state is State.NOTE and self.notes_at_onset < self._habits.least_notes
        return is_short and bool(self._next_pitches().any())

    def _next_pitches(self) -> np.ndarray:
        """bool `[128]`: what may be struck next at this onset, leaving enough above it for the notes it needs yet."""
        pitches = self._free_pitches(self.part, self._tick)
        pitches[: self.pitch + 1] = False
        num_needed = self._habits.least_notes - self.notes_at_onset - 1
        if num_needed > 0:
            pitches[np.flatnonzero(pitches)[1:][-num_needed:]] = False
        return pitches

    def _fitting_velocities(self) -> np.ndarray:
        """Those between the part's softest and loudest, and at places of the bar that it accents, only these."""
        key = self.pitch if self._slot.is_drums else 0
        ids = self._velocity_ids[self.part][key]
        accent = self._habits.accents.at(key, self.step, num_steps=self._cell.num_steps)
        if accent is None:
            return ids
        softest, loudest = (self.tokenizer.velocity_id(velocity) for velocity in accent)
        accented = ids[(ids >= softest) & (ids <= loudest)]
        return accented if len(accented) else ids

    def _fitting_durations(self) -> np.ndarray:
        """Durations that end before the pitch is struck again and before the plan ends.

        The shortest is always among them, for a note may be cut by the plan's end.
        """
        stop = self._notes.next_start(self._slot.channel, self.pitch, self._tick)
        fits = [
            index == 0 or self.plan.fits(self._tick, steps, stop=stop)
            for index, steps in enumerate(self._duration_steps)
        ]
        return self.tokenizer.duration_ids[fits]

    def accept(self, frame: np.ndarray) -> None:
        self._ways = None
        token = int(frame[0])
        kind, value = self.tokenizer.kinds[token], self.tokenizer.values[token]
        if kind == "Bar":
            self.cell_index += 1
            if self.cell_index == len(self.plan.cells):
                self._done = True
                return
            begin = min([self._cell.start, *self._cell.ticks.values()])
            self._notes.forget_before(begin)
            self._rests.begin_cell(begin, self._cell_end)
            self._tune_rests.begin_cell(begin, self._cell_end)
            self.state, self.part, self.step = State.BAR, -1, -1
            self._begin_loops()
        elif kind == "TimeSig":
            self.state = State.BAR_LENGTH
        elif kind == "Program":
            self.state, self.part, self.step = State.PROGRAM, self._program_ids.index(token), -1
        elif kind == "Position":
            self.state, self.step, self.pitch, self.notes_at_onset = State.POSITION, int(value), -1, 0
        elif kind in ("Pitch", "PitchDrum"):
            self.state, self.pitch = State.PITCH, int(value)
            self.notes_at_onset += 1
        elif kind == "Velocity" and not self._slot.is_drums:
            self.state = State.VELOCITY
        else:
            duration = DRUM_STEPS if kind == "Velocity" else self.tokenizer.steps_of_duration[token]
            end = self.plan.end_tick(self._tick, duration)
            if self._habits.has_one_voice:
                self._let_go()
                self._last_notes[self.part] = self.pitch, self._tick, end
            self._notes.add(self._slot.channel, self.pitch, self._tick, end)
            self._rests.play(self.part, end)
            self._densities[self.part].strike(self._tick)
            if self.part == self._drums:
                self._loops.strike(self.step, self.pitch)
            tune = self._habits.tune
            if tune is not None and self.pitch >= tune.lowest:
                self._tune_rests.play(self.part, end)
            self.state = State.NOTE

    def _begin_loops(self) -> None:
        """Those of the cell that begins."""
        if self._drums is None:
            return
        cell, playable = self._cell, self._playable[self._drums]
        bars_to_fill = cell.bars if len(self.plan.slots) == 1 else ()
        self._loops.begin_cell(self.cell_index, cell.num_steps, cell.ticks, playable, bars_to_fill)

    def _let_go(self) -> None:
        """End what a part of one voice played last where it plays again."""
        last = self._last_notes.get(self.part)
        if last is not None and last[2] > self._tick:
            self._notes.cut(self._slot.channel, last, self._tick)
            self._rests.let_go(self.part, self._tick)


def _levels(tokenizer: MusicTokenizer, slot: Slot) -> dict[int, np.ndarray]:
    """Velocity tokens between those of a slot's softest and its loudest note; of drums, for each pitch."""
    levels = {}
    for pitch in slot.pitches if slot.is_drums else (0,):
        velocities = slot.velocities(pitch)
        softest, loudest = (tokenizer.velocity_id(velocity) for velocity in (min(velocities), max(velocities)))
        levels[pitch] = np.arange(softest, loudest + 1)
    return levels
