"""Are new notes played as the song's own are, early, late and short?

    python benchmarks/feel_check.py --data FOLDER --json benchmarks/results/feel_check.json

Songs of the test splits below FOLDER are cut in the middle, and as many bars written as eight of 4/4 last. Of what is
given, what really follows and what is written it takes how far each note stands from the nearest sixteenth of the bar,
and, but for drums, which share of its note value it sounds for. Two such distributions are as far apart as their
quantiles are on average (the 1-Wasserstein distance): in milliseconds, and in hundredths of a note value. Beside the
new notes as they are played there are the same on the grid, and what is given, which the player himself varies by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.config import DataConfig
from adaptgen.continuation import continue_file
from adaptgen.corpus_files import split_files
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.music.corpus import grid_of
from adaptgen.domains.music.grid import STEPS_PER_BEAT, STEPS_PER_SIXTEENTH, Grid, snap_duration
from adaptgen.domains.music.song import Note, Song, parse_song, read_song
from adaptgen.errors import InputFileError

CORPORA = ("groove", "pop909")
NEW_BEATS = 32
LEAST_NOTES = 24
QUANTILES = np.linspace(0.005, 0.995, 100)
MEASURES = ("timing in ms", "share of note values in %")
KINDS = ("given", "on the grid", "as played")


def timing_ms(song: Song, notes: Iterable[tuple[Note, bool]], grid: Grid, *, on_grid: bool = False) -> np.ndarray:
    """How late after the nearest sixteenth of their bar notes are, on the grid's steps or as they are."""
    late = []
    for note, _ in notes:
        tick = grid.tick(*grid.place(note.start)) if on_grid else note.start
        steps = (tick - song.bars.start(song.bars.index(tick))) * STEPS_PER_BEAT / song.ticks_per_beat
        off = steps - STEPS_PER_SIXTEENTH * round(steps / STEPS_PER_SIXTEENTH)
        beat_ms = 1000 * (song.tempo.seconds(tick + song.ticks_per_beat) - song.tempo.seconds(tick))
        late.append(off * beat_ms / STEPS_PER_BEAT)
    return np.array(late)


def held_percent(song: Song, notes: Iterable[tuple[Note, bool]], *, on_grid: bool = False) -> np.ndarray:
    """How much of its note value each note sounds for, drums left out."""
    steps = [(n.end - n.start) * STEPS_PER_BEAT / song.ticks_per_beat for n, is_drum in notes if not is_drum]
    return np.array([100.0 if on_grid else 100 * each / snap_duration(each) for each in steps])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.quantile(one, QUANTILES) - np.quantile(other, QUANTILES)).mean())


def check_song(path: Path, checkpoint: Checkpoint, *, seed: int) -> dict[str, dict[str, float]] | None:
    """Distances to what really follows, by measure and kind; None if a song is too short."""
    song = read_song(path)
    grid, bars = grid_of(song), song.bars
    notes = sorted((note, part.is_drums) for part in song.parts for note in part.notes)
    last = bars.index(notes[-1][0].start)
    join_bar = last // 2
    length = bars.start(join_bar + 1) - bars.start(join_bar) if join_bar else 0
    if not length or bars.start(join_bar) + NEW_BEATS * song.ticks_per_beat > bars.start(last + 1):
        return None
    num_bars = max(1, NEW_BEATS * song.ticks_per_beat // length)
    start, stop = bars.start(join_bar), bars.start(join_bar + num_bars)
    request = ContinuationRequest(bars=num_bars, from_bar=join_bar + 1, sound=False)
    (result,) = continue_file(path, checkpoint, request, checkpoint.sampling, variations=1, seed=seed)
    made = parse_song(result.files[".mid"], name=str(path))
    new = [(n, part.is_drums) for part in made.parts for n in part.notes if start <= n.start < stop]
    given = [each for each in notes if each[0].start < start]
    truth = [each for each in notes if start <= each[0].start < stop]
    if min(len(given), len(truth), len(new)) < LEAST_NOTES:
        return None
    played = {"given": (given, False), "on the grid": (new, True), "as played": (new, False)}
    real_ms, real_percent = timing_ms(song, truth, grid), held_percent(song, truth)
    timing = {
        kind: distance(timing_ms(song, each, grid, on_grid=on_grid), real_ms)
        for kind, (each, on_grid) in played.items()
    }
    held = {kind: held_percent(song, each, on_grid=on_grid) for kind, (each, on_grid) in played.items()}
    distances = {MEASURES[0]: timing}
    if len(real_percent) and all(len(each) for each in held.values()):
        distances[MEASURES[1]] = {kind: distance(each, real_percent) for kind, each in held.items()}
    return distances


def check_corpus(paths: Sequence[Path], checkpoint: Checkpoint, *, songs: int, seed: int) -> list[dict]:
    """The first songs that are long enough."""
    found: list[dict[str, dict[str, float]]] = []
    with progress_bar() as bar:
        task = bar.add_task(paths[0].parts[-3], total=songs, status="")
        for path in paths:
            checked = check_song(path, checkpoint, seed=seed)
            if checked is not None:
                found.append(checked)
                bar.advance(task)
            if len(found) == songs:
                break
    return found


def main(
    data: Annotated[Path, typer.Option(help="Folder with groove/ and pop909/ in it.")],
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    json_file: JsonFile = None,
    songs: Annotated[int, typer.Option(min=1, help="How many of each corpus.")] = 30,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
) -> None:
    """Compare how notes are played with how the songs go on to be played."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded, console, rows = load_checkpoint(checkpoint, domain=domains.get("music")), Console(), []
    table = Table("corpus", "distance from what follows", "songs", *KINDS)
    for corpus in CORPORA:
        files = split_files(data / corpus, domains.get("music").suffixes, DataConfig(folder=str(data)))
        paths = [path for path, _ in files["test"]]
        if not paths:
            raise InputFileError(f"{data} has no {corpus}/ with a test split", "Give another folder with --data")
        found = check_corpus(paths, loaded, songs=songs, seed=seed)
        for measure in MEASURES:
            distances = [each[measure] for each in found if measure in each]
            if distances:
                means = {kind: float(np.mean([each[kind] for each in distances])) for kind in KINDS}
                rows.append({"corpus": corpus, "measure": measure, "songs": len(distances), **means})
                table.add_row(corpus, measure, str(len(distances)), *(f"{means[kind]:.1f}" for kind in KINDS))
    console.print(table)
    if json_file is not None:
        write_result(json_file, {"run": describe_run(seed=seed), "checkpoint": loaded.name, "distances": rows})


if __name__ == "__main__":
    run_command(main)
