"""What the shipped speech codec keeps of recordings that it was not fitted to.

    python benchmarks/score_codec.py --data FOLDER --json benchmarks/results/score_codec.json

FOLDER holds kathleen/ (a voice that the codec knows) and speechocean762/ (speakers that it does not), each with sound
files below test/. Needs the extra `score`. Every file counts the same; the interval is a bootstrap over files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import run_command
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen.cli.common import new_console, progress_bar
from adaptgen.data import find_files
from adaptgen.domains.speech.codecs import DEFAULT_CODEC, load_codec
from adaptgen.domains.speech.metrics import score_codec
from adaptgen.domains.speech.sound import SUFFIXES, open_sound, read_mono
from adaptgen.errors import InputFileError

CORPORA = ("kathleen", "speechocean762")
FIGURES = ("stoi", "pesq", "mel_distance_db", "pitch_error_semitones", "real_time_factor")
NUM_RESAMPLES = 2000


def summarize(values: list[float], *, seed: int) -> dict[str, float | int]:
    """Mean with its 95 % interval, and of how many files."""
    array = np.array(values)
    drawn = np.random.default_rng(seed).integers(len(array), size=(NUM_RESAMPLES, len(array)))
    low, high = np.quantile(array[drawn].mean(axis=1), [0.025, 0.975])
    return {"mean": float(array.mean()), "low": float(low), "high": float(high), "files": len(array)}


def print_table(corpora: dict[str, list[dict[str, Any]]], console: Console) -> None:
    """One row per corpus and number of streams."""
    table = Table("corpus", box=None)
    for heading in ("codebooks", "bits/s", "files", *(name.replace("_", " ") for name in FIGURES)):
        table.add_column(heading, justify="right")
    for corpus, rows in corpora.items():
        for row in rows:
            cells = [f"{row[name]['mean']:.3f}" if row[name] else "-" for name in FIGURES]
            table.add_row(corpus, str(row["codebooks"]), str(row["bits_per_second"]), str(row["files"]), *cells)
    console.print(table)


def main(
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    codec: Annotated[str, typer.Option(help="Name of the codec.")] = DEFAULT_CODEC,
    weights: Annotated[Path | None, typer.Option(help="Folder of its weights; those that ship if not given.")] = None,
    codebooks: Annotated[str, typer.Option(help="Numbers of streams.")] = "3,6,8,10",
    files: Annotated[int | None, typer.Option(help="Only so many of each corpus, evenly spaced.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to store the figures.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score a codec on the test split of each corpus."""
    torch.set_num_threads(1)
    chosen = load_codec(codec, weights=weights)
    counts = [int(count) for count in codebooks.split(",")]
    corpora: dict[str, list[dict[str, Any]]] = {}
    with progress_bar() as progress:
        for corpus in CORPORA:
            paths = find_files(data / corpus / "test", SUFFIXES)
            if not paths:
                raise InputFileError(f"{data / corpus / 'test'} has no sound files", "Give another folder with --data")
            paths = paths[:: max(1, len(paths) // files)][:files] if files else paths
            task = progress.add_task(corpus, total=len(paths), status="files")
            scored = []
            for path in paths:
                samples, _ = read_mono(open_sound(path), sample_rate_hz=chosen.sample_rate_hz)
                scored.append(score_codec(chosen, samples, stream_counts=counts))
                progress.advance(task)
            corpora[corpus] = []
            for index, count in enumerate(counts):
                rows = [file[index] for file in scored]
                known = {name: [row[name] for row in rows if row[name] is not None] for name in FIGURES}
                summary = {name: summarize(values, seed=seed) if values else None for name, values in known.items()}
                about = {"codebooks": count, "bits_per_second": rows[0]["bits_per_second"], "files": len(rows)}
                corpora[corpus].append({**about, **summary})
    print_table(corpora, new_console())
    if json_file is not None:
        about = {"codec": chosen.fingerprint, "fitted": getattr(chosen, "about", {})}
        result = {"run": describe_run(seed=seed), **about, "corpora": corpora}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
