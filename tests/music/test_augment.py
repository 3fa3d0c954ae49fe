"""Variations of training sequences stay music of the same form."""

from __future__ import annotations

import numpy as np
import pytest
from odd_files import build, drum_bars, melody, metre, program
from players import tokenizer

from adaptgen.domains.music.corpus import augment, grid_of, tokenize_bars, transposed
from adaptgen.domains.music.song import parse_song
from adaptgen.domains.music.tokenizer import DRUMS


def document(*tracks: list) -> np.ndarray:
    song = parse_song(build(*tracks), name="song")
    tokens = tokenize_bars(song.parts, grid_of(song), tokenizer(), first_bar=0, stop_bar=8)
    return np.concatenate([[[tokenizer().begin]], tokens], axis=1)


SONG = document(program(40) + melody(32, low=48), melody(32, channel=1, low=72))
DRUMMING = document(drum_bars(8))
BEGIN = tokenizer().begin


def varied(tokens: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
    before = tokens.copy()
    result = augment(tokenizer(), tokens, other, np.random.default_rng(seed))
    assert np.array_equal(tokens, before), "the corpus itself was changed"
    assert result.shape == tokens.shape
    return result


def pitches(tokens: np.ndarray) -> np.ndarray:
    return tokens[tokenizer().kinds[tokens] == "Pitch"] - tokenizer().ids["Pitch_0"]


def without(tokens: np.ndarray, *kinds: str) -> np.ndarray:
    return tokens[~np.isin(tokenizer().kinds[tokens], kinds)]


def has_all_parts(tokens: np.ndarray) -> bool:
    return np.count_nonzero(tokenizer().kinds[tokens] == "Program") == 16


def test_a_document_is_moved_as_a_whole_by_up_to_a_tritone() -> None:
    shifts = set()
    for seed in range(90):
        result = varied(SONG, SONG, seed)
        if not has_all_parts(result) or np.count_nonzero(result == tokenizer().begin) > 1:
            continue
        (shift,) = set(pitches(result) - pitches(SONG))
        shifts.add(int(shift))
        assert np.array_equal(without(result, "Pitch", "Program"), without(SONG, "Pitch", "Program"))
    assert shifts == set(range(-6, 6))


def test_what_is_varied_for_one_song_is_its_key_alone() -> None:
    shifts = set()
    for seed in range(40):
        result = transposed(tokenizer(), SONG, np.random.default_rng(seed))
        (shift,) = set(pitches(result) - pitches(SONG))
        shifts.add(int(shift))
        assert np.array_equal(without(result, "Pitch"), without(SONG, "Pitch"))
        assert np.array_equal(transposed(tokenizer(), DRUMMING, np.random.default_rng(seed)), DRUMMING)
    assert shifts == set(range(-6, 6))


def test_programs_are_exchanged_now_and_then_and_two_never_become_one() -> None:
    def programs(tokens: np.ndarray) -> list[int]:
        return tokens[tokenizer().kinds[tokens] == "Program"].tolist()

    whole = [result for seed in range(100) if np.count_nonzero((result := varied(SONG, SONG, seed)) == BEGIN) == 1]
    exchanged = [found for result in whole if (found := programs(result)) != programs(SONG)]
    assert 8 <= len(exchanged) <= 35
    for found in exchanged:
        assert len(dict(zip(programs(SONG), found, strict=True))) == len(set(found)) == 2


def test_drums_keep_their_pitches_or_become_others_in_the_same_order() -> None:
    kinds = tokenizer().kinds[DRUMMING]
    drums = DRUMMING[kinds == "PitchDrum"]
    changed = 0
    for seed in range(60):
        result = varied(DRUMMING, SONG, seed)
        assert np.array_equal(result[kinds != "PitchDrum"], DRUMMING[kinds != "PitchDrum"])
        found = result[kinds == "PitchDrum"]
        changed += not np.array_equal(found, drums)
        assert np.array_equal(np.unique(found, return_inverse=True)[1], np.unique(drums, return_inverse=True)[1])
        assert set(tokenizer().kinds[found]) == {"PitchDrum"}
    assert 4 <= changed <= 25


def test_parts_are_left_out_now_and_then_with_all_their_notes() -> None:
    first, second = (document(track) for track in (program(40) + melody(32, low=48), melody(32, low=72)))
    parts = [without(part, "Pitch", "Program")[1:] for part in (first, second)]
    alone = 0
    for seed in range(80):
        result = varied(SONG, DRUMMING, seed)[0]
        begins = np.flatnonzero(result == BEGIN)
        if len(begins) > 1:
            alone += 1
            kept = without(result[None, 1 : begins[1]], "Pitch", "Program")
            assert any(np.array_equal(kept, part) for part in parts)
            filling = result[begins[1] + 1 :]
            bars = DRUMMING[0, 1:]
            assert np.array_equal(filling[: len(bars)], bars[: len(filling)])
    assert 8 <= alone <= 35


def test_drums_of_another_sequence_are_played_to_one_without() -> None:
    drums = tokenizer().ids[f"Program_{DRUMS}"]
    long_song = np.concatenate([SONG, np.full((1, 2000), tokenizer().begin)], axis=1)
    results = (varied(long_song, DRUMMING, seed) for seed in range(100))
    result = next(result for result in results if np.count_nonzero(tokenizer().kinds[result] == "Program") == 16 + 7)
    bars = np.split(result[0], np.flatnonzero(result[0] == tokenizer().bar))[1:]
    drum_bars_there = np.split(DRUMMING[0], np.flatnonzero(DRUMMING[0] == tokenizer().bar))[1:]
    assert len(bars) == 8
    # The last bar of the drumming might have been cut.
    for bar, drum_bar in zip(bars[:7], drum_bars_there[:7], strict=True):
        at = np.flatnonzero(bar == drums)
        assert len(at) == 1
        assert np.array_equal(bar[at[0] :], drum_bar[2:])
    assert drums not in bars[7]
    song_alone = np.concatenate([bar[: np.flatnonzero(bar == drums)[0]] for bar in bars[:7]])
    assert len(pitches(song_alone)) == len(pitches(SONG)) * 7 // 8


@pytest.mark.parametrize("cut", [3, 40, 200])
def test_what_stands_at_the_edges_of_a_sequence_gets_no_drums(cut: int) -> None:
    """A sequence begins and ends inside bars; drums there would stand inside a note."""
    drums = tokenizer().ids[f"Program_{DRUMS}"]
    part = SONG[:, cut : cut + 160]
    num_found = 0
    for seed in range(40):
        result = np.split(varied(part, DRUMMING, seed)[0], np.flatnonzero(part[0] == BEGIN))[-1]
        begins = np.flatnonzero(result == BEGIN)
        for place in np.flatnonzero(result[: begins[0] if len(begins) else None] == drums):
            assert tokenizer().kinds[result[place - 1]] == "Duration"
            num_found += 1
    assert num_found


def test_drums_end_where_bars_differ_in_length() -> None:
    drums = tokenizer().ids[f"Program_{DRUMS}"]
    waltz = document(metre(3, 2), melody(24))
    assert drums not in varied(waltz, DRUMMING, seed=0)
