"""How alike two excerpts are as music, and whether one is stuck.

Each feature of an excerpt is a distribution; two excerpts are compared by the overlapping area of the two, from 0
(nothing in common) to 1 (the same). The features are those of Yang & Lerch, "On the evaluation of generative
models in music", Neural Computing and Applications 32 (2020), section 3.1 (doi:10.1007/s00521-018-3849-7), and
the similarity of bars to each other is in the spirit of the grooving pattern similarity of Wu & Yang, "The Jazz
Transformer on the Front Line" (ISMIR 2020, arXiv:2008.01307, the MusDr measures), but looks at pitches as well.

Where this differs: Yang & Lerch compare sets of pieces by how their distances within and between sets overlap. Here
a continuation is compared with what its own song does at the same place, song by song, and then averaged. A
set of continuations that each go on as some other song would pass the former and fail the latter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np

from adaptgen.domains.music.grid import Grid, snap_duration
from adaptgen.domains.music.song import Song

__all__ = [
    "FEATURES",
    "Excerpt",
    "Feature",
    "bars_in_four_beats",
    "compare",
    "cut_excerpt",
    "longest_repetition",
    "overlapping_area",
]

POSITION, PITCH, DURATION, PART = range(4)
KERNEL_REACH = 4.0
"""Standard deviations beyond which a kernel is taken as zero."""
POINTS_PER_BANDWIDTH = 8


@dataclass(frozen=True)
class Excerpt:
    """Some bars of a song on the step grid.

    Attributes:
        bars: of each bar its notes, int64 `[n, 4]`: position in the bar in steps (twelfths of a quarter note),
            MIDI pitch, duration in steps, index of the part in the song; sorted, by position first.
        num_steps: length of each bar.
        drum_parts: which parts are drums.
    """

    bars: tuple[np.ndarray, ...]
    num_steps: tuple[int, ...]
    drum_parts: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert len(self.bars) == len(self.num_steps)

    @property
    def notes(self) -> np.ndarray:
        """All notes, `[n, 4]`."""
        return np.concatenate([np.zeros((0, 4), dtype=np.int64), *self.bars])

    def melodic(self, notes: np.ndarray) -> np.ndarray:
        """Those notes that have a pitch and a length, which drums have not."""
        return notes[~np.isin(notes[:, PART], list(self.drum_parts))]


def bars_in_four_beats(metre: tuple[int, int]) -> int:
    """How many bars of a metre, numerator and denominator, last four quarter notes.

    1 also where that is no whole number: such bars are left as they are. For files whose beats were counted as
    bars: what says 1/4 or 2/4 is mostly 4/4.
    """
    numerator, denominator = metre
    return denominator // numerator if denominator % numerator == 0 else 1


def cut_excerpt(song: Song, grid: Grid, *, first_bar: int, num_bars: int, group: int = 1) -> Excerpt:
    """Take bars out of a song.

    Notes are in the bar they begin in. One that rings beyond the excerpt ends with it, so that music that was
    written to end there can be compared with music that goes on.

    Args:
        song: what to cut from.
        grid: its steps, with the phase that its notes have.
        first_bar: the first bar as the file counts them, from 0.
        num_bars: how many bars the excerpt has.
        group: how many of the file's bars make one of the excerpt's.
    """
    lengths = [grid.num_steps(first_bar + index) for index in range(num_bars * group)]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows: list[list[tuple[int, int, int, int]]] = [[] for _ in range(num_bars)]
    for part, notes in enumerate(grid.quantize(part.notes) for part in song.parts):
        for bar, position, duration, pitch, _ in notes:
            if 0 <= bar - first_bar < len(lengths):
                start = int(starts[bar - first_bar]) + position
                left = int(starts[-1]) - start
                length = snap_duration(min(duration, left), longest=left)
                index = (bar - first_bar) // group
                rows[index].append((start - int(starts[index * group]), pitch, length, part))
    bar_starts = starts[::group]
    return Excerpt(
        bars=tuple(np.array(sorted(row), dtype=np.int64).reshape(-1, 4) for row in rows),
        num_steps=tuple(int(length) for length in np.diff(bar_starts)),
        drum_parts=frozenset(index for index, part in enumerate(song.parts) if part.is_drums),
    )


def pitch_classes(excerpt: Excerpt) -> np.ndarray:
    """Pitch class of every note, 0 to 11 (Yang & Lerch's PCH)."""
    return excerpt.melodic(excerpt.notes)[:, PITCH] % 12


def note_density(excerpt: Excerpt) -> np.ndarray:
    """Notes that begin in each bar (Yang & Lerch's note count, by bar), drums included."""
    return np.array([len(bar) for bar in excerpt.bars])


def polyphony(excerpt: Excerpt) -> np.ndarray:
    """Pitches that sound at each step, drums left out."""
    bar_starts = np.concatenate([[0], np.cumsum(excerpt.num_steps)])
    sounding = np.zeros((bar_starts[-1], 128), dtype=bool)
    for start, bar in zip(bar_starts, excerpt.bars, strict=False):
        for position, pitch, duration, _ in excerpt.melodic(bar):
            sounding[start + position : start + position + duration, pitch] = True
    return sounding.sum(axis=1)


def durations(excerpt: Excerpt) -> np.ndarray:
    """Note value of every note in steps (Yang & Lerch's NLH), drums left out."""
    return excerpt.melodic(excerpt.notes)[:, DURATION]


def onsets(excerpt: Excerpt) -> np.ndarray:
    """Step in its bar at which every note begins, drums included."""
    return excerpt.notes[:, POSITION]


def self_similarity(excerpt: Excerpt) -> np.ndarray:
    """How much every two bars have in common: notes in both by notes in either, from 0 to 1.

    A note is the same if pitch and position are (Jaccard index). Two silent bars are alike.
    """
    contents = [{(int(n[POSITION]), int(n[PITCH])) for n in bar} for bar in excerpt.bars]
    return np.array([len(one & two) / len(one | two) if one | two else 1.0 for one, two in combinations(contents, 2)])


@dataclass(frozen=True)
class Feature:
    """What is compared.

    Attributes:
        samples: values of an excerpt, whose distribution is the feature.
        bandwidth: 0 for values that are equal or are not; otherwise the least by which values are blurred.
    """

    samples: Callable[[Excerpt], np.ndarray]
    bandwidth: float = 0.0


FEATURES = {
    "pitch_class": Feature(pitch_classes),
    "note_density": Feature(note_density, bandwidth=1.0),
    "polyphony": Feature(polyphony),
    "duration": Feature(durations),
    "onset": Feature(onsets),
    "self_similarity": Feature(self_similarity, bandwidth=0.05),
}


def overlapping_area(first: np.ndarray, second: np.ndarray, *, bandwidth: float = 0.0) -> float:
    """Area under the lower of two densities, from 0 to 1 (Yang & Lerch, section 3.3).

    Args:
        first, second: samples. Two empty ones overlap fully, an empty and another one not at all.
        bandwidth: 0 compares shares of equal values. Otherwise densities are Gaussian kernel estimates with
            Scott's bandwidth, n^(-1/5) standard deviations, and this at least.
    """
    if not len(first) or not len(second):
        return float(len(first) == len(second))
    if not bandwidth:
        values, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        counts = [np.bincount(p, minlength=len(values)) for p in np.split(places, [len(first)])]
        return float(np.minimum(counts[0] / len(first), counts[1] / len(second)).sum())
    widths = [max(bandwidth, float(x.std()) * len(x) ** -0.2) for x in (first, second)]
    both, reach, step = np.concatenate([first, second]), KERNEL_REACH * max(widths), min(widths)
    points = np.arange(both.min() - reach, both.max() + reach, step / POINTS_PER_BANDWIDTH)
    densities = [_kernel_density(points, x, width) for x, width in zip((first, second), widths, strict=True)]
    return float(np.minimum(*densities).sum() * step / POINTS_PER_BANDWIDTH)


def _kernel_density(points: np.ndarray, samples: np.ndarray, width: float) -> np.ndarray:
    distances = (points[:, None] - samples[None, :]) / width
    return np.exp(-0.5 * distances**2).mean(axis=1) / (width * np.sqrt(2 * np.pi))


def compare(first: Excerpt, second: Excerpt) -> dict[str, float]:
    """Overlapping area of each of `FEATURES`, from 0 to 1, and their `mean`."""
    areas = {
        name: overlapping_area(feature.samples(first), feature.samples(second), bandwidth=feature.bandwidth)
        for name, feature in FEATURES.items()
    }
    return {**areas, "mean": float(np.mean(list(areas.values())))}


def longest_repetition(excerpt: Excerpt) -> int:
    """Length in bars of the longest run of bars with the same notes; 1 if no bar is like the one before it.

    Notes are the same if position, pitch, duration and part are, however loud. Silent bars are like each other.
    """
    contents = [bar.tobytes() for bar in excerpt.bars]
    return max((len(list(run)) for _, run in groupby(contents)), default=0)
