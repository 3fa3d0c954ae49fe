"""Musical measures on excerpts so small that every value can be worked out by hand."""

from __future__ import annotations

import math
from io import BytesIO

import mido
import musical_metrics as metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from musical_metrics import (
    FEATURES,
    Excerpt,
    bars_in_four_beats,
    compare,
    cut_excerpt,
    longest_repetition,
    overlapping_area,
)

from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import Song, parse_song

TICKS = 120
BEAT = 12  # steps
BAR = 4 * BEAT
PIANO, DRUMS = 0, 1


def excerpt(*bars: list[tuple[int, ...]]) -> Excerpt:
    """Bars of (position, pitch, duration[, part]); part 1 is drums."""
    rows = [sorted((*note, PIANO)[:4] for note in bar) for bar in bars]
    return Excerpt(
        bars=tuple(np.array(row, dtype=np.int64).reshape(-1, 4) for row in rows),
        num_steps=(BAR,) * len(bars),
        drum_parts=frozenset({DRUMS}),
    )


def song(notes: list[tuple[float, int, float]], *, metre: tuple[int, int] = (4, 4), channel: int = 0) -> Song:
    """A song of (start, pitch, length), in beats."""
    events = []
    for start, pitch, length in notes:
        on = mido.Message("note_on", note=pitch, velocity=80, channel=channel)
        events.append((round(start * TICKS), on))
        off = mido.Message("note_off", note=pitch, channel=channel)
        events.append((round((start + length) * TICKS), off))
    track, now = mido.MidiTrack(), 0
    track.append(mido.MetaMessage("time_signature", numerator=metre[0], denominator=metre[1]))
    for tick, message in sorted(events, key=lambda event: (event[0], event[1].type)):
        track.append(message.copy(time=tick - now))
        now = tick
    file = BytesIO()
    mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(file=file)
    return parse_song(file.getvalue(), name="test")


class TestCutExcerpt:
    def test_notes_are_counted_from_their_bar(self) -> None:
        piece = song([(0, 60, 1), (4, 62, 0.5), (6.5, 64, 1), (8, 65, 1)])
        cut = cut_excerpt(piece, Grid(piece.bars), first_bar=1, num_bars=2)
        assert [bar.tolist() for bar in cut.bars] == [
            [[0, 62, BEAT // 2, 0], [30, 64, BEAT, 0]],
            [[0, 65, BEAT, 0]],
        ]
        assert cut.num_steps == (BAR, BAR)
        assert cut.drum_parts == frozenset()

    def test_beats_declared_as_bars_are_grouped(self) -> None:
        """What says 1/4 and is cut in groups of four is what 4/4 would be."""
        notes = [(0.5, 60, 1), (3, 62, 2), (4, 64, 1), (7.25, 65, 0.25)]
        declared, true = song(notes, metre=(1, 4)), song(notes)
        grouped = cut_excerpt(declared, Grid(declared.bars), first_bar=0, num_bars=2, group=4)
        plain = cut_excerpt(true, Grid(true.bars), first_bar=0, num_bars=2)
        assert grouped.num_steps == plain.num_steps
        for one, two in zip(grouped.bars, plain.bars, strict=True):
            assert one.tolist() == two.tolist()

    def test_a_note_ends_with_the_excerpt(self) -> None:
        piece = song([(3, 60, 4), (2, 62, 1)])
        cut = cut_excerpt(piece, Grid(piece.bars), first_bar=0, num_bars=1)
        assert cut.bars[0].tolist() == [[24, 62, 12, 0], [36, 60, 12, 0]]
        longer = cut_excerpt(piece, Grid(piece.bars), first_bar=0, num_bars=2)
        assert longer.bars[0][1].tolist() == [36, 60, 48, 0]

    def test_bars_past_the_end_are_silent(self) -> None:
        piece = song([(0, 60, 1)])
        cut = cut_excerpt(piece, Grid(piece.bars), first_bar=1, num_bars=2)
        assert [len(bar) for bar in cut.bars] == [0, 0]

    def test_drums_are_known(self) -> None:
        piece = song([(0, 36, 1)], channel=9)
        assert cut_excerpt(piece, Grid(piece.bars), first_bar=0, num_bars=1).drum_parts == {0}

    @pytest.mark.parametrize(
        ("metre", "bars"),
        [
            ((1, 4), 4),
            ((2, 4), 2),
            ((4, 4), 1),
            ((3, 4), 1),
            ((6, 8), 1),
            ((2, 2), 1),
            ((5, 4), 1),
            ((4, 8), 2),
        ],
    )
    def test_bars_in_four_beats(self, metre: tuple[int, int], bars: int) -> None:
        assert bars_in_four_beats(metre) == bars


class TestFeatures:
    EXAMPLE = excerpt(
        [(0, 60, 12), (0, 64, 24), (24, 72, 24), (0, 36, 1, DRUMS)],
        [(12, 59, 12)],
    )

    def test_pitch_classes(self) -> None:
        assert sorted(metrics.pitch_classes(self.EXAMPLE)) == [0, 0, 4, 11]

    def test_note_density_counts_drums(self) -> None:
        assert metrics.note_density(self.EXAMPLE).tolist() == [4, 1]

    def test_polyphony(self) -> None:
        """First beat two notes, then three beats with one; then a beat of rest, one with a note, two of rest."""
        expected = [2] * 12 + [1] * 36 + [0] * 12 + [1] * 12 + [0] * 24
        assert metrics.polyphony(self.EXAMPLE).tolist() == expected

    def test_polyphony_counts_a_pitch_once(self) -> None:
        doubled = excerpt([(0, 60, 48), (0, 60, 12, 2)])
        assert metrics.polyphony(doubled).tolist() == [1] * 48

    def test_durations(self) -> None:
        assert sorted(metrics.durations(self.EXAMPLE)) == [12, 12, 24, 24]

    def test_onsets(self) -> None:
        assert sorted(metrics.onsets(self.EXAMPLE)) == [0, 0, 0, 12, 24]

    def test_self_similarity(self) -> None:
        """Bars A, A louder and longer, half of A with one note more, silence, silence."""
        bars = excerpt([(0, 60, 12), (12, 62, 12)], [(0, 60, 24), (12, 62, 1)], [(0, 60, 1), (24, 62, 1)], [], [])
        third = 1 / 3
        expected = [1, third, 0, 0, third, 0, 0, 0, 0, 1]
        assert metrics.self_similarity(bars).tolist() == pytest.approx(expected)


def test_overlap_of_discrete_values_is_the_shared_share() -> None:
    assert overlapping_area(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])) == pytest.approx(0.5)
    assert overlapping_area(np.array([5]), np.array([5, 5, 5])) == 1.0
    assert overlapping_area(np.array([5]), np.array([6])) == 0.0


def test_overlap_of_two_gaussians() -> None:
    """Kernels of equal width s, d apart, share 2 Phi(-d / 2s)."""
    for distance in (0.0, 0.5, 2.0, 7.0):
        expected = math.erfc(distance / 2 / math.sqrt(2))
        area = overlapping_area(np.array([3.0]), np.array([3.0 + distance]), bandwidth=1.0)
        assert area == pytest.approx(expected, abs=1e-3)


def test_overlap_is_scale_free() -> None:
    first, second = np.array([1.0, 4.0, 9.0, 9.0]), np.array([2.0, 8.0, 12.0])
    assert overlapping_area(first, second, bandwidth=1e-6) == pytest.approx(
        overlapping_area(10 * first, 10 * second, bandwidth=1e-6), abs=1e-6
    )


def test_overlap_with_nothing() -> None:
    nothing, something = np.array([]), np.array([1.0])
    for bandwidth in (0.0, 1.0):
        assert overlapping_area(nothing, nothing, bandwidth=bandwidth) == 1.0
        assert overlapping_area(nothing, something, bandwidth=bandwidth) == 0.0
        assert overlapping_area(something, nothing, bandwidth=bandwidth) == 0.0


notes_of_a_bar = st.lists(
    st.tuples(st.integers(0, BAR - 1), st.integers(21, 108), st.integers(1, 48), st.integers(0, 1)),
    max_size=6,
)
excerpts = st.lists(notes_of_a_bar, min_size=1, max_size=6).map(lambda bars: excerpt(*bars))


class TestCompare:
    @settings(max_examples=60, deadline=None)
    @given(first=excerpts, second=excerpts)
    def test_is_symmetric_and_between_nothing_and_all(self, first: Excerpt, second: Excerpt) -> None:
        areas, back = compare(first, second), compare(second, first)
        assert set(areas) == {*FEATURES, "mean"}
        for name, area in areas.items():
            assert -1e-9 <= area <= 1 + 1e-3, name
            assert area == pytest.approx(back[name], abs=2e-3)
        assert areas["mean"] == pytest.approx(np.mean([areas[name] for name in FEATURES]))

    @settings(max_examples=30, deadline=None)
    @given(same=excerpts)
    def test_an_excerpt_is_like_itself(self, same: Excerpt) -> None:
        assert all(area == pytest.approx(1.0, abs=1e-3) for area in compare(same, same).values())

    def test_a_transposed_excerpt_differs_in_pitch_class_alone(self) -> None:
        bars = [[(0, 60, 12), (12, 64, 12), (24, 67, 24)], [(0, 60, 24), (24, 64, 24)]]
        moved = [[(position, pitch + 1, duration) for position, pitch, duration in bar] for bar in bars]
        areas = compare(excerpt(*bars), excerpt(*moved))
        assert areas.pop("pitch_class") == 0.0
        areas.pop("mean")
        assert all(area == pytest.approx(1.0, abs=1e-3) for area in areas.values())


class TestLongestRepetition:
    A, B = [(0, 60, 12), (24, 64, 12)], [(0, 62, 48)]

    @pytest.mark.parametrize(
        ("form", "longest"),
        [("A", 1), ("AB", 1), ("ABAB", 1), ("AABBBA", 3), ("AAAAA", 5), ("A--B", 2), ("----", 4)],
    )
    def test_counts_bars(self, form: str, longest: int) -> None:
        bars = {"A": self.A, "B": self.B, "-": []}
        assert longest_repetition(excerpt(*(bars[letter] for letter in form))) == longest

    @pytest.mark.parametrize("other", [(3, 64, 12), (24, 65, 12), (24, 64, 6), (24, 64, 12, 2)])
    def test_position_pitch_duration_and_part_count(self, other: tuple[int, ...]) -> None:
        assert longest_repetition(excerpt(self.A, [self.A[0], other])) == 1

    def test_no_bars(self) -> None:
        assert longest_repetition(excerpt()) == 0
