"""Accents that come again in every bar go on at their places, whatever the model wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from guarantees import Promise, check
from odd_files import build, note
from players import STUBBORN_WISHES, stubborn_player
from smf_reader import is_on, parse

from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.accents import find_accents
from adaptgen.domains.music.corpus import grid_of
from adaptgen.domains.music.song import parse_song
from adaptgen.sampling import Sampling

BEAT, DRUMS = 480, 9
BAR = 4 * BEAT


def struck_on(midi: bytes, channel: int, *, first_bar: int) -> list[tuple[int, int, int]]:
    """Tick within the bar, key and velocity of each note from a bar on."""
    notes = [(tick, data) for tick, _, data in parse(midi).merged if is_on(data) and data[0] & 0xF == channel]
    return [(tick % BAR, data[1], data[2]) for tick, data in notes if tick >= first_bar * BAR]


def strums(bars: int, loudness: Callable[[int, int], int]) -> list:
    return [
        event
        for eighth in range(8 * bars)
        for pitch in (52, 56, 59)
        for event in note(eighth * BEAT // 2, 200, pitch, velocity=loudness(*divmod(eighth, 8)))
    ]


def ranges_of(events: list, *, join_bar: int = 8) -> dict:
    song = parse_song(build(events), name="song")
    return find_accents(song.parts, grid_of(song), join_bar=join_bar).ranges


def down_and_up(bar: int, eighth: int) -> int:
    return 64 if eighth % 2 else 96


@pytest.mark.parametrize("wish", STUBBORN_WISHES)
def test_a_strummer_keeps_his_accents(tmp_path: Path, wish: str) -> None:
    hats = [e for n in range(64) for e in note(n * BEAT // 2, 60, 42, channel=DRUMS, velocity=(110, 60, 80, 60)[n % 4])]
    before, path = build(strums(8, down_and_up), hats), tmp_path / "strums.mid"
    path.write_bytes(before)
    request = ContinuationRequest(bars=4, sound=False)
    (result,) = continue_file(
        path, stubborn_player(STUBBORN_WISHES[wish]), request, Sampling(), seed=0, is_adapting=False
    )
    after = result.files[".mid"]
    assert check(before, after, Promise(bars=4)).notes
    for channel, of_places in ((0, (96, 64)), (DRUMS, (110, 60, 80, 60))):
        for tick, _, velocity in struck_on(after, channel, first_bar=8):
            place, between = divmod(tick, BEAT // 2)
            if not between:
                assert velocity == of_places[place % len(of_places)]


def test_accents_are_known_by_key_and_place() -> None:
    assert ranges_of(strums(8, down_and_up)) == {
        (0, 6 * eighth): ((64, 64) if eighth % 2 else (96, 96)) for eighth in range(8)
    }


def test_what_varies_is_left_to_the_model() -> None:
    assert ranges_of(strums(8, lambda bar, eighth: 40 + 7 * ((5 * bar + 3 * eighth) % 10))) == {}
    assert ranges_of(strums(8, lambda bar, eighth: 80)) == {}, "nothing is accented"
    assert ranges_of(strums(2, down_and_up), join_bar=2) == {}, "two bars show nothing"
    assert ranges_of(strums(8, lambda bar, eighth: 50 + 6 * bar)) == {}, "a crescendo"
