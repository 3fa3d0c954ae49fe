"""Who pedals goes on pedalling, as often and in the same way; nobody else begins to."""

from __future__ import annotations

from pathlib import Path

import pytest
from guarantees import Outcome, Promise, check
from odd_files import build, control, melody, note
from smf_reader import parse

from adaptgen.checkpoint import load_checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest

BEAT = 480
BAR = 4 * BEAT


def pedalled(every: int, *, press: int, lift: int, times: int, value: int = 90) -> list:
    """A pedal pressed and lifted so many ticks after each of so many equal spans begins."""
    return [
        event
        for n in range(times)
        for event in control(64, value, n * every + press) + control(64, 0, n * every + lift)
    ]


def new_moves(path: Path, *, bars: int = 6, channel: int = 0) -> tuple[Outcome, list[tuple[int, int]]]:
    """What is promised, and ticks after the join and values of a channel's pedal."""
    request = ContinuationRequest(bars=bars, sound=False)
    checkpoint = load_checkpoint("music")
    (result,) = continue_file(path, checkpoint, request, checkpoint.sampling, seed=2, is_adapting=False)
    after = result.files[".mid"]
    outcome = check(path.read_bytes(), after, Promise(bars=bars))
    status = bytes([0xB0 | channel, 64])
    moves = [(tick - outcome.join, data[2]) for tick, _, data in parse(after).merged if data[:2] == status]
    return outcome, [move for move in moves if move[0] > 0]


@pytest.mark.parametrize("every", [BAR, BAR // 2])
def test_a_pedal_changed_with_the_harmony_goes_on_so(tmp_path: Path, every: int) -> None:
    """Lifted with the first note of each span, and pressed as soon after it as before."""
    path = tmp_path / "piano.mid"
    times = 8 * BAR // every
    path.write_bytes(build(pedalled(every, press=40, lift=every, times=times), melody(32)))
    outcome, moves = new_moves(path)
    starts = {each.start - outcome.join for each in outcome.notes}
    ticks = [tick for tick, _ in moves]
    assert [value for _, value in moves] == [90, 0] * (len(moves) // 2)
    assert len(moves) // 2 > 0.6 * 6 * BAR / every
    assert sum(tick - 40 in starts for tick in ticks[::2]) >= len(moves) // 2 - 1
    assert all(tick in starts or tick % every == 0 for tick in ticks[1::2])


def test_a_pedal_pressed_with_notes_and_lifted_early_goes_on_so(tmp_path: Path) -> None:
    path = tmp_path / "dance.mid"
    path.write_bytes(build(pedalled(BAR, press=0, lift=BAR - 2 * BEAT, times=8), melody(32)))
    outcome, moves = new_moves(path)
    firsts = {min(each.start for each in outcome.notes if each.start // BAR == bar) for bar in range(8, 14)}
    assert {outcome.join + tick - 1 for tick, value in moves if value} <= firsts
    lifted = [tick for tick, value in moves if not value]
    assert len(lifted) > 3
    assert all(tick % BAR for tick in lifted)


@pytest.mark.parametrize(
    "moves",
    [
        [],
        pedalled(2 * BAR, press=0, lift=BAR, times=3),
        pedalled(BAR, press=0, lift=BEAT, times=8),
        control(64, 127, 0),
    ],
    ids=["never", "thrice", "a quarter of the time", "never lifted"],
)
def test_who_seldom_pedals_does_not_begin_to(tmp_path: Path, moves: list) -> None:
    path = tmp_path / "dry.mid"
    path.write_bytes(build(moves, melody(32)))
    assert not any(value for _, value in new_moves(path)[1])


def test_a_pedal_is_its_channel_s(tmp_path: Path) -> None:
    """And lies under what both hands play there, on two tracks."""
    path = tmp_path / "three.mid"
    left = [e for n in range(8) for e in note(n * BAR, BAR, 40)]
    path.write_bytes(build(pedalled(BAR, press=40, lift=BAR, times=8) + left, melody(32), melody(32, channel=1)))
    assert any(value for _, value in new_moves(path)[1])
    assert not new_moves(path, channel=1)[1]
