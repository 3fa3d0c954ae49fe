"""Do the songs of a corpus stand on a sixteenth grid, and how far off their file's own beat is it?

    python benchmarks/grid_phase.py FOLDER

FOLDER holds MIDI files at any depth. See `estimate_phase` in adaptgen/domains/music/grid.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from adaptgen.corpus_files import find_files
from adaptgen.domains.music.grid import MIN_CONCENTRATION, STEPS_PER_BEAT, estimate_phase
from adaptgen.domains.music.song import read_song


def main(folder: Path) -> None:
    """Print how many files have a grid, a shift, and one-beat bars."""
    concentrations, phases, one_beat = [], [], 0
    for path in find_files(folder, (".mid", ".midi")):
        song = read_song(path)
        starts = [note.start for part in song.parts for note in part.notes]
        beats = np.array([tick - song.bars.start(song.bars.index(tick)) for tick in starts]) / song.ticks_per_beat
        concentrations.append(abs(np.exp(2j * np.pi * 4 * beats).mean()))
        phases.append(abs(estimate_phase(starts, song.bars)))
        one_beat += song.bars.metre(song.bars.index(max(starts))) == (1, 4)
    clear = sum(value > MIN_CONCENTRATION for value in concentrations)
    shifted = sum(phase > 0.5 / STEPS_PER_BEAT / 2 for phase in phases)
    print(f"files                                   {len(phases)}")
    print(f"on a sixteenth grid (mean length > {MIN_CONCENTRATION})  {clear}")
    print(f"median mean length                      {np.median(concentrations):.3f}")
    print(f"shifted by more than 1/48 beat          {shifted}")
    print(f"end in bars of 1/4                      {one_beat}")


if __name__ == "__main__":
    typer.run(main)
