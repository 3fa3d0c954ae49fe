"""Are continuations like what the song really does next?

    python benchmarks/musical_check.py --checkpoint music --data FOLDER --json benchmarks/results/musical_check.json

From songs of POP909 that no training saw (its test split below FOLDER/pop909), 8 bars are given and 16 written. What
is written is compared with the song's own next 16 bars by the overlapping areas of `musical_metrics.py`, next
to two bounds: what other songs do at that place (floor) and what the same song does later (ceiling). With
`--sweep` a grid of sampling settings is tried, on songs of the validation split: all of them on a few songs, then
those that came nearest the ceiling on all, and the one nearest then is named.

Most files of POP909 count every beat as a bar of 1/4, and some write 2/4, for what is plain 4/4. A bar here is
therefore four beats, counted from the start of the file, wherever the file's metre divides it; the continuation
is asked to go on from that beat for as many of the file's bars as are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, Threads, describe_sampling, run_command, write_result
from musical_metrics import (
    FEATURES,
    Excerpt,
    bars_in_four_beats,
    compare,
    cut_excerpt,
    longest_repetition,
)
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
from adaptgen.domains.music.grid import Grid
from adaptgen.domains.music.song import parse_song, read_song
from adaptgen.errors import InputFileError
from adaptgen.sampling import Sampling

CORPUS = "pop909"
PROMPT_BARS, NEW_BARS = 8, 16
LONGEST_RUN = 4
"""Equal bars in a row; more where the truth has no more are taken as stuck."""
LARGEST_STUCK_SHARE = 0.05
CROWDED = 2.0
"""Times the notes of the busiest bar that the song has, in what is given or what really follows."""
MEASURES = (*FEATURES, "mean")
FIRST_ROUND_SONGS, SECOND_ROUND_SETTINGS = 6, 5
"""Of a sweep. Few songs sort out what is far off; what is left differs by less than six songs can tell."""
GRID = [
    Sampling(temperature=temperature, **keep)
    for temperature in (0.8, 0.9, 1.0)
    for keep in (
        {},
        *({"top_p": top_p} for top_p in (0.9, 0.95)),
        *({"min_p": min_p} for min_p in (0.02, 0.05, 0.1)),
    )
]


@dataclass(frozen=True)
class Case:
    """One song: where to cut it, and what really follows.

    Attributes:
        group: how many of the file's bars make one of four beats.
        join_bar: the file's bar, from 0, at which the new part begins.
        truth: the song's own next bars.
        later: the bars after those, in stretches of the same length.
        busiest: notes of the fullest bar of those given and those next.
    """

    path: Path
    grid: Grid
    group: int
    join_bar: int
    truth: Excerpt
    later: list[Excerpt]
    busiest: int


def load_case(path: Path) -> Case | None:
    """Cut a song; None if it is too short to have a truth and something after it."""
    song = read_song(path)
    grid = grid_of(song)
    group = bars_in_four_beats(song.bars.metre(0)) if len(song.bars.segments) == 1 else 1
    places = [grid.place(note.start)[0] // group for part in song.parts for note in part.notes]
    join, stop = min(places) + PROMPT_BARS, max(places) + 1
    stretches = [
        cut_excerpt(song, grid, first_bar=first * group, num_bars=NEW_BARS, group=group)
        for first in range(join, stop - NEW_BARS + 1, NEW_BARS)
    ]
    if len(stretches) < 2:
        return None
    given = cut_excerpt(song, grid, first_bar=min(places) * group, num_bars=PROMPT_BARS, group=group)
    busiest = max(most_notes(given), most_notes(stretches[0]))
    return Case(path, grid, group, join * group, stretches[0], stretches[1:], busiest)


def most_notes(excerpt: Excerpt) -> int:
    """Notes of the fullest bar."""
    return max(len(bar) for bar in excerpt.bars)


def load_cases(data: Path, splits: Sequence[str], num_songs: int) -> list[Case]:
    """The first songs, in the order of their names, that are long enough."""
    files = split_files(data / CORPUS, domains.get("music").suffixes, DataConfig(folder=str(data)))
    cases = (load_case(path) for split in splits for path, _ in files[split])
    found = [case for case, _ in zip((case for case in cases if case), range(num_songs), strict=False)]
    if not found:
        raise InputFileError(
            f"{data} has no pop909/ with songs that are long enough", "Give another folder with --data"
        )
    return found


def mean_of(areas: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure."""
    return {name: float(np.mean([area[name] for area in areas])) for name in MEASURES}


def bounds(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """What other songs and the same song have in common with the truth, on average over songs."""
    floor, ceiling = [], []
    for case in cases:
        others = [other.truth for other in cases if other is not case]
        floor.append(mean_of([compare(other, case.truth) for other in others]))
        ceiling.append(mean_of([compare(later, case.truth) for later in case.later]))
    return {"floor": mean_of(floor), "ceiling": mean_of(ceiling)}


def check_song(
    case: Case,
    checkpoint: Checkpoint,
    sampling: Sampling,
    *,
    seed: int,
    on_progress: Callable[[float], None],
) -> dict[str, Any]:
    """Continue one song and compare."""
    request = ContinuationRequest(bars=NEW_BARS * case.group, from_bar=case.join_bar + 1, sound=False)
    results = continue_file(case.path, checkpoint, request, sampling, seed=seed, on_progress=on_progress)
    song = parse_song(results[0].files[".mid"], name=f"the continuation of {case.path.name}")
    written = cut_excerpt(
        song,
        Grid(song.bars, phase=case.grid.phase),
        first_bar=case.join_bar,
        num_bars=NEW_BARS,
        group=case.group,
    )
    run, true_run = longest_repetition(written), longest_repetition(case.truth)
    return {
        "song": case.path.name,
        "areas": compare(written, case.truth),
        "notes": len(written.notes),
        "true_notes": len(case.truth.notes),
        "longest_repetition": run,
        "true_longest_repetition": true_run,
        "is_stuck": run > LONGEST_RUN >= true_run,
        "most_notes": most_notes(written),
        "song_most_notes": case.busiest,
        "is_crowded": most_notes(written) > CROWDED * case.busiest,
    }


def check(
    cases: Sequence[Case],
    checkpoint: Checkpoint,
    sampling: Sampling,
    *,
    seed: int,
    on_progress: Callable[[float], None] = lambda num_songs: None,
) -> dict[str, Any]:
    """Continue all songs with one setting; `on_progress` gets the number of songs done, with fractions."""
    songs = []
    for index, case in enumerate(cases):
        songs.append(
            check_song(
                case,
                checkpoint,
                sampling,
                seed=seed,
                on_progress=lambda share, index=index: on_progress(index + share),
            )
        )
    return {
        "sampling": asdict(sampling),
        "areas": mean_of([song["areas"] for song in songs]),
        "stuck_share": float(np.mean([song["is_stuck"] for song in songs])),
        "crowded_share": float(np.mean([song["is_crowded"] for song in songs])),
        "notes_per_true_note": sum(s["notes"] for s in songs) / sum(s["true_notes"] for s in songs),
        "songs": songs,
    }


def check_all(
    cases: Sequence[Case], checkpoint: Checkpoint, settings: Sequence[Sampling], *, seed: int
) -> list[dict[str, Any]]:
    """Continue all songs with each setting, showing a progress bar."""
    results = []
    with progress_bar() as progress:
        task = progress.add_task("songs", total=len(settings) * len(cases), status="")
        for index, sampling in enumerate(settings):
            progress.update(task, status=describe_sampling(asdict(sampling)))
            done = index * len(cases)
            results.append(
                check(
                    cases,
                    checkpoint,
                    sampling,
                    seed=seed,
                    on_progress=lambda count, done=done: progress.update(task, completed=done + count),
                )
            )
    return results


def distance(result: dict[str, Any], ceiling: dict[str, float]) -> float:
    """Mean over features of how far a setting's overlapping area is from the ceiling's."""
    return float(np.mean([abs(result["areas"][name] - ceiling[name]) for name in FEATURES]))


def nearest(results: Sequence[dict[str, Any]], ceiling: dict[str, float]) -> dict[str, Any]:
    """The setting nearest the ceiling, of those that are seldom stuck if there are any."""
    moving = [result for result in results if result["stuck_share"] <= LARGEST_STUCK_SHARE]
    return min(moving or results, key=lambda result: distance(result, ceiling))


def print_result(result: dict[str, Any], limits: dict[str, dict[str, float]], console: Console) -> None:
    """One row per feature."""
    console.print(f"{len(result['songs'])} songs, {describe_sampling(result['sampling'])}")
    table = Table("overlap with the truth")
    for heading in ("other songs", "continuation", "same song later"):
        table.add_column(heading, justify="right")
    for name in MEASURES:
        values = (limits["floor"][name], result["areas"][name], limits["ceiling"][name])
        table.add_row(name, *(f"{value:.3f}" for value in values), end_section=name == MEASURES[-2])
    console.print(table)
    console.print(f"stuck: {result['stuck_share']:.1%} of continuations")
    console.print(f"with a bar of more than {CROWDED:g} times the notes: {result['crowded_share']:.1%}")
    console.print(f"notes written for each note of the truth: {result['notes_per_true_note']:.2f}")


def print_sweep(results: Sequence[dict[str, Any]], ceiling: dict[str, float], console: Console) -> None:
    """One row per setting, nearest first."""
    table = Table(f"sampling, {len(results[0]['songs'])} songs")
    for heading in ("distance", "mean", "stuck", "notes"):
        table.add_column(heading, justify="right")
    for result in sorted(results, key=lambda result: distance(result, ceiling)):
        table.add_row(
            describe_sampling(result["sampling"]),
            f"{distance(result, ceiling):.4f}",
            f"{result['areas']['mean']:.3f}",
            f"{result['stuck_share']:.0%}",
            f"{result['notes_per_true_note']:.2f}",
        )
    console.print(table)


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    data: Annotated[Path, typer.Option(help="Folder with pop909/ in it.")] = Path("data"),
    json_file: JsonFile = None,
    songs: Annotated[int, typer.Option(min=2, help="How many songs.")] = 40,
    sweep: Annotated[bool, typer.Option("--sweep", help="Try a grid of settings on validation songs.")] = False,
    temperature: Annotated[float | None, typer.Option(help="The checkpoint's own settings if none is given.")] = None,
    top_k: Annotated[int | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    min_p: Annotated[float | None, typer.Option()] = None,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
) -> None:
    """Compare continuations with what the songs really do next."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint, domain=domains.get("music"))
    given = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    if sweep:
        settings = GRID
    elif temperature is None and not any(given.values()):
        settings = [loaded.sampling]
    else:
        settings = [Sampling(temperature=1.0 if temperature is None else temperature, **given)]
    cases = load_cases(data, ("validation",) if sweep else ("test", "validation"), songs)
    limits, console, rounds = bounds(cases), Console(), {}
    if sweep:
        few = cases[:FIRST_ROUND_SONGS]
        ceiling = bounds(few)["ceiling"]
        first_round = check_all(few, loaded, settings, seed=seed)
        first_round.sort(key=lambda result: distance(result, ceiling))
        settings = [Sampling(**result["sampling"]) for result in first_round[:SECOND_ROUND_SETTINGS]]
        print_sweep(first_round, ceiling, console)
        rounds["first_round"] = first_round
    results = check_all(cases, loaded, settings, seed=seed)
    best = nearest(results, limits["ceiling"])
    if sweep:
        print_sweep(results, limits["ceiling"], console)
    print_result(best, limits, console)
    if json_file is not None:
        about = {"checkpoint": loaded.name, "trained": loaded.metrics}
        result = {"run": describe_run(seed=seed), **about, **limits, "best": best, **rounds, "results": results}
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
