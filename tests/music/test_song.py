"""From bytes to notes, bars and seconds."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import ODD_FILES, build, control, melody, meta, metre, note, program, tempo
from smf_reader import notes_of, parse

from adaptgen.domains.music.song import Note, parse_song
from adaptgen.domains.music.timing import BarLines, TempoMap

METRES = st.tuples(st.integers(1, 13), st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
RESOLUTIONS = st.sampled_from([16, 24, 96, 220, 480, 32_767])


@st.composite
def bar_lines(draw: st.DrawFn) -> tuple[BarLines, list[tuple[int, int, int]]]:
    """Bar lines and the metre changes that they come from."""
    ticks_per_beat = draw(RESOLUTIONS)
    ticks = draw(st.lists(st.integers(0, 40 * ticks_per_beat), max_size=4))
    metres = [(tick, *draw(METRES)) for tick in sorted(ticks)]
    return BarLines(metres, ticks_per_beat), metres


def lines_by_hand(metres: list[tuple[int, int, int]], ticks_per_beat: int, *, stop: int) -> list[int]:
    """Every bar line before a tick, one after the other."""
    segments = {0: (4, 4)} | {tick: (numerator, denominator) for tick, numerator, denominator in metres}
    lines = []
    for tick, following in pairwise([*sorted(segments), stop]):
        numerator, denominator = segments[tick]
        length, count = Fraction(4 * numerator * ticks_per_beat, denominator), 0
        while tick + round(count * length) < following:
            lines.append(tick + round(count * length))
            count += 1
    return lines


@given(bar_lines())
@settings(deadline=None)
def test_bars_begin_where_counting_puts_them(drawn: tuple[BarLines, list[tuple[int, int, int]]]) -> None:
    bars, metres = drawn
    stop = 44 * bars.ticks_per_beat
    expected = set(lines_by_hand(metres, bars.ticks_per_beat, stop=stop))
    found, bar = set(), 0
    while bars.start(bar) < stop:
        found.add(bars.start(bar))
        bar += 1
    # Where less than a tick is left before a metre change, rounding decides whether that is a bar.
    unsure = {tick - 1 for tick, _, _ in metres}
    assert found - unsure == expected - unsure


@given(bar_lines(), st.data())
@settings(deadline=None)
def test_a_tick_is_in_the_bar_that_begins_before_it(
    drawn: tuple[BarLines, list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    bars, _ = drawn
    tick = data.draw(st.integers(0, 60 * bars.ticks_per_beat))
    bar = bars.index(tick)
    assert bars.start(bar) <= tick < bars.start(bar + 1)
    assert bars.index(bars.start(bar)) == bar


@pytest.mark.parametrize("numerator", [1, 3, 5, 7])
def test_where_bar_lines_are_rounded_a_tick_between_them_is_in_the_bar_before(numerator: int) -> None:
    """A shifted grid asks between ticks too; bars here are whole ticks and a half long."""
    bars = BarLines([(0, numerator, 64)], 24)
    for quarter_tick in range(400):
        bar = bars.index(quarter_tick / 4)
        assert bars.start(bar) <= quarter_tick / 4 < bars.start(bar + 1)


def test_a_metre_change_in_mid_bar_begins_a_bar() -> None:
    bars = BarLines([(0, 4, 4), (600, 3, 4)], 480)
    assert [bars.start(bar) for bar in range(4)] == [0, 600, 2040, 3480]
    assert [bars.metre(bar) for bar in range(3)] == [(4, 4), (3, 4), (3, 4)]


def test_of_two_metres_at_one_tick_the_last_holds() -> None:
    assert BarLines([(0, 4, 4), (0, 3, 4)], 480).start(1) == 3 * 480


@pytest.mark.parametrize("name", ["metre 0/4", "metre 4/2^255", "metre 4/2^29", "metre 1/64 at resolution 1"])
def test_metres_without_a_bar_of_a_tick_count_for_nothing(name: str) -> None:
    song = parse_song(ODD_FILES[name](), name=name)
    assert song.bars.metre(0) == (4, 4)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 2**24 - 1)), max_size=5),
    st.integers(0, 20_000),
    RESOLUTIONS,
)
@settings(deadline=None)
def test_seconds_and_ticks_are_inverse(tempos: list[tuple[int, int]], tick: int, resolution: int) -> None:
    tempos = sorted(tempos, key=lambda change: change[0])
    tempo_map = TempoMap(tempos, resolution)
    in_force = [(0, 500_000), *tempos]
    exact = sum(
        Fraction((min(following[0], tick) - when) * tempo_, 1_000_000 * resolution)
        for (when, tempo_), following in pairwise([*in_force, (tick, 0)])
        if when < tick
    )
    assert tempo_map.seconds(tick) == pytest.approx(float(exact), rel=1e-9)
    assert tempo_map.tick(tempo_map.seconds(tick)) == tick
    assert tempo_map.tick(tempo_map.seconds(tick + 1) * (1 - 1e-9) - 1e-12) <= tick + 1


@pytest.mark.parametrize("name", [name for name in ODD_FILES if name != "100,000 notes"])
def test_notes_are_those_of_an_independent_reader(name: str) -> None:
    data = ODD_FILES[name]()
    song = parse_song(data, name=name)
    found = sorted(
        (part.track, part.channel, part.program, note_.start, note_.end, note_.pitch)
        for part in song.parts
        for note_ in part.notes
    )
    expected = sorted(
        (note_.track, note_.channel, note_.program, note_.start, max(note_.end, note_.start + 1), note_.pitch)
        for note_ in notes_of(parse(data))
    )
    assert found == expected


@pytest.mark.parametrize("name", [name for name in ODD_FILES if name != "100,000 notes"])
def test_writing_gives_every_event_back(name: str, tmp_path: Path) -> None:
    data = ODD_FILES[name]()
    path = tmp_path / "again.mid"
    parse_song(data, name=name).midi.save(path)
    again, before = parse(path.read_bytes()), parse(data)
    end = (0xFF, 0x2F)
    strip = [[event for event in track if tuple(event.data[:2]) != end] for track in before.tracks]
    assert [[event for event in track if tuple(event.data[:2]) != end] for track in again.tracks] == strip


def test_overlapping_notes_of_a_pitch_end_in_the_order_in_which_they_began() -> None:
    song = parse_song(build(note(0, 300, 60, velocity=1) + note(100, 400, 60, velocity=2)), name="x")
    assert song.parts[0].notes == [Note(0, 300, 60, 1), Note(100, 500, 60, 2)]


def test_every_note_without_an_end_is_known() -> None:
    song = parse_song(ODD_FILES["notes without an end"](), name="x")
    assert sorted(song.unended) == [(0, 0, 40), (0, 0, 41), (0, 0, 41)]


def test_a_program_holds_for_its_channel_in_all_tracks() -> None:
    song = parse_song(build(program(40, 0) + program(41, 960), melody(4)), name="x")
    assert [(part.track, part.program, len(part.notes)) for part in song.parts] == [(1, 40, 2), (1, 41, 2)]


def test_what_mido_would_change_is_kept_as_bytes() -> None:
    events = [*meta(0x60, b"\x01", 100), (200, b"\xf7\x02\x01\x02"), *meta(0x59, b"\x09\x00", 300)]
    song = parse_song(build(melody(2) + events), name="x")
    kept = [message for message in song.midi.tracks[0] if message.type == "unknown_meta"]
    assert [bytes(message.bytes()) for message in kept] == [
        b"\xff\x60\x01\x01",
        b"\xf7\x02\x01\x02",
        b"\xff\x59\x02\x09\0",
    ]
    assert kept[0].time == 100
    assert not any(
        isinstance(message, mido.UnknownMetaMessage)
        for message in parse_song(
            build(melody(2) + control(7, 1) + tempo(1) + metre(3, 2) + meta(0x05, b"la")), name="x"
        ).midi.tracks[0]
    )


def test_what_fills_a_track_behind_its_end_is_ignored() -> None:
    data = build(melody(4))
    padded = data[:18] + (int.from_bytes(data[18:22]) + 5).to_bytes(4) + data[22:] + b"\0\xf5\1\2\3"
    assert parse_song(padded, name="x").parts == parse_song(data, name="x").parts
