"""Do the bars that are written for a band come as near to what it plays next as its last bars, pasted again?

    python benchmarks/band_check.py FOLDER --json FILE

Of each song in 4/4 with drums and at least three other parts, 24 bars are given (fewer of a short one) and 16 written.
Part by part the overlapping area of four features of the new bars with the song's own next ones is taken (1: the same
distribution), weighted by the true notes, beside three others: the last eight given bars pasted again, another song's
bars (the floor), and for repetition the share of bars that equal an earlier bar of their part, note for note.

Files are read by symusic, so that nothing of adaptgen's own reading is judged by itself.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import symusic
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.errors import InputFileError

PROMPT_BARS, LEAST_PROMPT_BARS, NEW_BARS, PASTED_BARS = 24, 12, 16, 8
LEAST_PARTS = 4
STEPS = 16
"""Of a bar, on which onsets are compared."""
DRUMS = "drums"
FEATURES = ("register", "onsets", "durations", "density")
RIVALS = ("new", "pasted", "floor")
EPSILON = 1e-3

Notes = list[tuple[float, float, int]]
"""Onset in bars, duration in beats, pitch."""
Parts = dict[Any, Notes]


@dataclass(frozen=True)
class Case:
    """A song and the bar, counted from 0, before which it is cut."""

    path: Path
    parts: Parts
    cut: int


def read_parts(path: Path) -> tuple[Parts, bool]:
    """Notes by part (drums, or name and program), and whether all bars are of 4/4."""
    score = symusic.Score(str(path))
    beat, parts = score.ticks_per_quarter, defaultdict(list)
    for track in score.tracks:
        key = DRUMS if track.is_drum else (track.name, track.program)
        parts[key] += [(note.time / beat / 4, note.duration / beat, note.pitch) for note in track.notes]
    return dict(parts), all((metre.numerator, metre.denominator) == (4, 4) for metre in score.time_signatures)


def find_case(path: Path) -> Case | None:
    """How a file is cut; None if it is no band's, or too short."""
    try:
        parts, is_plain = read_parts(path)
    except (RuntimeError, ValueError, UnicodeDecodeError):
        return None
    if not is_plain or DRUMS not in parts or len(parts) < LEAST_PARTS:
        return None
    onsets = [onset for notes in parts.values() for onset, *_ in notes]
    first, last = int(min(onsets)), max(onsets)
    cut = PROMPT_BARS + first if last >= PROMPT_BARS + first + NEW_BARS else int(last) - NEW_BARS
    return Case(path, parts, cut) if cut - first >= LEAST_PROMPT_BARS else None


def between(parts: Parts, start: int, stop: int) -> Parts:
    """Notes that begin within some bars, counted from the first of these."""
    return {
        key: [(at - start, length, pitch) for at, length, pitch in notes if start - EPSILON <= at < stop - EPSILON]
        for key, notes in parts.items()
    }


def distribution(notes: Notes, feature: str, *, is_drums: bool) -> dict[Any, float]:
    """How often each value of a feature occurs, as shares."""
    if feature == "register":
        counts = Counter(pitch for *_, pitch in notes)
    elif feature == "onsets":
        counts = Counter((round(at % 1 * STEPS) % STEPS, pitch if is_drums else 0) for at, _, pitch in notes)
    elif feature == "durations":
        counts = Counter(0 if is_drums else round(2 * np.log2(max(length, 1 / 32))) for _, length, _ in notes)
    else:
        in_bar = Counter(min(int(at + EPSILON), NEW_BARS - 1) for at, *_ in notes)
        # Half octaves of notes a bar.
        counts = Counter(min(12, int(np.ceil(2 * np.log2(1 + in_bar[bar])))) for bar in range(NEW_BARS))
    total = counts.total()
    return {value: count / total for value, count in counts.items()}


def overlaps(found: Parts, true: Parts) -> dict[str, float]:
    """Mean overlapping area of each feature over the parts that play in either, by the true notes."""
    areas, weights = defaultdict(list), []
    for key, notes in true.items():
        others = found.get(key, [])
        if not notes and not others:
            continue
        weights.append(max(len(notes), 1))
        for feature in FEATURES:
            left, right = (distribution(each, feature, is_drums=key == DRUMS) for each in (others, notes))
            shared = sum(min(left.get(value, 0), share) for value, share in right.items())
            areas[feature].append(shared if left or right else 1.0)
    result = {feature: float(np.average(values, weights=weights)) for feature, values in areas.items()}
    return {**result, "mean": float(np.mean(list(result.values())))}


def repeated_share(new: Parts, past: Parts) -> float:
    """Share of the parts' bars with notes that equal an earlier one of the same part, note for note on sixteenths."""

    def bars(notes: Notes) -> list[frozenset[tuple[int, int]]]:
        by_bar = defaultdict(set)
        for at, _, pitch in notes:
            by_bar[int(at + EPSILON)].add((round(at % 1 * STEPS) % STEPS, pitch))
        return [frozenset(by_bar[bar]) for bar in sorted(by_bar)]

    repeated = total = 0
    for key, notes in new.items():
        seen = set(bars(past.get(key, [])))
        for bar in bars(notes):
            repeated, total = repeated + (bar in seen), total + 1
            seen.add(bar)
    return repeated / total if total else 0.0


def pasted(parts: Parts, cut: int) -> Parts:
    """The last bars before the cut again and again."""
    last = between(parts, cut - PASTED_BARS, cut)
    times = range(0, NEW_BARS, PASTED_BARS)
    return {key: [(at + later, *rest) for later in times for at, *rest in notes] for key, notes in last.items()}


def as_parts_of(true: Parts, other: Parts) -> Parts:
    """Another song's parts dealt out to those of this one, drums to drums."""
    melodic = [notes for key, notes in other.items() if key != DRUMS]
    return {
        key: other.get(DRUMS, []) if key == DRUMS else melodic[index % len(melodic)] for index, key in enumerate(true)
    }


def continued(case: Case, checkpoint: Checkpoint, folder: Path, *, seed: int, adapt: bool) -> Parts:
    """The parts of a song's continuation."""
    request = ContinuationRequest(bars=NEW_BARS, from_bar=case.cut + 1, sound=False)
    (result,) = continue_file(case.path, checkpoint, request, checkpoint.sampling, seed=seed, is_adapting=adapt)
    path = folder / "continued.mid"
    path.write_bytes(result.files[".mid"])
    return read_parts(path)[0]


def check_song(case: Case, other: Case, written: Parts) -> dict[str, Any]:
    """What is printed of one song."""
    past, true = between(case.parts, 0, case.cut), between(case.parts, case.cut, case.cut + NEW_BARS)
    new = between(written, case.cut, case.cut + NEW_BARS)
    floor = as_parts_of(true, between(other.parts, other.cut, other.cut + NEW_BARS))
    return {
        "song": case.path.name,
        "from_bar": case.cut + 1,
        "new": overlaps(new, true),
        "pasted": overlaps(pasted(case.parts, case.cut), true),
        "floor": overlaps(floor, true),
        "notes": sum(map(len, new.values())),
        "true_notes": sum(map(len, true.values())),
        "repeated": repeated_share(new, past),
        "true_repeated": repeated_share(true, past),
    }


def print_result(songs: list[dict[str, Any]], console: Console) -> None:
    """The songs, and the means over them."""
    table = Table("song, mean overlap")
    for heading in (*RIVALS, "notes", "true", "repeated", "true"):
        table.add_column(heading, justify="right")
    for song in songs:
        cells = (f"{song[name]['mean']:.3f}" for name in RIVALS)
        repeats = (f"{song[name]:.2f}" for name in ("repeated", "true_repeated"))
        table.add_row(song["song"], *cells, f"{song['notes']:,}", f"{song['true_notes']:,}", *repeats)
    console.print(table)
    means = Table(f"{len(songs)} songs", *FEATURES, "mean")
    for name in RIVALS:
        values = (np.mean([song[name][feature] for song in songs]) for feature in (*FEATURES, "mean"))
        means.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(means)
    repeats = (np.mean([song[name] for song in songs]) for name in ("repeated", "true_repeated"))
    console.print("bars that equal an earlier one: {:.3f}, of the true ones {:.3f}".format(*repeats))


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of MIDI files.")],
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    json_file: JsonFile = None,
    songs: Annotated[int, typer.Option(min=2, help="How many songs at most.")] = 100,
    adapt: Annotated[bool, typer.Option(help="Let the model learn each song before.")] = True,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the continuations.")] = 1,
) -> None:
    """Compare bands' continuations with what the bands play next, and with their last bars pasted."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint, domain=domains.get("music"))
    cases = [case for path in sorted(folder.rglob("*.mid")) if (case := find_case(path)) is not None][:songs]
    if len(cases) < 2:
        raise InputFileError(f"{folder} has {len(cases)} songs of bands in 4/4 that are long enough", "Give another")
    found = []
    with progress_bar(stderr=True) as progress, tempfile.TemporaryDirectory() as temporary:
        task = progress.add_task("songs", total=len(cases), status="")
        for case, other in zip(cases, [*cases[1:], cases[0]], strict=True):
            written = continued(case, loaded, Path(temporary), seed=seed, adapt=adapt)
            found.append(check_song(case, other, written))
            progress.advance(task)
    print_result(found, Console())
    if json_file is not None:
        write_result(json_file, {"run": describe_run(seed=seed), "checkpoint": loaded.name, "songs": found})


if __name__ == "__main__":
    run_command(main)
