"""When things happen in a MIDI file: ticks to bars, and ticks to seconds."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

import mido

__all__ = [
    "BarLines",
    "TempoMap",
    "Timed",
    "all_events",
    "read_metres",
    "read_tempos",
    "tempo_before_slowing",
    "timed",
]

DEFAULT_TEMPO = 500_000
"""Microseconds per quarter note: 120 quarter notes a minute."""
SLOWING_BARS, LAST_SLOWING_BARS, LEAST_SLOWING = 4, 2, 1.25
"""What counts as slowing down at the end: within so many bars, the last time within fewer, by this factor in all."""
LARGEST_DENOMINATOR = 64

Timed = tuple[int, mido.Message | mido.MetaMessage]


def timed(track: mido.MidiTrack) -> Iterator[Timed]:
    """Messages of a track with their ticks from the start, in order."""
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def all_events(midi: mido.MidiFile) -> list[tuple[int, int, mido.Message | mido.MetaMessage]]:
    """Tick, track and message of everything, by tick; at a tick, tracks keep their order and their own."""
    events = [(tick, index, message) for index, track in enumerate(midi.tracks) for tick, message in timed(track)]
    return sorted(events, key=lambda event: event[0])


def read_tempos(midi: mido.MidiFile) -> list[tuple[int, int]]:
    """Tick and microseconds per quarter of every tempo change, whatever track it stands in."""
    return [(tick, message.tempo) for tick, _, message in all_events(midi) if message.type == "set_tempo"]


def read_metres(midi: mido.MidiFile) -> list[tuple[int, int, int]]:
    """Tick, numerator and denominator of every metre change that makes sense."""
    return [
        (tick, message.numerator, message.denominator)
        for tick, _, message in all_events(midi)
        if message.type == "time_signature" and _has_bars(message, midi.ticks_per_beat)
    ]


def tempo_before_slowing(midi: mido.MidiFile, bars: BarLines, stop_bar: int) -> int | None:
    """The tempo before a ritardando that the last bars before one are; None if they are not.

    That is two steps or more from slow to slower, up to the last tempo before the bar. A single step may begin a
    slower section, and a file that says what comes after needs no help.

    Returns:
        Microseconds per quarter.
    """
    stop = bars.start(stop_bar)
    tempos = {tick: tempo for tick, tempo in [(0, DEFAULT_TEMPO), *read_tempos(midi)] if tick <= stop}
    if stop in tempos:
        return None
    steps = [step for last, step in pairwise([(0, 0), *tempos.items()]) if step[1] != last[1]]
    first = len(steps) - 1
    while first and steps[first - 1][1] < steps[first][1]:
        first -= 1
    slower = steps[first + 1 :]
    if len(slower) < 2 or slower[-1][1] < LEAST_SLOWING * steps[first][1]:
        return None
    begins, ends = (bars.start(max(0, stop_bar - count)) for count in (SLOWING_BARS, LAST_SLOWING_BARS))
    return steps[first][1] if slower[0][0] >= begins and slower[-1][0] >= ends else None


def _has_bars(message: mido.MetaMessage, ticks_per_beat: int) -> bool:
    """Whether a metre means something: bars of at least a tick, note values of at least a 64th."""
    bar_ticks = 4 * message.numerator * ticks_per_beat / message.denominator
    return message.denominator <= LARGEST_DENOMINATOR and bar_ticks >= 1


class BarLines:
    """Where bars begin, from the metre changes of a file; goes on for ever in the last metre.

    A metre change begins a new bar wherever it stands, so that a pick-up bar is a short bar.

    Args:
        metres: (tick, numerator, denominator), in order; 4/4 before the first.
        ticks_per_beat: ticks of a quarter note.
    """

    def __init__(self, metres: list[tuple[int, int, int]], ticks_per_beat: int) -> None:
        self.ticks_per_beat = ticks_per_beat
        self.segments: list[tuple[int, int, int, int]] = []  # start tick, first bar, numerator, denominator
        for tick, numerator, denominator in [(0, 4, 4), *metres]:
            if self.segments and self.segments[-1][0] == tick:
                self.segments.pop()
            first_bar = self._bar_in_last_segment(tick - 1) + 1 if self.segments else 0
            self.segments.append((tick, first_bar, numerator, denominator))
        self._ticks = [segment[0] for segment in self.segments]
        self._first_bars = [segment[1] for segment in self.segments]

    @property
    def is_steady(self) -> bool:
        """Whether there is one metre throughout."""
        return len({(numerator, denominator) for _, _, numerator, denominator in self.segments}) == 1

    def _bar_in_last_segment(self, tick: int) -> int:
        start, first_bar, numerator, denominator = self.segments[-1]
        return first_bar + (tick - start) * denominator // (4 * numerator * self.ticks_per_beat)

    def index(self, tick: float) -> int:
        """The bar that holds a tick."""
        segment = bisect_right(self._ticks, tick) - 1
        start, first_bar, numerator, denominator = self.segments[segment]
        bar = first_bar + int((tick - start) * denominator // (4 * numerator * self.ticks_per_beat))
        # A fractional bar length puts the rounded bar line up to half a tick off the exact one.
        if tick >= self.start(bar + 1):
            return bar + 1
        return bar - 1 if bar > first_bar and tick < self.start(bar) else bar

    def start(self, bar: int) -> int:
        """The tick at which a bar begins."""
        segment = bisect_right(self._first_bars, bar) - 1
        start, first_bar, numerator, denominator = self.segments[segment]
        return start + round((bar - first_bar) * 4 * numerator * self.ticks_per_beat / denominator)

    def stretch(self, bar: int) -> tuple[int, int | None]:
        """First bar of the stretch in one metre that holds a bar, and the first one after it, if there is any."""
        segment = bisect_right(self._first_bars, bar) - 1
        after = self._first_bars[segment + 1] if segment + 1 < len(self._first_bars) else None
        return self._first_bars[segment], after

    def metre(self, bar: int) -> tuple[int, int]:
        """Numerator and denominator in force in a bar."""
        return self.segments[bisect_right(self._first_bars, bar) - 1][2:]


class TempoMap:
    """Ticks to seconds and back.

    Args:
        tempos: (tick, microseconds per quarter), in order; 120 beats a minute before the first.
        ticks_per_beat: ticks of a quarter note.
    """

    def __init__(self, tempos: list[tuple[int, int]], ticks_per_beat: int) -> None:
        self._points: list[tuple[int, float, float]] = []  # tick, seconds there, seconds per tick from there
        for tick, tempo in [(0, DEFAULT_TEMPO), *tempos]:
            seconds = self._extrapolate(self._points[-1], tick) if self._points else 0.0
            if self._points and self._points[-1][0] == tick:
                self._points.pop()
            self._points.append((tick, seconds, tempo * 1e-6 / ticks_per_beat))
        self._ticks = [point[0] for point in self._points]
        self._seconds = [point[1] for point in self._points]

    @property
    def is_steady(self) -> bool:
        """Whether there is one tempo throughout."""
        return len({per_tick for *_, per_tick in self._points}) == 1

    @staticmethod
    def _extrapolate(point: tuple[int, float, float], tick: float) -> float:
        return point[1] + (tick - point[0]) * point[2]

    def seconds(self, tick: float) -> float:
        """Time of a tick from the start."""
        return self._extrapolate(self._points[bisect_right(self._ticks, tick) - 1], tick)

    def tick(self, seconds: float) -> int:
        """The last tick that is not after a time."""
        tick, start, per_tick = self._points[bisect_right(self._seconds, seconds) - 1]
        return tick + math.floor((seconds - start) / per_tick + 1e-6)
