"""Parts keep playing as they did: none rests longer, none leaves its range."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from guarantees import Promise, check
from odd_files import build, drum_bars, melody, note, program
from players import STUBBORN_WISHES, stubborn_player

from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.corpus import grid_of
from adaptgen.domains.music.rests import RestHabit, Tune, find_habit, find_tune
from adaptgen.domains.music.song import parse_song
from adaptgen.sampling import Sampling

BEAT = 480
BAR = 4 * BEAT


def bars_with_notes(*bars: int) -> list:
    return [event for bar in bars for event in note(bar * BAR, BEAT, 60)]


@pytest.mark.parametrize(
    ("bars", "habit"),
    [
        ((0, 1, 2, 3), (0, 0)),
        ((0, 2, 3), (1, 0)),
        ((0, 3), (2, 0)),
        ((0, 2), (1, 1)),
        ((0,), (0, 3)),
        ((2, 3), (0, 0)),
    ],
)
def test_a_habit_is_the_longest_rest_and_the_one_at_the_end(bars: tuple[int, ...], habit: tuple[int, int]) -> None:
    song = parse_song(build(bars_with_notes(*bars)), name="bars")
    found = find_habit(song.parts, grid_of(song), join_bar=4)
    assert found == RestHabit(*habit, rings_until=bars[-1] * BAR + BEAT)


def test_a_held_note_is_no_rest_and_what_is_long_past_no_habit() -> None:
    song = parse_song(build(note(0, 3 * BAR, 60)), name="held")
    assert find_habit(song.parts, grid_of(song), join_bar=4) == RestHabit(0, 1, 3 * BAR)
    song = parse_song(build(bars_with_notes(0, 1)), name="past")
    assert find_habit(song.parts, grid_of(song), join_bar=40).longest is None


@pytest.mark.parametrize(("last_start", "so_far"), [(0, 0), (1, 0), (2, 0), (2.2, 0), (2.5, 1), (3, 1), (4, 2)])
def test_a_rest_while_the_last_chord_rings_is_no_habit(last_start: float, so_far: int) -> None:
    """Whoever does not strike it has rested up to it alone."""
    song = parse_song(build(bars_with_notes(0, 1)), name="bars")
    found = find_habit(song.parts, grid_of(song), join_bar=40, last_start=BAR * last_start)
    assert found == RestHabit(0, so_far, BAR + BEAT)


def players_by_bar(after: bytes, before: bytes, bars: int) -> list[set[int]]:
    outcome = check(before, after, Promise(bars=bars))
    lines = [outcome.join + BAR * bar for bar in range(bars)]
    return [{n.channel for n in outcome.notes if n.start < line + BAR and n.end > line} for line in lines]


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_who_always_played_plays_on_and_who_left_stays_away_if_the_model_likes(tmp_path: Path, wish: str) -> None:
    """Whatever the model says: two melodies and drums go on in every bar, and a part that plays every other bar
    plays in every other bar at least; one that has left is not called back."""
    every_other = [event for bar in (1, 3, 5, 7) for event in note(bar * BAR, BEAT, 70, channel=2)]
    left = note(0, BEAT, 65, channel=3)
    path = tmp_path / "four.mid"
    path.write_bytes(build(melody(32), melody(32, channel=1, low=40), every_other, left, drum_bars(8)))
    request = ContinuationRequest(bars=6, sound=False)
    (result,) = continue_file(
        path, stubborn_player(STUBBORN_WISHES[wish]), request, Sampling(temperature=0), is_adapting=False
    )
    playing = players_by_bar(result.files[".mid"], path.read_bytes(), 6)
    assert all({0, 1, 9} <= players for players in playing)
    assert all(2 in first | second for first, second in pairwise(playing))
    if wish == "leaves every bar at once":
        assert not any(3 in players for players in playing)


@pytest.mark.parametrize("held_bars", [1, 2, 24])
@pytest.mark.parametrize("is_hit_by_all", [True, False], ids=["hit by all", "hit by one"])
def test_who_played_up_to_a_last_chord_that_is_held_plays_on(
    tmp_path: Path, held_bars: int, is_hit_by_all: bool
) -> None:
    chord = [event for pitch in (48, 55, 64) for event in note(8 * BAR, held_bars * BAR, pitch)]
    hit = note(8 * BAR, BEAT, 40, channel=1) + note(8 * BAR, 60, 49, channel=9) if is_hit_by_all else []
    left = [event for bar in range(7) for event in note(bar * BAR, BEAT, 72, channel=2)]
    path = tmp_path / "held.mid"
    path.write_bytes(build(pianist(8) + chord, melody(32, channel=1, low=40), drum_bars(8), hit, left))
    request = ContinuationRequest(bars=3, sound=False)
    wish = STUBBORN_WISHES["leaves every bar at once"]
    (result,) = continue_file(path, stubborn_player(wish), request, Sampling(temperature=0), is_adapting=False)
    assert players_by_bar(result.files[".mid"], path.read_bytes(), 3) == [{0, 1, 9}] * 3


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_who_never_paused_misses_no_half_of_a_bar(tmp_path: Path, wish: str) -> None:
    """A hi-hat comes in again after a beat, a bass of eighths after two; chords that rest may rest on."""
    bass = [event for eighth in range(64) for event in note(eighth * BEAT // 2, BEAT // 2, 36 + eighth % 5)]
    chords = [
        event for bar in range(8) for pitch in (60, 64, 67) for event in note(bar * BAR, 2 * BEAT, pitch, channel=1)
    ]
    hats = [event for eighth in range(64) for event in note(eighth * BEAT // 2, 60, 42, channel=9)]
    path = tmp_path / "band.mid"
    path.write_bytes(build(bass, chords, hats))
    request = ContinuationRequest(bars=6, sound=False)
    (result,) = continue_file(
        path, stubborn_player(STUBBORN_WISHES[wish]), request, Sampling(), seed=0, is_adapting=False
    )
    outcome = check(path.read_bytes(), result.files[".mid"], Promise(bars=6))
    for channel, longest in ((0, 2 * BEAT), (9, BEAT)):
        until = outcome.join
        for new in sorted(n for n in outcome.notes if n.channel == channel):
            assert new.start - until <= longest + BEAT // 12
            until = max(until, new.end)
        assert outcome.stop - until <= longest + BEAT // 12


@pytest.mark.parametrize(
    ("instrument", "pitches", "lowest", "highest"),
    [(33, (28, 60), 23, 65), (33, (40,), 28, 52), (0, (24, 90), 21, 95), (73, (0, 127), 0, 127), (0, (5,), 21, 108)],
)
def test_a_part_stays_near_its_range(
    tmp_path: Path, instrument: int, pitches: tuple[int, ...], lowest: int, highest: int
) -> None:
    path = tmp_path / "range.mid"
    notes = [event for index, pitch in enumerate(pitches * 2) for event in note(index * BEAT, BEAT, pitch)]
    path.write_bytes(build(program(instrument) + notes))
    found = set()
    for wish in ("piles up low notes", "holds what is highest"):
        request = ContinuationRequest(bars=4, sound=False)
        (result,) = continue_file(
            path, stubborn_player(STUBBORN_WISHES[wish]), request, Sampling(temperature=0), is_adapting=False
        )
        found |= {n.pitch for n in check(path.read_bytes(), result.files[".mid"], Promise(bars=4)).notes}
    assert (min(found), max(found)) == (lowest, highest)


def pianist(bars: int) -> list:
    """A waltz for one track: chords below, and above them a tune that comes in on the second beat at the latest."""
    chords = [e for beat in range(4 * bars) for pitch in (48, 55) for e in note(beat * BEAT, BEAT // 2, pitch)]
    tune = [e for bar in range(bars) for e in note(bar * BAR + bar % 2 * BEAT, BEAT, 76 + bar % 5)]
    return chords + tune


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_a_pianist_goes_on_with_the_tune_whatever_the_model_says(tmp_path: Path, wish: str) -> None:
    path = tmp_path / "piano.mid"
    path.write_bytes(build(pianist(8)))
    request = ContinuationRequest(bars=6, sound=False)
    (result,) = continue_file(
        path, stubborn_player(STUBBORN_WISHES[wish]), request, Sampling(temperature=0), is_adapting=False
    )
    outcome = check(path.read_bytes(), result.files[".mid"], Promise(bars=6))
    for bar in range(6):
        line = outcome.join + BAR * bar
        assert any(
            n.pitch >= 77 - 7 and n.start <= line + BEAT and n.end > line and n.start > line - 4 * BAR
            for n in outcome.notes
        ), f"bar {bar + 1} has no tune by its second beat"


def test_a_tune_is_found_above_an_accompaniment_only() -> None:
    def tune_of(*tracks: list) -> Tune | None:
        song = parse_song(build(*tracks), name="song")
        return find_tune(song.parts[:1], grid_of(song), join_bar=8)

    found = tune_of(pianist(8))
    assert (found.lowest, found.latest_step, found.habit.longest) == (77 - 7, 12, 0)
    assert tune_of(melody(32)) is None
    chords = [event for pitch in (60, 64, 67) for beat in range(32) for event in note(beat * BEAT, BEAT, pitch)]
    assert tune_of(chords) is None
    assert tune_of(pianist(3)) is None
