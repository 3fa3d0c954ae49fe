"""Ticks to steps and back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptgen.domains.music.grid import CELL_STEPS, DURATIONS, Grid, GridNote, estimate_phase, snap_duration
from adaptgen.domains.music.song import Note
from adaptgen.domains.music.timing import BarLines

TICKS_PER_BEAT = 480
STEP = TICKS_PER_BEAT // 12
METRES = st.sampled_from([(4, 4), (3, 4), (7, 8), (5, 16), (3, 32), (1, 4), (12, 8), (32, 4), (4, 1), (1, 64)])


def steady(beats: int, *, delay: int = 0, every: int = TICKS_PER_BEAT // 4) -> list[int]:
    return [index * every + TICKS_PER_BEAT + delay for index in range(beats)]


@pytest.mark.parametrize("delay", [-55, -30, -6, 6, 30, 55])
@pytest.mark.parametrize("metres", [[], [(0, 7, 8)], [(0, 1, 4), (480, 3, 4)]])
def test_a_constant_delay_is_found(delay: int, metres: list[tuple[int, int, int]]) -> None:
    phase = estimate_phase(steady(64, delay=delay), BarLines(metres, TICKS_PER_BEAT))
    assert phase * TICKS_PER_BEAT == pytest.approx(delay, abs=0.5)


@pytest.mark.parametrize("every", [STEP * 3, STEP * 4, STEP * 2, STEP])
def test_quantised_music_is_not_shifted(every: int) -> None:
    assert estimate_phase(steady(64, every=every), BarLines([], TICKS_PER_BEAT)) == 0


def test_few_notes_and_notes_on_no_grid_are_not_shifted() -> None:
    bars = BarLines([], TICKS_PER_BEAT)
    assert estimate_phase(steady(15, delay=30), bars) == 0
    assert estimate_phase([index * 331 + index * index % 97 for index in range(200)], bars) == 0


@given(st.floats(0, 400), st.one_of(st.none(), st.integers(0, 300)))
def test_a_duration_snaps_to_the_nearest_that_is_not_too_long(steps: float, longest: int | None) -> None:
    snapped = snap_duration(steps) if longest is None else snap_duration(steps, longest=longest)
    candidates = [value for value in DURATIONS if longest is None or value <= max(1, longest)]
    assert snapped in candidates
    assert abs(snapped - steps) == min(abs(value - steps) for value in candidates)


@given(
    st.lists(st.tuples(st.integers(0, 30), METRES), max_size=4), st.integers(0, 6), st.integers(1, 30), st.integers()
)
@settings(deadline=None)
def test_cells_cover_every_step_of_every_bar_once(
    changes: list[tuple[int, tuple[int, int]]], first_bar: int, num_bars: int, anchor: int
) -> None:
    metres = [(beat * TICKS_PER_BEAT, *metre) for beat, metre in sorted(changes)]
    grid = Grid(BarLines(metres, TICKS_PER_BEAT), anchor=first_bar + anchor % 8)
    cells = grid.layout(first_bar, first_bar + num_bars)
    assert all(1 <= cell.num_steps <= CELL_STEPS for cell in cells)
    steps_of = Counter()
    for cell in cells:
        steps_of[cell.first_bar, cell.num_bars] += cell.num_steps
        assert cell.num_bars == 1 or {grid.bars.metre(cell.first_bar + n) for n in range(cell.num_bars)} == {(1, 4)}
    covered = [first + index for first, count in steps_of for index in range(count)]
    assert covered == list(range(covered[0], covered[0] + len(covered)))
    assert covered[0] <= first_bar
    assert covered[-1] >= first_bar + num_bars - 1
    for (first, count), steps in steps_of.items():
        assert steps == sum(grid.num_steps(bar) for bar in range(first, first + count))


def test_one_beat_bars_are_grouped_by_four_from_the_anchor() -> None:
    grid = Grid(BarLines([(0, 1, 4)], TICKS_PER_BEAT), anchor=6)
    assert [(cell.first_bar, cell.num_bars) for cell in grid.layout(2, 12)] == [(2, 4), (6, 4), (10, 4)]
    assert [(cell.first_bar, cell.num_bars) for cell in grid.layout(0, 3)] == [(0, 2), (2, 4)]


@given(METRES, st.integers(0, 100_000), st.integers(-60, 60))
@settings(deadline=None)
def test_the_step_of_a_tick_is_nearest_to_it(metre: tuple[int, int], tick: int, shift: int) -> None:
    grid = Grid(BarLines([(0, *metre)], TICKS_PER_BEAT), phase=shift / TICKS_PER_BEAT)
    bar, step = grid.place(tick)
    assert 0 <= step < grid.num_steps(bar)
    assert abs(grid.tick(bar, step) - tick) <= max(STEP / 2, abs(shift) if tick < abs(shift) else 0) + 1
    assert grid.place(grid.tick(bar, step)) == (bar, step)


def test_a_note_ends_where_its_pitch_begins_again() -> None:
    grid = Grid(BarLines([], TICKS_PER_BEAT))
    notes = [Note(0, 2000, 60, 9), Note(480, 960, 60, 9), Note(0, 2000, 61, 9), Note(5, 100, 60, 7)]
    assert grid.quantize(notes) == [
        GridNote(0, 0, 12, 60, 9),
        GridNote(0, 0, 48, 61, 9),
        GridNote(0, 12, 12, 60, 9),
    ]
