"""Music as it would be played without a click, and the bars that are found in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from guarantees import Found, Promise
from odd_files import build

from adaptgen.domains.music.plan import find_join_bar
from adaptgen.domains.music.retime import retime
from adaptgen.domains.music.song import Song, read_song

TICKS_A_SECOND = 960
"""Of a file that says 120 quarters of 480 ticks a minute, as recorders do."""
NUM_BARS = 60


def play_freely(song: Song, *, seed: int = 0, quarter_seconds: float = 0.6) -> tuple[bytes, np.ndarray]:
    """A song's first bars in a tempo that wanders by tens of percent, with notes a hundredth of a second early or late.

    Returns:
        A file without bars of its own, and the seconds at which the song's bars begin.
    """
    rng = np.random.default_rng(seed)
    end = song.bars.start(NUM_BARS)
    num_quarters = end // song.ticks_per_beat + 16
    swell = 0.15 * np.sin(np.arange(num_quarters) / 5 + seed)
    lengths = quarter_seconds * np.exp(swell + np.cumsum(rng.normal(0, 0.02, num_quarters)))
    seconds_at = 0.5 + np.concatenate([[0.0], np.cumsum(lengths)])

    def seconds(tick: float) -> float:
        return float(np.interp(tick / song.ticks_per_beat, np.arange(len(seconds_at)), seconds_at))

    events = []
    for channel, part in enumerate(song.parts):
        for note in part.notes:
            if note.start < end:
                first, last = (seconds(tick) + rng.normal(0, 0.01) for tick in (note.start, note.end))
                start = max(0, round(first * TICKS_A_SECOND))
                stop = max(start + 10, round(last * TICKS_A_SECOND) - 5)
                events.append((start, bytes([0x90 | channel, note.pitch, note.velocity])))
                events.append((stop, bytes([0x80 | channel, note.pitch, 0])))
    last_start = max(note.start for part in song.parts for note in part.notes if note.start < end)
    lines = [seconds(song.bars.start(bar)) for bar in range(song.bars.index(last_start) + 1)]
    return build(events), np.array(lines)


def find_bars(path: Path, promise: Promise) -> Found | None:
    """The bars that are found in a file, from the join on; None if it has bars of its own."""
    retimed = retime(read_song(path))
    if retimed is None:
        return None
    if promise.from_bar is None:
        join_bar = find_join_bar(retimed.song)
    else:
        join_bar = promise.from_bar - 1
        retimed = retimed.cut(retimed.song.bars.start(join_bar))
    bars = retimed.song.bars
    lines = [retimed.line_tick(bars.start(join_bar + count)) for count in range(200)]
    quarter = retimed.line_tick(bars.start(join_bar) + bars.ticks_per_beat) - lines[0]
    return Found(lines, quarter)
