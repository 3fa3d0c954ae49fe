"""Are beats found where a pianist without a click has them, and does the model read the music better on them?

    python benchmarks/beats_check.py --data FOLDER --json benchmarks/results/beats_check.json

First, how many files of the test split of each corpus below FOLDER are taken to be played without a click. Then FOLDER
holds asap_performance/ and asap_score/, performances and their scores; of the test splits one performance of each piece
is compared with its score. Notes of a score are found in its performance by dynamic time warping over what is struck
together; its beats are where those notes are. Beats that are found (`adaptgen.domains.music.beats`) count by mir_eval's
measures: F, within 70 ms, for beats and for bar lines, and AMLt, the share of beats in stretches that are right at the
score's level, at half or twice its tempo, or off the beat. Last the checkpoint's bits per note of the file, on the
beats that the file says and on those that are found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import mir_eval
import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.domains.music.beats import Beats
from adaptgen.domains.music.corpus import read_documents
from adaptgen.domains.music.retime import keeps_no_grid, retime
from adaptgen.domains.music.song import Song, read_song
from adaptgen.domains.music.tokenizer import MusicTokenizer
from adaptgen.errors import InputFileError
from adaptgen.evaluation import bits_per_unit, paired_difference, score_documents

TOGETHER_SECONDS = 0.035
SKIP_COST, SKIP_WEIGHT = 0.25, 0.7
"""Of an onset that the other side lacks: so much more, and what is unlike in it counts for less."""
LEAST_ALIGNED = 0.85
"""Of a score's onsets; below that the performance is of another version of the piece."""
LARGEST_TABLE = 50_000_000
MEASURES = ("beats, F", "beats, AMLt", "bar lines, F")


def onsets_of(times: np.ndarray, pitches: np.ndarray, *, together: float) -> tuple[np.ndarray, np.ndarray]:
    """Times `[N]` of what is struck together, and the pitches of each, one-hot `[N, 128]`."""
    order = np.argsort(times, kind="stable")
    times, pitches = times[order], pitches[order]
    firsts: list[int] = []
    for index, time in enumerate(times):
        if not firsts or time - times[firsts[-1]] > together:
            firsts.append(index)
    group = np.searchsorted(firsts, np.arange(len(times)), side="right") - 1
    struck = np.zeros((len(firsts), 128))
    struck[group, pitches] = 1
    return times[firsts], struck


def warp(unlike: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of indices along the cheapest path through a table of costs, backwards."""
    rows, columns = unlike.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        cost = unlike[row - 1, column - 1]
        skipped = np.minimum(total[row - 1, column], total[row, column - 1]) + SKIP_WEIGHT * cost + SKIP_COST
        total[row, column] = np.minimum(total[row - 1, column - 1] + cost, skipped)
    row, column = rows, columns
    while row and column:
        yield row - 1, column - 1
        before = {(row - 1, column - 1): -SKIP_COST, (row - 1, column): 0.0, (row, column - 1): 0.0}
        row, column = min(before, key=lambda place: total[place] + before[place])


def align(score: Song, performance: Song) -> tuple[np.ndarray, np.ndarray] | None:
    """Ticks of a score's onsets and the seconds at which they are played, ascending; None if they hardly are."""
    notes = [np.array([(n.start, n.pitch) for part in song.parts for n in part.notes]) for song in (score, performance)]
    ticks, written = onsets_of(notes[0][:, 0], notes[0][:, 1], together=score.ticks_per_beat / 100)
    heard = np.array([performance.tempo.seconds(tick) for tick in notes[1][:, 0]])
    seconds, played = onsets_of(heard, notes[1][:, 1], together=TOGETHER_SECONDS)
    if len(ticks) * len(seconds) > LARGEST_TABLE:
        return None
    common = written @ played.T
    unlike = 1 - 2 * common / (written.sum(1)[:, None] + played.sum(1)[None])
    times: dict[int, list[float]] = {}
    for one, other in warp(unlike):
        if common[one, other]:
            times.setdefault(one, []).append(seconds[other])
    if len(times) < LEAST_ALIGNED * len(ticks):
        return None
    aligned = sorted((int(ticks[index]), float(np.median(each))) for index, each in times.items())
    kept = [aligned[0]]
    for tick, second in aligned[1:]:
        if second > kept[-1][1] + 0.001:
            kept.append((tick, second))
    return np.array([tick for tick, _ in kept]), np.array([second for _, second in kept])


def beats_of(score: Song, ticks: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the beats and of the bar lines of a score; beats of compound metres are dotted."""
    beats, lines = [], []
    bar = score.bars.index(ticks[0]) + 1
    while (end := score.bars.start(bar + 1)) <= ticks[-1]:
        start, (numerator, denominator) = score.bars.start(bar), score.bars.metre(bar)
        quarters = 4 / denominator * (3 if numerator % 3 == 0 and numerator > 3 and denominator >= 8 else 1)
        lines.append(start)
        beats.extend(np.arange(start, end - 1, quarters * score.ticks_per_beat))
        bar += 1
    return np.interp(beats, ticks, seconds), np.interp(lines, ticks, seconds)


def measure(found: Beats, beats: np.ndarray, lines: np.ndarray) -> dict[str, float]:
    """Each measure of beats that were found, where the score has some."""
    within = (found.seconds >= beats[0] - 0.1) & (found.seconds <= beats[-1] + 0.1)
    places = (found.first + np.arange(len(found.seconds))) % found.metre.num_beats
    _, _, _, any_level = mir_eval.beat.continuity(beats, found.seconds[within])
    return {
        MEASURES[0]: float(mir_eval.beat.f_measure(beats, found.seconds[within])),
        MEASURES[1]: float(any_level),
        MEASURES[2]: float(mir_eval.beat.f_measure(lines, found.seconds[within & (places == 0)])),
    }


def piece_of(path: Path) -> str:
    """What is played in a performance: its name without the pianist."""
    return path.stem.rsplit("__", 1)[0]


def count_free(data: Path, split: str) -> dict[str, tuple[int, int]]:
    """Of each corpus, how many files keep no grid, and how many there are."""
    return {
        folder.parent.name: (sum(keeps_no_grid(read_song(path)) for path in paths), len(paths))
        for folder in sorted(data.glob(f"*/{split}"))
        if (paths := sorted(folder.rglob("*.mid")))
    }


def main(
    data: Annotated[Path, typer.Option(help="Folder with asap_performance/ and asap_score/ in it.")],
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    json_file: JsonFile = None,
    split: Annotated[str, typer.Option(help="Which part of the corpora.")] = "test",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Find beats in performances, and compare them with those of their scores."""
    if threads is not None:
        torch.set_num_threads(threads)
    performances = sorted((data / "asap_performance" / split).glob("*.mid"), reverse=True)
    paths = sorted({piece_of(path): path for path in performances}.values())
    if not paths:
        raise InputFileError(f"{data} has no asap_performance/{split}", "Give another folder with --data")
    loaded = load_checkpoint(checkpoint, domain=domains.get("music"))
    tokenizers = [MusicTokenizer(**loaded.tokenizer.to_options() | {"find_beats": find}) for find in (False, True)]
    free = count_free(data, split)
    rows: list[dict[str, Any]] = []
    documents: list[list[np.ndarray]] = [[], []]
    num_notes: list[int] = []
    with progress_bar() as bar:
        task = bar.add_task("performances", total=len(paths), status="")
        for path in paths:
            bar.update(task, status=path.stem[:30], advance=1)
            performance, score_path = (
                read_song(path),
                data / "asap_score" / split / f"{piece_of(path)}.mid",
            )
            retimed = retime(performance)
            if retimed is None:
                rows.append({"file": path.name, "metre": None})
                continue
            for kept, tokenizer in zip(documents, tokenizers, strict=True):
                kept.append(read_documents(path, tokenizer, is_training=False)[0])
            num_notes.append(performance.num_notes)
            row = {"file": path.name, "metre": retimed.beats.metre.name}
            score = read_song(score_path) if score_path.exists() else None
            aligned = align(score, performance) if score else None
            if score and aligned:
                row |= measure(retimed.beats, *beats_of(score, *aligned))
            rows.append(row)
        task = bar.add_task("bits per note", total=2, status="")
        scores = []
        for each in documents:
            of_tokens = score_documents(loaded.model, each, loaded.tokenizer)
            # Of the notes of the file, so that none is cheaper for being lost between two steps.
            scores.append([replace(one, num_units=count) for one, count in zip(of_tokens, num_notes, strict=True)])
            bar.advance(task)
    aligned_rows = [row for row in rows if MEASURES[0] in row]
    means = {name: float(np.mean([row[name] for row in aligned_rows])) for name in MEASURES}
    bits = [bits_per_unit(each, seed=seed) for each in scores]
    difference = paired_difference(scores[1], scores[0], seed=seed)
    console, table = Console(), Table("measure", "performances", "value")
    for corpus, (num_free, total) in free.items():
        table.add_row(f"played without a click, {corpus}", str(total), str(num_free))
    for name, value in means.items():
        table.add_row(name, str(len(aligned_rows)), f"{value:.3f}")
    for name, each in zip(("on the beats of the file", "on those found"), bits, strict=True):
        table.add_row(f"bits per note {name}", str(len(documents[0])), f"{each.value:.2f}")
    interval = f"{difference.value:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"
    table.add_row("difference", str(len(documents[0])), interval)
    console.print(table)
    if json_file is not None:
        result = {
            "run": describe_run(seed=seed),
            "checkpoint": loaded.name,
            "split": split,
            "without_a_click": {corpus: {"found": num, "files": total} for corpus, (num, total) in free.items()},
            "means": means,
            "bits_per_note": {"file": bits[0].value, "found": bits[1].value},
            "difference": [difference.value, difference.low, difference.high],
            "performances": rows,
        }
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
