"""Beats and bars of music that was played without a click.

A pianist who presses record in a sequencer leaves notes in seconds: the file's bars are those of a metronome that
nobody listened to. Here they are found in what was played, by a metrical hidden Markov model: a state is a place in the
bar and a tempo, an onset is reached from the one before by a number of twelfths of a beat that is usual from that
place, in about the time that the tempo gives them, and the tempo drifts. The likeliest path (Viterbi) through one such
model for each metre is compared, and the best one taken. What is usual is counted in scores, of OpenScore Lieder (CC0),
by benchmarks/fit_beats.py.

Sources: Raphael, "A hybrid graphical model for rhythmic parsing" (2002), for place and tempo; Nakamura, Yoshii and
Sagayama, "Rhythm transcription of polyphonic piano music" (arXiv:1701.08343), for counting places in scores. Here notes
struck together are one onset, which also tells by its size and depth where in the bar it stands, and tempo is a grid of
values rather than a Gaussian.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np

from adaptgen.domains.music.grid import STEPS_PER_BEAT

__all__ = ["METRES", "MOVES", "NUM_KINDS", "TEMPI", "TOGETHER_SECONDS", "Beats", "Metre", "Onsets", "find_beats"]


@dataclass(frozen=True)
class Metre:
    """A metre that music may be in; `beat_quarters` is the length of a beat, of twelve steps as every one."""

    numerator: int
    denominator: int
    num_beats: int
    beat_quarters: float
    usual_seconds: float
    """Of a beat."""

    @property
    def num_steps(self) -> int:
        return self.num_beats * STEPS_PER_BEAT

    @property
    def name(self) -> str:
        return f"{self.numerator}/{self.denominator}"


METRES = (
    Metre(4, 4, 4, 1.0, 0.6),
    Metre(3, 4, 3, 1.0, 0.6),
    Metre(2, 4, 2, 1.0, 0.6),
    Metre(6, 8, 2, 1.5, 0.75),
)
MOVES = np.array(
    [*range(11), 12, 14, 15, 16, 18, 20, 21, 24, 27, 28, 30, 32, 33, 36, 42, 44, 45, 48, 60, 72, 96]
)  # fmt: skip
"""From one onset to the next, in steps."""
TOGETHER_SECONDS, SPREAD_SECONDS = 0.03, 0.06
"""Notes that follow each other within the first, and all lie within the second, are struck together."""
NEIGHBOURS, LOW_SEMITONES = 8, 4
"""An onset is low if its lowest note lies so far below the mean of those of so many onsets to either side."""
NUM_SIZES = 3
HARMONY_ONSETS = 6
"""Harmony changes at an onset as far as the pitch classes of so many before it differ from those of as many from it on,
compared with the change at the onsets around, of which `CHANGE_NEIGHBOURS` to either side count."""
CHANGE_NEIGHBOURS = 4
CHANGE_LEVELS = (0.0, 0.1)
NUM_KINDS = 2 * NUM_SIZES * (len(CHANGE_LEVELS) + 1)

TEMPI = np.exp(np.arange(np.log(0.25), np.log(1.6), 0.05))
"""Seconds a beat."""
USUAL_TEMPO_SPREAD = 0.45
DRIFT_PER_ROOT_SECOND = 0.064
"""Standard deviation of the logarithm of the tempo after a second."""
MOST_DRIFT = 3
"""Steps of the tempo grid from one onset to the next."""
ONSET_SECONDS, MOVE_SHARE = 0.017, 0.07
"""Standard deviation of a move's length: what does not depend on it, and a share of it."""
ORNAMENT_SHARE, ORNAMENT_SECONDS = 0.03, 0.04
"""How often an onset is no step after the one before, which belongs to it, and within which time."""
LEAST_LIKELY = 1e-4
"""Of a move of any length; in probability per second."""
KIND_WEIGHT = 0.7
"""Exponent of what the kind of an onset tells, which is not independent of what the moves and other kinds do."""
PRIOR_MOVES, PRIOR_KINDS = 300, 20
"""So many counts are spread over all moves as if they did not depend on the place, and over all kinds."""
ONSETS_FOR_METRE, MOST_ONSETS = 400, 10_000
"""The metre is decided on so many of the last onsets; beats are followed back over so many."""


class Onsets(NamedTuple):
    """What is struck together, in order.

    Attributes:
        seconds: `[N]`, ascending.
        kinds: `[N]`, less than `NUM_KINDS`: how many notes, whether they are low, and whether harmony changes.
    """

    seconds: np.ndarray
    kinds: np.ndarray

    @classmethod
    def of(cls, notes: Sequence[tuple[float, int]]) -> Onsets:
        """From seconds and pitches of notes, at least one, in order."""
        groups: list[list[tuple[float, int]]] = []
        for note in notes:
            begins = not groups or note[0] - groups[-1][-1][0] >= TOGETHER_SECONDS
            if begins or note[0] - groups[-1][0][0] >= SPREAD_SECONDS:
                groups.append([])
            groups[-1].append(note)
        seconds = np.array([np.mean([start for start, _ in group]) for group in groups])
        lowest = np.array([min(pitch for _, pitch in group) for group in groups], dtype=float)
        is_low = lowest < _mean_around(lowest, NEIGHBOURS) - LOW_SEMITONES
        sizes = np.minimum([len(group) for group in groups], NUM_SIZES) - 1
        changes = _harmony_changes(groups)
        levels = np.digitize(changes - _mean_around(changes, CHANGE_NEIGHBOURS), CHANGE_LEVELS)
        return cls(seconds, sizes + NUM_SIZES * (is_low + 2 * levels))


def _mean_around(values: np.ndarray, reach: int) -> np.ndarray:
    """The mean of each value and so many to either side; beyond the ends they go on as they are there."""
    return np.convolve(np.pad(values, reach, mode="edge"), np.full(2 * reach + 1, 1 / (2 * reach + 1)), "valid")


def _harmony_changes(groups: Sequence[Sequence[tuple[float, int]]]) -> np.ndarray:
    """For each onset one less the cosine between pitch classes before it and from it on; zero for the first."""
    classes = np.zeros((len(groups), 12))
    for index, group in enumerate(groups):
        classes[index, [pitch % 12 for _, pitch in group]] = 1
    heard = np.concatenate([np.zeros((1, 12)), classes.cumsum(0)])
    indices = np.arange(len(groups))
    before = heard[indices] - heard[np.maximum(indices - HARMONY_ONSETS, 0)]
    after = heard[np.minimum(indices + HARMONY_ONSETS, len(groups))] - heard[indices]
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return np.where(lengths > 0, 1 - (before * after).sum(1) / np.maximum(lengths, 1), 0.0)


@dataclass(frozen=True)
class Beats:
    """Where the beats of a recording are.

    Attributes:
        metre: its metre.
        seconds: `[B]` of each beat, ascending, at least two.
        first: which beat of its bar the first one is, from 0.
    """

    metre: Metre
    seconds: np.ndarray
    first: int


def find_beats(onsets: Onsets, metre: Metre | None = None) -> Beats | None:
    """The likeliest beats of a recording, in its likeliest metre if none is given; None if it is shorter than two."""
    recent = Onsets(*(values[-ONSETS_FOR_METRE:] for values in onsets))
    paths = {each: _follow(recent, each) for each in ([metre] if metre else METRES)}
    metre = max(paths, key=lambda each: paths[each][0])
    onsets = Onsets(*(values[-MOST_ONSETS:] for values in onsets))
    is_decided = len(recent.seconds) == len(onsets.seconds)
    _, places = paths[metre] if is_decided else _follow(onsets, metre)
    steps, which = np.unique(places, return_inverse=True)
    seconds = np.bincount(which, weights=onsets.seconds) / np.bincount(which)
    beats = np.arange(-(-steps[0] // STEPS_PER_BEAT), steps[-1] // STEPS_PER_BEAT + 1)
    if len(beats) < 2:
        return None
    return Beats(metre, np.interp(beats * STEPS_PER_BEAT, steps, seconds), int(beats[0]) % metre.num_beats)


class _Tables(NamedTuple):
    """Logarithms of probabilities for one metre.

    Attributes:
        places: `[P]` of each place in the bar.
        moves: `[P, M]` of each move to a place, by where it ends.
        origins: `[P, M]` the place where such a move begins.
        kinds: `[P, NUM_KINDS]` of each kind of onset at a place, over that anywhere.
        prior: of the metre.
    """

    places: np.ndarray
    moves: np.ndarray
    origins: np.ndarray
    kinds: np.ndarray
    prior: float


@cache
def _tables() -> dict[Metre, _Tables]:
    counted = json.loads(resources.files("adaptgen.domains.music").joinpath("metres.json").read_text("utf-8"))["counts"]
    total = sum(np.sum(counted[metre.name]["moves"]) for metre in METRES)
    return {metre: _tables_of(metre, counted[metre.name], total) for metre in METRES}


def _tables_of(metre: Metre, counts: dict[str, list[list[int]]], total: float) -> _Tables:
    moves, kinds = np.array(counts["moves"], dtype=float), np.array(counts["kinds"], dtype=float)
    places = (moves.sum(1) + 0.5) / (moves.sum(1) + 0.5).sum()
    ends = (np.arange(metre.num_steps)[:, None] + MOVES) % metre.num_steps
    usual = places[ends] * (moves.sum(0) + 1)
    usual[:, 0] = 0
    usual *= PRIOR_MOVES / usual.sum(1, keepdims=True)
    share = (moves + usual) / (moves.sum(1, keepdims=True) + PRIOR_MOVES)
    forward = np.log(share * (1 - ORNAMENT_SHARE) + 1e-7)
    forward[:, 0] = np.log(ORNAMENT_SHARE)
    origins = (np.arange(metre.num_steps)[:, None] - MOVES) % metre.num_steps
    anywhere = kinds.sum(0) / kinds.sum()
    of_place = kinds + PRIOR_KINDS * anywhere
    return _Tables(
        np.log(places),
        np.take_along_axis(forward, origins, axis=0),
        origins,
        KIND_WEIGHT * np.log(of_place / of_place.sum(1, keepdims=True) / anywhere),
        float(np.log(moves.sum() / total)),
    )


def _follow(onsets: Onsets, metre: Metre) -> tuple[float, np.ndarray]:
    """Log-likelihood of the likeliest path, and its steps `[N]` from a bar line."""
    tables, num_tempi = _tables()[metre], len(TEMPI)
    off_usual = (np.log(TEMPI) - np.log(metre.usual_seconds)) / USUAL_TEMPO_SPREAD
    best = (tables.places + tables.kinds[:, onsets.kinds[0]])[:, None] - 0.5 * off_usual**2
    lengths = MOVES[:, None] * TEMPI / STEPS_PER_BEAT
    deviations = np.sqrt(ONSET_SECONDS**2 + (MOVE_SHARE * lengths) ** 2)
    drifts = np.arange(-MOST_DRIFT, MOST_DRIFT + 1)
    padded = np.full((metre.num_steps, num_tempi + 2 * MOST_DRIFT), -np.inf)
    moves_taken = np.zeros((len(onsets.seconds), metre.num_steps, num_tempi), dtype=np.int8)
    drifts_taken = np.zeros_like(moves_taken)
    score = 0.0
    for index, passed in enumerate(np.diff(onsets.seconds), start=1):
        spread = DRIFT_PER_ROOT_SECOND * np.sqrt(max(passed, 0.05)) / np.log(TEMPI[1] / TEMPI[0])
        padded[:, MOST_DRIFT:-MOST_DRIFT] = best
        drifted = np.stack([padded[:, first : first + num_tempi] for first in range(len(drifts))])
        drifted -= (0.5 * (drifts / spread) ** 2)[:, None, None]
        drifts_taken[index] = drifted.argmax(0)
        drifted = drifted.max(0)
        fit = -0.5 * ((passed - lengths) / deviations) ** 2 - np.log(deviations)
        fit = np.logaddexp(fit, np.log(LEAST_LIKELY))
        fit[0] = -0.5 * (passed / ORNAMENT_SECONDS) ** 2 - np.log(ORNAMENT_SECONDS)
        possible = np.flatnonzero(fit.max(1) > np.log(LEAST_LIKELY) + 0.5)
        if len(possible) < 3:
            possible = np.arange(len(MOVES))
        reached = drifted[tables.origins[:, possible]] + tables.moves[:, possible, None] + fit[possible]
        moves_taken[index] = possible[reached.argmax(1)]
        best = reached.max(1) + tables.kinds[:, onsets.kinds[index], None]
        score += best.max()
        best -= best.max()
    place, tempo = np.unravel_index(best.argmax(), best.shape)
    steps = np.zeros(len(onsets.seconds), dtype=np.int64)
    for index in range(len(steps) - 1, 0, -1):
        steps[index] = MOVES[moves_taken[index, place, tempo]]
        place = (place - steps[index]) % metre.num_steps
        tempo += drifts[drifts_taken[index, place, tempo]]
    steps[0] = place
    return score + tables.prior, np.cumsum(steps)
