"""Fit recall to the validation split of each corpus, and measure what it saves on the test split.

    python benchmarks/fit_recall.py --checkpoint music --data FOLDER --json benchmarks/results/recall_music.json

FOLDER holds the corpora that the checkpoint was trained on, by the names that its metrics have. `--write` keeps the
fitted numbers in the checkpoint's config.json, as `adaptgen train` does at the end of a run; without it the
checkpoint's own are measured, if it has any.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_recall
from adaptgen.cli.common import progress_bar
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.evaluation import DocumentScore, bits_per_unit, paired_difference, score_documents
from adaptgen.recall import Recall
from adaptgen.shards import Shard, prepare
from adaptgen.training.recall import choose_documents, fit_recall

LARGEST_DOCUMENT = 20_000
"""Frames; of a novel this much is read."""


def figures(scores: list[DocumentScore], *, seed: int) -> dict[str, float | None]:
    """Bits per unit with the 95 % interval over documents."""
    return asdict(bits_per_unit(scores, seed=seed))


def measure(checkpoint: Checkpoint, documents: list[np.ndarray], recall: Recall, *, seed: int) -> dict[str, Any]:
    """The model alone and with recall, on the same documents."""
    alone = score_documents(checkpoint.model, documents, checkpoint.tokenizer)
    recalling = score_documents(checkpoint.model, documents, checkpoint.tokenizer, recall=recall)
    return {
        "documents": len(documents),
        "units": sum(score.num_units for score in alone),
        "model": figures(alone, seed=seed),
        "with_recall": figures(recalling, seed=seed),
        "difference": asdict(paired_difference(recalling, alone, seed=seed)),
    }


def evenly(shard: Shard, count: int) -> list[np.ndarray]:
    """So many documents, evenly spaced, the beginning of long ones."""
    every = list(shard.documents())
    chosen = [every[index * len(every) // count] for index in range(count)] if count < len(every) else every
    return [document[:, :LARGEST_DOCUMENT] for document in chosen]


def main(
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")],
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    documents: Annotated[int, typer.Option(help="Measure at most this many of each test split.")] = 20,
    write: Annotated[bool, typer.Option("--write", help="Fit, and keep what is fitted in the checkpoint.")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json_file: JsonFile = None,
    threads: Threads = 1,
) -> None:
    """Fit, measure, and print a table."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint)
    names = [name for name, value in loaded.metrics["validation"].items() if isinstance(value, dict)]
    shards = {}
    for name in names:
        source, config = SourceConfig(path=name), DataConfig(folder=str(data))
        shards[name], _ = prepare(loaded.domain, loaded.tokenizer, source, config, data)
    recall = loaded.recall
    if write:
        sources = choose_documents([parts["validation"] for parts in shards.values()])
        with progress_bar() as progress:
            total = sum(document.shape[1] for chosen in sources for document in chosen)
            task = progress.add_task("fitting", total=total, status="")
            recall = fit_recall(loaded.model, sources, on_progress=lambda count: progress.advance(task, count))
        save_recall(find_checkpoint(checkpoint), recall)
    result = {"run": describe_run(seed=seed), "checkpoint": checkpoint, "recall": None, "corpora": {}}
    if recall is None:
        Console().print("Recall does not help this checkpoint.")
    else:
        result["recall"] = asdict(recall)
        with progress_bar() as progress:
            task = progress.add_task("measuring", total=len(names), status="")
            for name in names:
                progress.update(task, status=name)
                chosen = evenly(shards[name]["test"], documents)
                result["corpora"][name] = measure(loaded, chosen, recall, seed=seed)
                progress.advance(task)
        table = Table("corpus", "documents", "model", "with recall", "difference", box=None)
        for name, found in result["corpora"].items():
            difference = found["difference"]
            interval = "" if difference["low"] is None else f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
            table.add_row(
                name,
                str(found["documents"]),
                f"{found['model']['value']:.3f}",
                f"{found['with_recall']['value']:.3f}",
                f"{difference['value']:+.3f}{interval}",
            )
        Console().print(f"Bits per {loaded.tokenizer.unit_name}:")
        Console().print(table)
    if json_file is not None:
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
