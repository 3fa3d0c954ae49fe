"""Bits per second of checkpoints on the test split of each corpus, next to Markov models of the same codes.

    python benchmarks/score_speech.py --checkpoint speech --checkpoint TWIN --data FOLDER \
        --json benchmarks/results/score_speech.json

FOLDER holds the corpora that the recipe of the speech checkpoint names, each with train/ and test/ below it, and
asterisk_en/, whose voice no training heard. Further checkpoints, such as the plain twin, must have the codec of the
first, which they are compared with. Of each stream of codes a Markov model is fitted to the training splits of the
corpora in the recipe; it sees the past of that stream alone, and codes alone: a checkpoint is also charged for the
places that the delay of the streams leaves empty, and so for telling where a recording ends. Beside the sum there are
the nats per frame of each codebook, whose first is the coarsest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
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

from adaptgen import domains
from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import new_console, progress_bar
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.domains.base import Tokenizer
from adaptgen.domains.speech.tokenizer import ABSENT
from adaptgen.errors import CheckpointError, InputFileError
from adaptgen.evaluation import (
    DocumentScore,
    bits_per_unit,
    bits_per_unit_by_stream,
    paired_difference,
    score_documents,
)
from adaptgen.shards import Shard, prepare

TRAINED_ON = ("kathleen", "speechocean762", "ljspeech_sample")
UNSEEN = ("asterisk_en",)
MARKOV_ORDERS = {"frequencies": 0, "bigram": 1}


def load_all(names: Sequence[str]) -> list[Checkpoint]:
    """Checkpoints of one codec."""
    loaded = [load_checkpoint(name, domain=domains.get("speech")) for name in names]
    for name, other in zip(names, loaded, strict=True):
        if other.tokenizer.fingerprint != loaded[0].tokenizer.fingerprint:
            raise CheckpointError(f"{name} has another codec than {names[0]}", "Compare models of the same codes")
    return loaded


def read_corpus(
    name: str, checkpoint: Checkpoint, data: Path, *, limit: int | None, num_workers: int | None
) -> tuple[Shard, list[np.ndarray]]:
    """The training shard of a corpus, and its test documents or so many of them, evenly spaced."""
    source, config = SourceConfig(path=name), DataConfig(folder=str(data))
    with progress_bar() as progress:
        task = progress.add_task(name, total=None, status="encoding")
        shards, _ = prepare(
            checkpoint.domain,
            checkpoint.tokenizer,
            source,
            config,
            data,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            num_workers=num_workers,
        )
    if "test" not in shards:
        raise InputFileError(f"{data / name} has no test split", "Give another folder with --data")
    every = list(shards["test"].documents())
    count = min(limit or len(every), len(every))
    return shards["train"], [every[index * len(every) // count] for index in range(count)]


def without_delay(document: np.ndarray) -> np.ndarray:
    """The begin token and the codes `[K, 1 + T]` of a whole document, those of a frame side by side."""
    return np.stack([stream[stream != ABSENT] for stream in document])


def fit_ngrams(trains: Sequence[Shard], vocab_sizes: Sequence[int]) -> dict[str, list[NgramModel]]:
    """For each order a model of each stream."""
    documents = [without_delay(document) for train in trains for document in train.documents()]
    return {
        name: [
            NgramModel([document[stream] for document in documents], size, order=order)
            for stream, size in enumerate(vocab_sizes)
        ]
        for name, order in MARKOV_ORDERS.items()
    }


def summarize(
    scores: list[DocumentScore], first: list[DocumentScore], tokenizer: Tokenizer, *, seed: int
) -> dict[str, Any]:
    """Figures of one model; frames are those of the recordings, without what the delay adds."""
    nats_of_a_bit = math.log(2) / tokenizer.codec.frames_per_second
    by_codebook = bits_per_unit_by_stream(scores, seed=seed)
    figures = {
        "bits_per_second": asdict(bits_per_unit(scores, seed=seed)),
        "coarsest_bits_per_second": asdict(by_codebook[0]),
        "nats_per_frame_by_codebook": [bits.value * nats_of_a_bit for bits in by_codebook],
    }
    if scores is not first:
        figures["difference_to_first"] = asdict(paired_difference(scores, first, seed=seed))
    return figures


def score_corpus(
    names: Sequence[str],
    checkpoints: Sequence[Checkpoint],
    ngrams: dict[str, list[NgramModel]],
    documents: list[np.ndarray],
    *,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Figures of all models on one corpus."""
    tokenizer, scores = checkpoints[0].tokenizer, {}
    with progress_bar() as progress:
        for name, checkpoint in zip(names, checkpoints, strict=True):
            task = progress.add_task(name, total=sum(d.shape[0] * (d.shape[1] - 1) for d in documents), status="tokens")
            scores[name] = score_documents(
                checkpoint.model,
                documents,
                tokenizer,
                batch_size=batch_size,
                on_progress=lambda count, task=task: progress.advance(task, count),
            )
    for name, models in ngrams.items():
        scores[name] = score_with_ngrams(models, [without_delay(document) for document in documents], tokenizer)
    first = scores[names[0]]
    return {
        "documents": len(documents),
        "seconds": sum(score.num_units for score in first),
        "models": {name: summarize(of_model, first, tokenizer, seed=seed) for name, of_model in scores.items()},
    }


def print_tables(corpora: dict[str, dict[str, Any]], console: Console) -> None:
    """Bits per second of all models, then nats per frame of each codebook."""
    console.print("Bits per second on the test split, with 95 % intervals over documents")
    table = Table("corpus", "model", box=None)
    for heading in ("documents", "seconds", "bits/s", "minus the first", "coarsest alone"):
        table.add_column(heading, justify="right")
    for name, corpus in corpora.items():
        for model, figures in corpus["models"].items():
            table.add_row(
                name,
                model,
                str(corpus["documents"]),
                f"{corpus['seconds']:.0f}",
                *(
                    _shown(figures.get(key))
                    for key in ("bits_per_second", "difference_to_first", "coarsest_bits_per_second")
                ),
            )
    console.print(table)
    console.print("Nats per frame of each codebook, the coarsest first")
    num_codebooks = len(figures["nats_per_frame_by_codebook"])
    table = Table("corpus", "model", *(str(number + 1) for number in range(num_codebooks)), box=None)
    for name, corpus in corpora.items():
        for model, figures in corpus["models"].items():
            table.add_row(name, model, *(f"{nats:.2f}" for nats in figures["nats_per_frame_by_codebook"]))
    console.print(table)


def _shown(estimate: dict[str, float | None] | None) -> str:
    if estimate is None:
        return ""
    interval = "" if estimate["low"] is None else f" [{estimate['low']:.0f}, {estimate['high']:.0f}]"
    return f"{estimate['value']:.1f}{interval}"


def main(
    checkpoint: Annotated[list[str], typer.Option(help="A shipped name or a folder; give it again to compare.")],
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    json_file: JsonFile = None,
    documents: Annotated[int | None, typer.Option(min=1, help="Only so many of each test split.")] = None,
    batch_size: Annotated[int, typer.Option(help="Documents scored side by side.")] = 4,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score checkpoints and Markov models on the test split of each corpus."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_all(checkpoint)
    read = {
        name: read_corpus(name, loaded[0], data, limit=documents, num_workers=threads)
        for name in (*TRAINED_ON, *UNSEEN)
    }
    ngrams = fit_ngrams([read[name][0] for name in TRAINED_ON], loaded[0].tokenizer.vocab_sizes)
    corpora = {
        name: score_corpus(checkpoint, loaded, ngrams, test, batch_size=batch_size, seed=seed)
        for name, (_, test) in read.items()
    }
    print_tables(corpora, new_console())
    if json_file is not None:
        about = {
            name: {"parameters": one.model.num_parameters, "trained": one.metrics}
            for name, one in zip(checkpoint, loaded, strict=True)
        }
        codec = loaded[0].tokenizer.fingerprint
        write_result(json_file, {"run": describe_run(seed=seed), "codec": codec, "models": about, "corpora": corpora})


if __name__ == "__main__":
    run_command(main)
