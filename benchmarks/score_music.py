"""Bits per note of a checkpoint on the test split of each corpus, next to Markov models of the same tokens.

    python benchmarks/score_music.py --checkpoint music --data FOLDER --json benchmarks/results/score_music.json

FOLDER holds the corpora that the recipe of the music checkpoint names, each with train/ and test/ below it. The
Markov models are fitted to the training split of the corpus they are scored on (which was measured to be better
than fitting one to all corpora); the checkpoint is one for all. How much of the test split is known from training is
told by the share of its stretches of 25 notes, in the order of tokens, that the training split has in some key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from ngram import NgramModel, score_with_ngrams
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.domains.base import Tokenizer
from adaptgen.evaluation import DocumentScore, bits_per_unit, score_documents
from adaptgen.shards import Shard, prepare

CORPORA = ("pop909", "openscore_lieder", "groove", "nottingham", "jsb_chorales")
MARKOV_ORDERS = {"bigram": 1, "order-5 Markov": 5}
STRETCH_NOTES = 25


def summarize(scores: list[DocumentScore], *, seed: int) -> dict[str, float]:
    """Bits per note with its 95 % interval, and nats per token."""
    estimate = bits_per_unit(scores, seed=seed)
    tokens = sum(score.num_tokens for score in scores)
    return {
        "bits_per_note": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "nats_per_token": sum(score.nats for score in scores) / tokens,
    }


def share_known(train: Shard, documents: list[np.ndarray], tokenizer: Tokenizer) -> float:
    """Share of the documents' stretches of notes that are in the training split, up to transposition."""
    known = {stretch for document in train.documents() for stretch in _stretches(document, tokenizer)}
    found = [stretch in known for document in documents for stretch in _stretches(document, tokenizer)]
    return float(np.mean(found))


def _stretches(document: np.ndarray, tokenizer: Tokenizer) -> Iterator[bytes]:
    """The intervals of every stretch."""
    pitches = tokenizer.heights_of(document)
    intervals = np.diff(pitches[~np.isnan(pitches)]).astype(np.int8)
    for start in range(len(intervals) - STRETCH_NOTES + 2):
        yield intervals[start : start + STRETCH_NOTES - 1].tobytes()


def score_corpus(
    checkpoint: Checkpoint,
    train: Shard,
    documents: list[np.ndarray],
    *,
    seed: int,
    batch_size: int,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:
    """Figures of all models on one corpus."""
    tokenizer = checkpoint.tokenizer
    started = time.perf_counter()
    scores = score_documents(checkpoint.model, documents, tokenizer, batch_size=batch_size, on_progress=on_progress)
    seconds = time.perf_counter() - started
    models = {"checkpoint": summarize(scores, seed=seed)}
    rows = [document[0] for document in train.documents()]
    for name, order in MARKOV_ORDERS.items():
        ngrams = NgramModel(rows, tokenizer.vocab_sizes[0], order=order)
        models[name] = summarize(score_with_ngrams([ngrams], documents, tokenizer), seed=seed)
    return {
        "documents": len(scores),
        "notes": sum(score.num_units for score in scores),
        "tokens": sum(score.num_tokens for score in scores),
        "share_known": share_known(train, documents, tokenizer),
        "seconds": round(seconds, 1),
        "models": models,
    }


def print_table(corpora: dict[str, dict[str, Any]], console: Console) -> None:
    """One row per corpus, one column per model; below each figure its interval."""
    console.print("Bits per note on the test split, with 95 % intervals over documents")
    table = Table("corpus")
    for heading in ("documents", "notes", "known", "checkpoint", *MARKOV_ORDERS):
        table.add_column(heading, justify="right")
    for name, corpus in corpora.items():
        cells = [
            f"{figures['bits_per_note']:.2f}\n{figures['low']:.2f}-{figures['high']:.2f}"
            for figures in corpus["models"].values()
        ]
        known = f"{corpus['share_known']:.1%}"
        table.add_row(name, str(corpus["documents"]), f"{corpus['notes']:,}", known, *cells)
    console.print(table)


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    json_file: JsonFile = None,
    documents: Annotated[int | None, typer.Option(help="Only so many of each test split, evenly spaced.")] = None,
    batch_size: Annotated[int, typer.Option(help="Documents scored side by side.")] = 4,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score a checkpoint and Markov models on the test split of each corpus."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint)
    chosen, trains = {}, {}
    for name in CORPORA:
        source, config = SourceConfig(path=name), DataConfig(folder=str(data))
        shards, _ = prepare(loaded.domain, loaded.tokenizer, source, config, data)
        trains[name], every = shards["train"], list(shards["test"].documents())
        step = max(1, len(every) // documents) if documents else 1
        chosen[name] = every[::step][:documents]
    corpora = {}
    with progress_bar() as progress:
        total = sum(document.shape[1] - 1 for part in chosen.values() for document in part)
        task = progress.add_task("tokens", total=total, status="")
        for name in CORPORA:
            progress.update(task, status=name)
            corpora[name] = score_corpus(
                loaded,
                trains[name],
                chosen[name],
                seed=seed,
                batch_size=batch_size,
                on_progress=lambda tokens: progress.advance(task, tokens),
            )
    print_table(corpora, Console())
    if json_file is not None:
        about = {"checkpoint": loaded.name, "parameters": loaded.model.num_parameters, "trained": loaded.metrics}
        result = {"run": describe_run(seed=seed), **about, "corpora": corpora}
        write_result(json_file, result)


if __name__ == "__main__":
    run_command(main)
