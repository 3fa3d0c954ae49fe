"""Music that was played without a click, retimed as if there had been one.

Everything that reads music reads it in bars and beats. A file whose notes keep to no grid of its own is therefore given
another in which the beats of the player are even (`find_beats`), and a tempo map that makes it sound the same; what is
written for that is put back into the ticks of the file, which itself stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mido
import numpy as np

from adaptgen.domains.music.beats import TEMPI, TOGETHER_SECONDS, Beats, Metre, Onsets, find_beats
from adaptgen.domains.music.grid import STEPS_PER_BEAT
from adaptgen.domains.music.song import Song, interpret
from adaptgen.domains.music.splice import NewNote, PedalMove, cut, untimed
from adaptgen.domains.music.timing import timed

__all__ = ["Retimed", "keeps_no_grid", "retime"]

LEAST_ONSETS = 64
"""Of fewer it cannot be told whether they keep to a grid, nor where their beats are."""
WINDOW_ONSETS = 48
PARTS_OF_BEAT = (1, 2, 3, 4, 6, 8, 12)
"""Grids that onsets may keep to."""
LEAST_CONCENTRATION = 0.3
"""How closely onsets gather about the steps of a grid they keep to, in the middle of all windows. Recordings without a
click come to .2 or so, scores and songs with one to far more; benchmarks/beats_check.py counts who falls where."""
PACE_BEATS = 24
"""Music goes on in the median tempo of so many of the last intervals, which an end that slows down changes little."""
MOST_TICKS = 32_760
"""That a MIDI file can say a quarter has, in whole twelfths."""
SLOWEST_TEMPO = 2**24 - 1
"""Microseconds a quarter; a pause of a minute is shorter in the song with even beats."""


def keeps_no_grid(song: Song) -> bool:
    """Whether a file's bars say nothing about its notes: one tempo and one metre throughout, and all notes off them."""
    if not _says_nothing(song):
        return False
    ticks = np.unique([note.start for part in song.parts for note in part.notes])
    together = TOGETHER_SECONDS / song.tempo.seconds(1)
    beats = ticks[np.diff(ticks, prepend=-math.inf) > together] / song.ticks_per_beat
    if len(beats) < LEAST_ONSETS:
        return False
    windows = [
        beats[first : first + WINDOW_ONSETS] for first in range(0, len(beats) - WINDOW_ONSETS + 1, WINDOW_ONSETS)
    ]
    concentrations = [
        max(abs(np.exp(2j * np.pi * parts * window).mean()) for parts in PARTS_OF_BEAT) for window in windows
    ]
    return float(np.median(concentrations)) < LEAST_CONCENTRATION


def _says_nothing(song: Song) -> bool:
    """Whether a file has no more of time than a recorder writes by itself: one tempo and one metre; and no drums."""
    return song.tempo.is_steady and song.bars.is_steady and not any(part.is_drums for part in song.parts)


def retime(song: Song, metre: Metre | None = None) -> Retimed | None:
    """A song on the beats that are found in it.

    Args:
        song: any.
        metre: that it is said to be in; it is then not asked whether it keeps to beats of its own.

    Returns:
        None if it keeps to its own beats, none are found, or there are too few ticks to a beat.
    """
    per_tick = song.tempo.seconds(1)
    is_free = _says_nothing(song) if metre else keeps_no_grid(song)
    if TEMPI[0] / per_tick < 2 * STEPS_PER_BEAT or not is_free:
        return None
    notes = sorted((note.start * per_tick, note.pitch) for part in song.parts for note in part.notes)
    beats = find_beats(Onsets.of(notes), metre)
    return Retimed.of(song, beats) if beats is not None else None


@dataclass(frozen=True)
class Retimed:
    """A song and the same with even beats.

    Attributes:
        original: as its file has it.
        song: with even beats; its bars begin where those that were found do.
        beats: that were found.
    """

    original: Song
    song: Song
    beats: Beats
    _warp: _Warp

    @classmethod
    def of(cls, song: Song, beats: Beats) -> Retimed:
        """The song with these beats, of which there are at least two."""
        warp = _Warp.of(beats, seconds_per_tick=song.tempo.seconds(1))
        midi = mido.MidiFile(type=song.midi.type, ticks_per_beat=warp.ticks_per_beat, charset=song.midi.charset)
        for index, track in enumerate(song.midi.tracks):
            events = list(timed(track))
            ticks = warp.even_ticks(np.array([tick for tick, _ in events]))
            kept = [
                (int(tick), message)
                for tick, (_, message) in zip(ticks, events, strict=True)
                if message.type not in ("set_tempo", "time_signature", "end_of_track")
            ]
            if index == 0:
                kept = sorted([*warp.tempos_and_metre(), *kept], key=lambda event: event[0])
            midi.tracks.append(untimed(kept, end=int(ticks[-1]) if events else 0))
        return cls(song, interpret(midi, name="the song with even beats"), beats, warp)

    def line_tick(self, tick: int) -> int:
        """The first tick of the file that does not come before a tick of the song with even beats."""
        return self._warp.first_file_tick(tick)

    def even_tick(self, tick: int) -> int:
        """Where a tick of the file is in the song with even beats."""
        return int(self._warp.even_ticks(np.array(tick)))

    @property
    def quarters_per_minute(self) -> float:
        """The tempo that it goes on in."""
        warp = self._warp
        per_second = (warp.even[-1] - warp.even[-2]) / (warp.file[-1] - warp.file[-2]) / warp.seconds_per_tick
        return 60 * float(per_second) / warp.ticks_per_beat

    def cut(self, tick: int) -> Retimed:
        """Both up to a tick of the song with even beats, at which a beat begins."""
        shorter = interpret(cut(self.original.midi, self.line_tick(tick)), name="the song")
        num_beats = int(np.searchsorted(self._warp.even, tick, side="right")) - self._warp.num_points_before
        seconds = self.beats.seconds[: max(2, num_beats)]
        return Retimed.of(shorter, Beats(self.beats.metre, seconds, self.beats.first))

    def put_back(
        self, notes: Sequence[NewNote], pedal_moves: Sequence[PedalMove], *, stop: int
    ) -> tuple[list[NewNote], list[PedalMove]]:
        """New notes and pedal moves in ticks of the file, those of which are not equal that were not.

        Args:
            notes, pedal_moves: after the last beat that was found.
            stop: tick of the file that none goes beyond.
        """

        def back(tick: int) -> int:
            return min(stop, self._warp.first_file_tick(tick + 1) - 1)

        placed = [note._replace(start=back(note.start), end=back(note.end)) for note in notes]
        return placed, [move._replace(tick=back(move.tick)) for move in pedal_moves]


@dataclass(frozen=True)
class _Warp:
    """Ticks of a file to ticks of even beats, and back.

    Attributes:
        ticks_per_beat: of a quarter note of even beats.
        metre: numerator and denominator.
        file: ticks of the beats, of one behind the last, and of a bar line that is not after the file's start.
        even: the ticks of even beats that they stand at.
        num_points_before: how many of them come before the first beat.
        seconds_per_tick: of the file.
    """

    ticks_per_beat: int
    metre: tuple[int, int]
    file: np.ndarray
    even: np.ndarray
    num_points_before: int
    seconds_per_tick: float

    @classmethod
    def of(cls, beats: Beats, *, seconds_per_tick: float) -> _Warp:
        """Bars begin where those of the beats do, and there are as many before them as the file has room for."""
        ticks, metre = beats.seconds / seconds_per_tick, beats.metre
        # The first interval alone, so that bars keep their numbers when the end is cut.
        before, pace = ticks[1] - ticks[0], float(np.median(np.diff(ticks[-PACE_BEATS:])))
        # Behind the last beat a tick of the file is no longer than one of even beats, so that new notes stay apart.
        steps = max(1, min(MOST_TICKS, int(pace / metre.beat_quarters)) // STEPS_PER_BEAT)
        ticks_per_beat = steps * STEPS_PER_BEAT
        num_before = math.ceil(ticks[0] / before)
        num_bars = math.ceil(max(0, num_before - beats.first) / metre.num_beats)
        first = num_bars * metre.num_beats + beats.first
        points = [(first + index, tick) for index, tick in enumerate([*ticks, ticks[-1] + pace])]
        if first:
            points.insert(0, (0, ticks[0] - first * before))
        places, files = (np.array(values, dtype=float) for values in zip(*points, strict=True))
        beat_ticks = ticks_per_beat * metre.beat_quarters
        return cls(
            ticks_per_beat,
            (metre.numerator, metre.denominator),
            files,
            beat_ticks * places,
            1 if first else 0,
            seconds_per_tick,
        )

    def even_ticks(self, ticks: np.ndarray) -> np.ndarray:
        """Whole ticks of even beats of ticks of the file; the pace of the last two points goes on for ever."""
        even = np.interp(ticks, self.file, self.even)
        pace = (self.even[-1] - self.even[-2]) / (self.file[-1] - self.file[-2])
        even = np.where(ticks > self.file[-1], self.even[-1] + (ticks - self.file[-1]) * pace, even)
        return np.floor(even + 1e-6).astype(np.int64)

    def first_file_tick(self, tick: int) -> int:
        """The first tick of the file, from 0, whose even tick is not before this."""
        if tick > self.even[-1]:
            pace = (self.file[-1] - self.file[-2]) / (self.even[-1] - self.even[-2])
            nearest = self.file[-1] + (tick - self.even[-1]) * pace
        else:
            nearest = np.interp(tick, self.even, self.file)
        found = max(0, math.floor(nearest) - 1)
        while self.even_ticks(np.array(found)) < tick:
            found += 1
        return found

    def tempos_and_metre(self) -> list[tuple[int, mido.MetaMessage]]:
        """What makes even beats sound as those of the file. What lies before the file's start takes no time."""
        numerator, denominator = self.metre
        events: list[tuple[int, mido.MetaMessage]] = [
            (0, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
        ]
        start = int(self.even_ticks(np.array(0)))
        if start:
            events.append((0, mido.MetaMessage("set_tempo", tempo=1)))
        per_quarter = 1e6 * self.seconds_per_tick * self.ticks_per_beat
        tempos = np.clip(np.round(per_quarter * np.diff(self.file) / np.diff(self.even)), 1, SLOWEST_TEMPO)
        # Of two at the file's start the later one counts.
        tempo_at = {max(start, int(tick)): int(tempo) for tick, tempo in zip(self.even[:-1], tempos, strict=True)}
        return events + [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in tempo_at.items()]
