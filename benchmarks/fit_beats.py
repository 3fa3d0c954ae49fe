"""Count in scores what `adaptgen.domains.music.beats` takes to be usual: how onsets follow each other in bars.

    python benchmarks/fit_beats.py --data FOLDER/openscore_lieder/train -o adaptgen/domains/music/metres.json

Of every file below FOLDER the onsets are counted that stand exactly on its grid. Metres whose bars look alike count as
one: 2/2 as 4/4, 3/8 and 3/2 as 3/4, and 9/8 and 12/8, whose beats are dotted quarters, as 3/4 of triplets and as 6/8.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from command import run_command
from rich.console import Console

from adaptgen.cli.common import progress_bar, write_new
from adaptgen.domains.music.beats import METRES, MOVES, NUM_KINDS, Onsets
from adaptgen.domains.music.grid import STEPS_PER_BEAT
from adaptgen.domains.music.song import Song, read_song
from adaptgen.errors import InputFileError

COUNTED_AS = {
    (4, 4): ("4/4", 1.0),
    (2, 2): ("4/4", 1.0),
    (3, 4): ("3/4", 1.0),
    (3, 8): ("3/4", 0.5),
    (3, 2): ("3/4", 2.0),
    (9, 8): ("3/4", 1.5),
    (2, 4): ("2/4", 1.0),
    (6, 8): ("6/8", 1.5),
    (12, 8): ("6/8", 1.5),
}
"""The metre that bars of another look like, and the quarters that one of its beats lasts there."""
LARGEST_ERROR_STEPS = 0.05
LEAST_ONSETS = 20


def count(song: Song, moves: dict[str, np.ndarray], kinds: dict[str, np.ndarray]) -> None:
    """Add the onsets of a song to counts `[P, M]` of moves and `[P, NUM_KINDS]` of kinds of each metre."""
    notes = sorted((note.start, note.pitch) for part in song.parts for note in part.notes if not part.is_drums)
    ticks = np.unique([start for start, _ in notes])
    if len(ticks) < LEAST_ONSETS:
        return
    # Ticks as if they were seconds: what stands on a tick is one onset, and nothing else is.
    onsets = Onsets.of([(float(start), pitch) for start, pitch in notes])
    for index, (tick, kind) in enumerate(zip(ticks, onsets.kinds, strict=True)):
        bar = song.bars.index(tick)
        if song.bars.metre(bar) not in COUNTED_AS:
            continue
        name, beat_quarters = COUNTED_AS[song.bars.metre(bar)]
        step_ticks = song.ticks_per_beat * beat_quarters / STEPS_PER_BEAT
        place = (tick - song.bars.start(bar)) / step_ticks
        if abs(place - round(place)) > LARGEST_ERROR_STEPS:
            continue
        row = round(place) % len(kinds[name])
        kinds[name][row, kind] += 1
        if index + 1 == len(ticks) or song.bars.metre(song.bars.index(ticks[index + 1])) != song.bars.metre(bar):
            continue
        steps = (ticks[index + 1] - tick) / step_ticks
        if abs(steps - round(steps)) <= LARGEST_ERROR_STEPS and steps <= MOVES[-1]:
            moves[name][row, np.abs(MOVES - round(steps)).argmin()] += 1


def main(
    data: Annotated[Path, typer.Option(help="A folder of scores.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to store the counts.")],
) -> None:
    paths, num_skipped = sorted(data.rglob("*.mid")), 0
    if not paths:
        raise InputFileError(f"{data} has no .mid files", "Give a folder of scores with --data")
    moves = {metre.name: np.zeros((metre.num_steps, len(MOVES)), dtype=int) for metre in METRES}
    kinds = {metre.name: np.zeros((metre.num_steps, NUM_KINDS), dtype=int) for metre in METRES}
    with progress_bar() as bar:
        for path in bar.track(paths, description="counting"):
            try:
                count(read_song(path), moves, kinds)
            except InputFileError:
                num_skipped += 1
    counts = {name: {"moves": moves[name].tolist(), "kinds": kinds[name].tolist()} for name in moves}
    source = f"onsets counted in {len(paths) - num_skipped} scores of OpenScore Lieder (CC0)"
    write_new(
        output, (json.dumps({"source": source, "counts": counts}, separators=(",", ":")) + "\n").encode(), force=True
    )
    console = Console()
    for name in counts:
        console.print(f"{name}: {kinds[name].sum():,} onsets")


if __name__ == "__main__":
    run_command(main)
