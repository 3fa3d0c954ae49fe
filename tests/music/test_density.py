"""Parts play no denser than they did: where they would, they wait between onsets."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from guarantees import Promise, check
from odd_files import build, melody, metre, note
from players import STUBBORN_WISHES, stubborn_player

from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music import density
from adaptgen.domains.music.density import DensityHabit, find_density
from adaptgen.domains.music.plan import find_slots
from adaptgen.domains.music.song import parse_song
from adaptgen.sampling import Sampling

BEAT = 480
BAR = 4 * BEAT


def chords(bars: int) -> list:
    """Four notes on every quarter: twelve within a bar before an onset, so that eighteen are not too many."""
    pitches = (48, 52, 55, 60)
    return [event for beat in range(4 * bars) for pitch in pitches for event in note(beat * BEAT, BEAT // 2, pitch)]


def crowding(kind: str, value: str) -> float:
    """A wish for short chords of as many notes as there may be, as soon as there may be another."""
    order = {"Pitch": 4e4, "PitchDrum": 4e4, "Position": 3e4, "Program": 2e4, "Bar": 1e4}
    if kind == "Duration":
        beats, part, resolution = map(int, value.split("."))
        return -beats - part / resolution
    return order.get(kind, 0.0) - (int(value) if value.lstrip("-").isdigit() else 0)


def continued(path: Path, wish: Callable[[str, str], float], *, bars: int) -> bytes:
    request = ContinuationRequest(bars=bars, sound=False)
    (result,) = continue_file(path, stubborn_player(wish), request, Sampling(temperature=0), is_adapting=False)
    return result.files[".mid"]


def test_a_habit_is_the_most_notes_within_four_quarters_before_an_onset() -> None:
    song = parse_song(build(chords(8)), name="chords")
    habit = find_density(song.parts, ticks_per_beat=BEAT)
    assert habit == DensityHabit(18, (27 * BEAT,) * 3 + tuple(beat * BEAT for beat in range(28, 32) for _ in range(4)))
    song = parse_song(build(melody(4)), name="melody")
    assert find_density(song.parts, ticks_per_beat=BEAT) == DensityHabit(9, (0, BEAT, 2 * BEAT, 3 * BEAT))


@pytest.mark.parametrize("wish", [*STUBBORN_WISHES.values(), crowding], ids=[*STUBBORN_WISHES, "crowds"])
def test_who_has_played_much_waits_for_a_quarter_whatever_the_model_says(
    tmp_path: Path, wish: Callable[[str, str], float]
) -> None:
    """But for the first onset of a bar, which may be due."""
    path = tmp_path / "two.mid"
    path.write_bytes(build(chords(8), melody(32, channel=1)))
    before = path.read_bytes()
    outcome = check(before, continued(path, wish, bars=6), Promise(bars=6))
    old = parse_song(before, name="two").parts
    for channel, most in ((0, 18), (1, 9)):
        new = sorted(n.start for n in outcome.notes if n.channel == channel)
        starts = sorted(n.start for part in old if part.channel == channel for n in part.notes) + new
        for last, start in pairwise(sorted(set(new))):
            num_before = bisect_left(starts, start) - bisect_right(starts, start - BAR)
            assert num_before <= most or start - last >= BEAT or start // BAR > last // BAR


def test_who_may_not_strike_at_once_strikes_as_soon_as_it_may(tmp_path: Path) -> None:
    """A model that would leave the bar rather than wait, were it not asked."""
    path = tmp_path / "chords.mid"
    path.write_bytes(build(chords(7)))  # of eight bars it would be known how long the part rests at most
    early = {f"{step}" for step in range(12)}
    found = continued(
        path, lambda kind, value: 0 if kind == "Position" and value not in early else crowding(kind, value), bars=2
    )
    outcome = check(path.read_bytes(), found, Promise(bars=2))
    assert {(n.start - outcome.join) * 12 // BEAT for n in outcome.notes} == {0, 12, 48, 60}


def test_who_plays_a_note_now_and_then_does_not_begin_to_trill(tmp_path: Path) -> None:
    lead = [event for bar in (0, 2, 4, 6) for event in note(bar * BAR, 2 * BEAT, 72, channel=1)]
    path = tmp_path / "lead.mid"
    path.write_bytes(build(chords(8), lead))
    outcome = check(path.read_bytes(), continued(path, STUBBORN_WISHES["plays at every step"], bars=6), Promise(bars=6))
    first = [n.start - outcome.join for n in outcome.notes if n.channel == 1 and n.start < outcome.join + BAR]
    assert len(first) == 10, "seven at once, and then quarters"
    assert first[7:] == [2 * BEAT - BEAT // 2, 3 * BEAT - BEAT // 2, 4 * BEAT - BEAT // 2]


def test_who_plays_as_before_is_not_held_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chords.mid"
    path.write_bytes(build(chords(8)))
    modest, much = STUBBORN_WISHES["leaves every bar at once"], crowding
    held = [continued(path, wish, bars=4) for wish in (modest, much)]
    monkeypatch.setattr(density, "SLACK", 1000.0)
    free = [continued(path, wish, bars=4) for wish in (modest, much)]
    assert held[0] == free[0]
    assert held[1] != free[1]


def test_no_bar_is_silent_for_that(tmp_path: Path) -> None:
    """In bars of a sixteenth, where a part has rested for longer than the next one lasts."""
    path = tmp_path / "short_bars.mid"
    bursts = [e for burst in range(8) for pitch in range(48, 60) for e in note(burst * BAR // 2, 40, pitch)]
    path.write_bytes(build(metre(1, 4) + bursts))
    outcome = check(path.read_bytes(), continued(path, crowding, bars=24), Promise(bars=24))
    assert outcome.notes


def triads(bars: int, *, single: int = 0) -> list:
    """Three notes on every half, a little spread, and some single ones."""
    events = [e for half in range(2 * bars) for k in (0, 4, 7) for e in note(half * 2 * BEAT + k, BEAT, 60 + k)]
    return events + [e for half in range(single) for e in note(half * 2 * BEAT + BEAT, BEAT // 2, 72)]


@pytest.mark.parametrize("wish", [*STUBBORN_WISHES.values(), crowding], ids=[*STUBBORN_WISHES, "crowds"])
@pytest.mark.parametrize("is_due", [False, True])
def test_who_has_played_chords_alone_plays_three_notes_or_more(
    tmp_path: Path, wish: Callable[[str, str], float], is_due: bool
) -> None:
    """As long as it has free notes."""
    path = tmp_path / "triads.mid"
    path.write_bytes(build(triads(8), *([melody(32, channel=1)] if is_due else [])))

    def short(kind: str, value: str) -> float:
        return -100 * sum(int(part) for part in value.split(".")[:2]) if kind == "Duration" else wish(kind, value)

    outcome = check(path.read_bytes(), continued(path, short, bars=6), Promise(bars=6))
    steps = [n.start * 12 // BEAT for n in outcome.notes if n.channel == 0]  # as spread as they were
    assert steps
    assert min(steps.count(step) for step in set(steps)) >= 3


@pytest.mark.parametrize(("bars", "single", "plays"), [(4, 0, True), (3, 0, False), (8, 1, False)])
def test_chords_alone_show_by_eight_onsets(bars: int, single: int, plays: bool) -> None:
    song = parse_song(build(triads(bars, single=single)), name="triads")
    (slot,) = find_slots(song.parts)
    assert (slot.least_notes(ticks_per_beat=BEAT) > 1) == plays
