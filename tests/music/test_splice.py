"""Events back into tracks."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest
from smf_reader import END_OF_TRACK, parse

from adaptgen.domains.music.splice import untimed

LONGEST = 2**28 - 1


@pytest.mark.parametrize("tick", [0, LONGEST, LONGEST + 1, 3 * LONGEST, 5 * LONGEST + 7])
@pytest.mark.parametrize("end", [0, 2 * LONGEST + 1, 7 * LONGEST])
def test_rests_longer_than_a_delta_time_are_written_in_pieces(tick: int, end: int, tmp_path: Path) -> None:
    path = tmp_path / "long.mid"
    events = [(tick, mido.Message("note_on", note=60)), (tick, mido.Message("note_off", note=60))]
    mido.MidiFile(tracks=[untimed(events, end=end)]).save(path)
    (track,) = parse(path.read_bytes()).tracks  # the reader refuses longer delta times
    assert [event.tick for event in track if event.data[0] < 0xF0] == [tick, tick]
    assert track[-1].meta == END_OF_TRACK
    assert track[-1].tick == max(tick, end)


def test_messages_are_copied_unchanged_whatever_they_hold() -> None:
    odd = mido.MetaMessage("time_signature")
    vars(odd)["denominator"] = 2**29  # mido reads this, and refuses to copy it with another time
    track = untimed([(5, odd)], end=0)
    assert (track[0].denominator, track[0].time, odd.time) == (2**29, 5, 0)
