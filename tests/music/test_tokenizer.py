"""What tokens keep of music, and that they stay the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import build, metre, note, program
from players import tokenizer

from adaptgen.domains.music.corpus import grid_of, tokenize_bars
from adaptgen.domains.music.grid import DURATIONS, GridNote
from adaptgen.domains.music.song import Part, Song, parse_song
from adaptgen.domains.music.tokenizer import DRUMS, MusicTokenizer, PartNames
from adaptgen.errors import CheckpointError, RecipeError

STEP = 40
BEAT = 12 * STEP
METRES = st.sampled_from([(4, 2), (3, 2), (7, 3), (5, 4), (3, 5), (1, 2), (12, 3), (32, 2), (2, 1), (11, 3)])
FINGERPRINT = "45b94e3c2716d782"


@st.composite
def songs(draw: st.DrawFn) -> Song:
    """Up to four parts and drums on the grid of twelfths, in up to three metres; no pitch twice at once in a part."""
    metres = draw(st.lists(st.tuples(st.integers(1, 12), METRES), max_size=3))
    conductor, tick = [], 0
    for beats, (numerator, power) in metres:
        conductor += metre(numerator, power, tick)
        tick += beats * BEAT
    bars = parse_song(build(conductor, note(0, 1, 60)), name="bars").bars
    channels = draw(st.lists(st.sampled_from([0, 1, 2, 9]), min_size=1, max_size=4))
    tracks = []
    for channel in channels:
        events, taken = program(draw(st.sampled_from([0, 1, 7, 40, 127])), channel=channel), []
        for bar, step, duration, pitch in draw(
            st.lists(
                st.tuples(st.integers(0, 8), st.integers(0, 400), st.sampled_from(DURATIONS), st.integers(35, 81)),
                min_size=1,
                max_size=12,
            )
        ):
            length = bars.start(bar + 1) - bars.start(bar)
            start = bars.start(bar) + step % -(-length // STEP) * STEP
            end = start + (1 if channel == 9 else duration) * STEP
            if not any(p == pitch and s < end and start < e for p, s, e in taken):
                taken.append((pitch, start, end))
                events += note(start, end - start, pitch, channel=channel, velocity=1 + (pitch * 7 + step) % 127)
        tracks.append(events)
    return parse_song(build(conductor, *tracks), name="song")


def decoded(song: Song) -> list[tuple[int, int, int, int, int]]:
    """Program token, start, end, pitch and velocity of each note that a song's tokens say, in ticks."""
    grid = grid_of(song)
    stop_bar = 1 + max(grid.place(note_.start)[0] for part in song.parts for note_ in part.notes)
    tokens = tokenize_bars(song.parts, grid, tokenizer(), first_bar=0, stop_bar=stop_bar)
    cells = grid.layout(0, stop_bar)
    notes = []
    for cell, token, position, duration, pitch, velocity in tokenizer().decode(tokens):
        steps, bar = cells[cell].first_step + position, cells[cell].first_bar
        while steps >= grid.num_steps(bar) and cells[cell].num_bars > 1:
            steps, bar = steps - grid.num_steps(bar), bar + 1
        start = grid.tick(bar, steps)
        notes.append((token, start, start + duration * STEP, pitch, velocity))
    return sorted(notes)


@given(songs())
@settings(deadline=None, max_examples=150)
def test_quantised_music_comes_back_as_it_was(song: Song) -> None:
    expected = set()
    drums = {}
    for part, token in zip(song.parts, PartNames(song.parts).token_of, strict=True):
        for start, end, pitch, velocity in part.notes:
            if token == DRUMS:
                drums[start, pitch] = velocity
            else:
                expected.add((token, start, end, pitch, velocity))
    found = decoded(song)
    assert {row[:4] for row in found if row[0] != DRUMS} == {row[:4] for row in expected}
    assert {(row[1], row[3]) for row in found if row[0] == DRUMS} == set(drums)
    assert len(found) == len(expected) + len(drums)
    one_level = 127 / 16
    velocities = {row[:4]: row[4] for row in expected}
    assert all(abs(velocities[row[:4]] - row[4]) <= one_level for row in found if row[0] != DRUMS)


@given(songs())
@settings(deadline=None, max_examples=60)
def test_a_bar_names_each_part_once_and_goes_forward(song: Song) -> None:
    grid = grid_of(song)
    tokens = tokenize_bars(song.parts, grid, tokenizer(), first_bar=0, stop_bar=9)
    names = tokenizer().describe(tokens)
    starts = [index for index, name in enumerate(names) if name == "Bar_None"]
    assert len(starts) == len(grid.layout(0, 9))
    for start, stop in pairwise([*starts, len(names)]):
        bar = names[start:stop]
        assert bar[1].startswith("TimeSig_")
        programs = [name for name in bar if name.startswith("Program_")]
        assert len(programs) == len(set(programs))
        places = [index for index, name in enumerate(bar) if name.startswith("Program_")]
        for begin, end in pairwise([*places, len(bar)]):
            steps = [int(name.split("_")[1]) for name in bar[begin:end] if name.startswith("Position_")]
            assert steps == sorted(set(steps))
    assert tokenizer().count_units(tokens) == len(decoded(song))


def test_the_vocabulary_does_not_change() -> None:
    """Checkpoints are bound to it: one that was trained with another fingerprint means other music by its tokens."""
    assert tokenizer().vocab_sizes == (547,)
    assert tokenizer().fingerprint == FINGERPRINT
    assert MusicTokenizer(num_velocities=8).fingerprint != FINGERPRINT


def test_what_was_saved_can_be_loaded_and_nothing_else(tmp_path: Path) -> None:
    tokenizer().save(tmp_path)
    assert MusicTokenizer.load(tmp_path, tokenizer().to_options()).ids == tokenizer().ids
    with pytest.raises(CheckpointError, match=r"has \d+ tokens that are not the \d+ of its options"):
        MusicTokenizer.load(tmp_path, {"num_velocities": 8})
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        MusicTokenizer.load(tmp_path, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_velocity": 8}, "unknown key 'tokenizer.num_velocity'. The music tokenizer has num_velocities and find_"),
        ({"num_velocities": 0}, "tokenizer.num_velocities is 0. Give a whole number from 1 to 127."),
        ({"num_velocities": True}, "tokenizer.num_velocities is True."),
        ({"num_velocities": 128}, "tokenizer.num_velocities is 128."),
        ({"num_velocities": "many"}, "tokenizer.num_velocities is 'many'."),
        ({"find_beats": "no"}, "tokenizer.find_beats is 'no'. Give true or false."),
    ],
)
def test_bad_options_name_the_key_and_the_remedy(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        MusicTokenizer.from_options(options)
    assert message in str(refusal.value)


@pytest.mark.parametrize("num_velocities", [1, 2, 127])
def test_any_number_of_velocities_works(num_velocities: int) -> None:
    few = MusicTokenizer(num_velocities=num_velocities)
    song = parse_song(build(note(0, 480, 60, velocity=1) + note(480, 480, 61, velocity=127)), name="x")
    tokens = few.encode(
        [(0, [GridNote(0, 0, 12, 60, 1), GridNote(0, 12, 12, 61, 127)])], grid=grid_of(song), first_bar=0, stop_bar=1
    )
    assert [note_.pitch for note_ in few.decode(tokens)] == [60, 61]
    assert all(1 <= note_.velocity <= 127 for note_ in few.decode(tokens))


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 15)), min_size=1, max_size=128))
@settings(deadline=None)
def test_parts_have_a_name_each_of_their_family_if_there_is_one(players: list[tuple[int, int]]) -> None:
    parts = [Part(track, channel, number) for track, (number, channel) in enumerate(players)]
    names = PartNames(parts)
    melodic = [token for part, token in zip(parts, names.token_of, strict=True) if not part.is_drums]
    assert len(set(melodic)) == len(melodic)
    assert all((token == DRUMS) == part.is_drums for part, token in zip(parts, names.token_of, strict=True))
    for number in range(0, 128, 8):
        family = [part for part in parts if not part.is_drums and part.program // 8 == number // 8]
        if 0 < len(melodic) == len(family) <= 8:
            assert {token // 8 for token in melodic} == {number // 8}
    assert names.tokens == [*melodic, *([DRUMS] if DRUMS in names.token_of else [])]


def test_more_parts_than_names_share_some() -> None:
    names = PartNames([Part(track, 0, 5) for track in range(140)])
    assert len(set(names.token_of)) == 128


def test_silence_has_tokens_and_no_notes() -> None:
    song = parse_song(build(note(0, 480, 60)), name="x")
    tokens = tokenizer().encode([], grid=grid_of(song), first_bar=3, stop_bar=5)
    assert tokenizer().describe(tokens) == ["Bar_None", "TimeSig_16/16"] * 2
    assert tokenizer().decode(tokens) == []
    assert tokens.dtype == np.int64
