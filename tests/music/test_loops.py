"""Hand percussion that goes round in a loop keeps it, whatever the model wants."""

from __future__ import annotations

from pathlib import Path

import pytest
from guarantees import Promise, check
from odd_files import build, drum_bars, melody, note
from players import STUBBORN_WISHES, random_player, stubborn_player

from adaptgen.checkpoint import Checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.corpus import grid_of
from adaptgen.domains.music.loops import find_loops
from adaptgen.domains.music.song import parse_song
from adaptgen.sampling import Sampling

BAND = Path(__file__).parents[2] / "examples" / "band.mid"
BEAT, DRUMS = 480, 9
BAR = 4 * BEAT
SHAKER, TAMBOURINE, CONGA, HI_HAT = 70, 54, 63, 42


def struck(midi: bytes, key: int, *, first_bar: int, num_bars: int) -> list[list[int]]:
    """In each bar the twelfths of a beat at which a drum is struck."""
    song = parse_song(midi, name="song")
    grid = grid_of(song)
    found: list[list[int]] = [[] for _ in range(num_bars)]
    for start in sorted(n.start for part in song.parts if part.is_drums for n in part.notes if n.pitch == key):
        bar, step = grid.place(start)
        if first_bar <= bar < first_bar + num_bars:
            found[bar - first_bar].append(step)
    return found


def continued(midi: bytes, path: Path, *, bars: int, player: Checkpoint | None = None) -> bytes:
    path.write_bytes(midi)
    request = ContinuationRequest(bars=bars, sound=False)
    (result,) = continue_file(path, player or random_player(), request, Sampling(), seed=1, is_adapting=False)
    return result.files[".mid"]


def strikes(key: int, *beats: float, velocity: int = 80) -> list:
    return [event for beat in beats for event in note(round(beat * BEAT), 40, key, channel=DRUMS, velocity=velocity)]


def loops_of(events: list, *, join_bar: int = 8) -> dict[int, list[list[int]]]:
    song = parse_song(build([*drum_bars(8), *events]), name="song")
    notes = [n for part in song.parts if part.is_drums for n in part.notes]
    found = find_loops(notes, grid_of(song), join_bar=join_bar).strikes
    return {key: [sorted(cell) for cell in cells] for key, cells in found.items()}


def test_a_band_keeps_its_percussion(tmp_path: Path) -> None:
    before = BAND.read_bytes()
    after = continued(before, tmp_path / "band.mid", bars=12)
    for key in (54, 63, 64, 70):
        (loop,) = {tuple(bar) for bar in struck(before, key, first_bar=1, num_bars=7)}
        assert all(list(loop) == bar for bar in struck(after, key, first_bar=8, num_bars=12))


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_no_model_can_break_a_loop(tmp_path: Path, wish: str) -> None:
    events = [e for bar in range(8) for e in strikes(SHAKER, *(4 * bar + eighth / 2 for eighth in range(8)))]
    events += [e for bar in range(8) for e in strikes(CONGA, 4 * bar + 1.5)]
    before = build([*drum_bars(8), *melody(32), *events])
    after = continued(before, tmp_path / "loops.mid", bars=5, player=stubborn_player(STUBBORN_WISHES[wish]))
    assert check(before, after, Promise(bars=5)).notes
    for bar in struck(after, SHAKER, first_bar=8, num_bars=5):
        assert bar == [0, 6, 12, 18, 24, 30, 36, 42]
    assert all(bar == [18] for bar in struck(after, CONGA, first_bar=8, num_bars=5))


def test_a_loop_may_take_several_bars() -> None:
    two = [e for bar in range(8) for e in strikes(CONGA, 4 * bar + (1 if bar % 2 else 2.5))]
    assert loops_of(two) == {CONGA: [[30], [12]]}
    four = [e for bar in (3, 7) for e in strikes(TAMBOURINE, 4 * bar + 3)]
    assert loops_of(four) == {TAMBOURINE: [[], [], [], [36]]}


def test_a_loop_of_two_bars_goes_on_where_it_is(tmp_path: Path) -> None:
    events = [e for bar in range(8) for e in strikes(CONGA, 4 * bar + (1 if bar % 2 else 2.5))]
    before = build([*drum_bars(8), *events])
    after = continued(before, tmp_path / "two.mid", bars=4)
    bars = struck(after, CONGA, first_bar=8, num_bars=4)
    assert bars == [[30], [12], [30], [12]]


def test_what_is_no_loop_is_left_to_the_model() -> None:
    assert HI_HAT not in loops_of([]), "the kit is what the model knows"
    wandering = [e for bar in range(8) for e in strikes(CONGA, 4 * bar + bar / 3)]
    assert loops_of(wandering) == {}
    over = [e for bar in range(5) for e in strikes(SHAKER, *range(4 * bar, 4 * bar + 4))]
    assert loops_of(over) == {}, "it stopped three bars ago"
    once = strikes(TAMBOURINE, 28)
    assert loops_of(once) == {}


def test_an_ending_does_not_stop_a_loop() -> None:
    ended = [e for bar in range(7) for e in strikes(SHAKER, *range(4 * bar, 4 * bar + 4))]
    assert loops_of([*ended, *strikes(SHAKER, 28)]) == {SHAKER: [[0, 12, 24, 36]]}
