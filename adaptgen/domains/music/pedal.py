"""How a part uses the sustain pedal, so that a pianist's continuation does not go on dry.

Tokens know of keys alone. A channel that was pedalled for most of the time is pedalled on: as often as it was, but at
least once a bar, with the first note struck in each span, and not where nothing is struck, so that no chord blurs for
longer than a bar.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import mido

from adaptgen.domains.music.controllers import PEDAL, PEDAL_DOWN, RESET
from adaptgen.domains.music.plan import Plan
from adaptgen.domains.music.splice import NewNote, PedalMove
from adaptgen.domains.music.timing import all_events

__all__ = ["Pedalling", "find_pedallings", "pedal"]

HABIT_BEATS = 64
"""How far back a habit is looked for."""
LEAST_PRESSES = 4
LEAST_SHARE = 0.5
"""Of the time that the pedal is down."""


@dataclass(frozen=True)
class Pedalling:
    """How a channel's pedal was used up to the join.

    Attributes:
        track: where its messages stand.
        value: how deep it went.
        span_ticks: from one time that it was pressed to the next, as a rule.
        lift_ticks: how long it was up in between, as a rule.
    """

    track: int
    value: int
    span_ticks: float
    lift_ticks: float


def find_pedallings(midi: mido.MidiFile, *, start: int) -> dict[int, Pedalling]:
    """The habit of each channel that was pedalled for most of the time in the last quarters before a tick."""
    since = start - HABIT_BEATS * midi.ticks_per_beat
    moves: dict[int, list[tuple[int, int, int]]] = {}
    for tick, track, message in all_events(midi):
        if since <= tick < start and message.type == "control_change" and message.control in (PEDAL, RESET):
            value = message.value if message.control == PEDAL else 0
            channel = moves.setdefault(message.channel, [])
            if not channel or (value >= PEDAL_DOWN) != (channel[-1][2] >= PEDAL_DOWN):
                channel.append((tick, track, value))
            else:
                channel[-1] = channel[-1][0], track, max(value, channel[-1][2])
    found = {channel: _habit_of(each, start) for channel, each in moves.items()}
    return {channel: habit for channel, habit in found.items() if habit is not None}


def _habit_of(moves: Sequence[tuple[int, int, int]], start: int) -> Pedalling | None:
    """From ticks, tracks and values at which a pedal went up and down in turn."""
    presses = [(tick, track, value) for tick, track, value in moves if value >= PEDAL_DOWN]
    if len(presses) < LEAST_PRESSES:
        return None
    timed = [*((tick, value >= PEDAL_DOWN) for tick, _, value in moves), (start, False)]
    down, up = (
        [later - tick for (tick, was_down), (later, _) in pairwise(timed) if was_down is wanted]
        for wanted in (True, False)
    )
    if sum(down) < LEAST_SHARE * (start - timed[0][0]):
        return None
    spans = [later[0] - press[0] for press, later in pairwise(presses)]
    return Pedalling(presses[-1][1], max(value for *_, value in presses), median(spans), median(up))


def pedal(pedallings: dict[int, Pedalling], notes: Sequence[NewNote], plan: Plan) -> list[PedalMove]:
    """How the pedals move under new notes."""
    moves = []
    for channel, habit in pedallings.items():
        starts = sorted(note.start for note in notes if note.part.channel == channel)
        moves += [PedalMove(tick, habit.track, channel, value) for tick, value in _moves(habit, starts, plan)]
    return moves


def _moves(habit: Pedalling, starts: Sequence[int], plan: Plan) -> Iterator[tuple[int, int]]:
    """Ticks and values.

    Who lifts the pedal for less than an eighth does so with a note and presses it after; who lifts it for longer
    presses it with a note and lifts it before the next.
    """
    is_legato = habit.lift_ticks < plan.ticks_per_beat / 2
    lift = max(1, round(habit.lift_ticks))
    firsts = []
    for begin, end in _spans(habit, plan):
        index = bisect_left(starts, begin)
        firsts.append((starts[index] if index < len(starts) and starts[index] < end else None, end))
    for (first, end), (following, _) in pairwise([*firsts, (None, plan.stop)]):
        if first is None:
            continue
        until = end if following is None else following
        up = min(lift, (until - first) // 2)
        press, release = (first + up, until) if is_legato else (first + 1, until - up)
        if first < press < release:
            yield press, habit.value
            yield release, 0


def _spans(habit: Pedalling, plan: Plan) -> Iterator[tuple[int, int]]:
    """Stretches of ticks with one press each: equal parts of the plan's bars, about as long as spans were."""
    lines = [cell.start for cell in plan.cells] + [plan.stop]
    for begin, end in pairwise(max(plan.start, line) for line in lines):
        count = max(1, round((end - begin) / max(1.0, habit.span_ticks)))
        for index in range(count):
            first, stop = (begin + (end - begin) * at // count for at in (index, index + 1))
            if first < stop:
                yield first, stop
