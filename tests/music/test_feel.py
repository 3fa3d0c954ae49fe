"""New notes are played as the old ones were: as early or late, as short or long, and exactly where those are exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from guarantees import Promise, check
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import build, by_hand, drum_bars, melody, note
from players import random_player, tokenizer

from adaptgen.checkpoint import load_checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.corpus import grid_of
from adaptgen.domains.music.feel import Feel, straighten
from adaptgen.domains.music.plan import find_slots
from adaptgen.domains.music.song import parse_song

BEAT = 480
STEP = BEAT // 12
DRAGGED = {36: 10, 38: 35, 42: 22}
"""Ticks by which a drummer's kick, snare and hi-hat are late; 20 are half a step."""


def drummer(bars: int = 12, *, jitter: int = 6) -> list:
    """The bars of `drum_bars`, each drum late in its own way, give or take some ticks."""
    events = drum_bars(bars)
    return [
        event
        for drum, late in DRAGGED.items()
        for event in by_hand([e for e in events if e[1][1] == drum], spread=jitter, late=late)
    ]


def swung(bars: int = 12) -> list:
    """A ride on the beat and on the last third of it, by hand."""
    events = [e for n in range(8 * bars) for e in note(n // 2 * BEAT + n % 2 * 320, 40, 51, channel=9)]
    return by_hand(events, spread=8, late=3)


def new_notes(path: Path, *, bars: int, seed: int = 1, player: str | None = "music") -> list:
    checkpoint = load_checkpoint(player) if player else random_player()
    request = ContinuationRequest(bars=bars, sound=False)
    (result,) = continue_file(path, checkpoint, request, checkpoint.sampling, seed=seed, is_adapting=False)
    return check(path.read_bytes(), result.files[".mid"], Promise(bars=bars)).notes


def steps_read(song_bytes: bytes) -> dict[int, set[int]]:
    """At which steps of the bar the model reads each pitch."""
    song = parse_song(song_bytes, name="song")
    grid = grid_of(song)
    found = defaultdict(set)
    for part in song.parts:
        for meant in straighten(part, grid):
            found[meant.pitch].add(grid.place(meant.start)[1])
    return found


def test_each_drum_is_read_where_it_is_meant() -> None:
    assert steps_read(build(drummer())) == steps_read(build(drum_bars(12)))


def test_a_swing_stays_a_swing() -> None:
    assert steps_read(build(swung())) == {51: {0, 8, 12, 20, 24, 32, 36, 44}}


def test_what_stands_on_the_grid_is_read_as_it_is() -> None:
    triplets = [e for n in range(96) for e in note(n * 160, 100, 60 + n % 5)]
    song = parse_song(build(triplets, drum_bars(8), melody(32, channel=2)), name="song")
    for part in song.parts:
        assert straighten(part, grid_of(song)) == part.notes


def test_a_drummer_drags_on(tmp_path: Path) -> None:
    path = tmp_path / "drums.mid"
    path.write_bytes(build(drummer()))
    late = defaultdict(list)
    for each in new_notes(path, bars=12):
        late[each.pitch].append((each.start + BEAT // 8) % (BEAT // 4) - BEAT // 8)
    for drum, ticks in DRAGGED.items():
        assert len(late[drum]) > 10
        assert abs(mean(late[drum]) - ticks) < 8, drum


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_notes_are_as_short_as_they_were(tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.mid"
    length = int(share * BEAT / 2)
    path.write_bytes(build([e for n in range(96) for e in note(n * BEAT // 2, length, 60 + n * 5 % 12)]))
    notes = new_notes(path, bars=8)
    eighths = [each.end - each.start for each in notes]
    assert mean(each == length for each in eighths) > 0.6
    assert all(each.start % STEP == 0 for each in notes)


def test_a_chord_is_strummed_as_chords_were(tmp_path: Path) -> None:
    """From low to high, within a step, and never all at once."""
    path = tmp_path / "strummed.mid"
    chords = ((48, 52, 55), (45, 48, 52), (41, 45, 48), (43, 47, 50))
    strums = [
        e
        for n in range(48)
        for index, pitch in enumerate(chords[n // 4 % 4])
        for e in note(n * BEAT + 9 * index, 400, pitch)
    ]
    path.write_bytes(build(strums))
    struck = defaultdict(list)
    for each in new_notes(path, bars=8):
        struck[each.start // STEP].append((each.pitch, each.start % STEP))
    together = [sorted(notes) for notes in struck.values() if len(notes) > 1]
    assert len(together) > 10
    assert all([late for _, late in notes] == [0, 9, 18][: len(notes)] for notes in together if len(notes) <= 3)


def test_a_drum_that_was_never_struck_is_played_by_the_same_hand() -> None:
    song = parse_song(build(drummer()), name="drums")
    (slot,), grid = find_slots(song.parts), grid_of(song)
    feel = Feel(slot, grid, np.random.default_rng(0))
    late = []
    for bar in range(100, 140):
        on_grid = grid.tick(bar, 0)
        late.append(on_grid + feel.play(on_grid, 1, 49)[0] - bar * 4 * BEAT)
    assert min(late) > 0
    assert max(late) <= max(DRAGGED.values()) + 6


@settings(deadline=None, max_examples=40)
@given(
    spread=st.integers(0, 59),
    late=st.integers(-59, 59),
    every=st.integers(1, 6),
    pitches=st.lists(st.integers(40, 80), min_size=1, max_size=3, unique=True),
)
def test_no_hand_is_so_unsteady_that_a_promise_breaks(
    tmp_path_factory: pytest.TempPathFactory, spread: int, late: int, every: int, pitches: Sequence[int]
) -> None:
    path = tmp_path_factory.mktemp("hand") / "song.mid"
    strikes = np.arange(0, 32 * BEAT, every * BEAT // 4)
    events = [e for at in strikes for pitch in pitches for e in note(int(at), every * BEAT // 4, pitch)]
    path.write_bytes(build(by_hand(events, spread=spread, late=late), by_hand(drum_bars(8), spread=spread)))
    assert new_notes(path, bars=3, player=None)


def test_the_prompt_is_tokens_of_what_is_meant(tmp_path: Path) -> None:
    late, exact = tmp_path / "late.mid", tmp_path / "exact.mid"
    late.write_bytes(build(drummer(jitter=3)))
    exact.write_bytes(build(drum_bars(12)))
    request = ContinuationRequest(bars=1, sound=False)
    read = [get("music").read_prompt(path, tokenizer(), request, window=512).tokens for path in (late, exact)]
    np.testing.assert_array_equal(*read)
