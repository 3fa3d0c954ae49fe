"""Bits per byte of a checkpoint on the test split of each corpus, next to compressors and a Markov model of bytes.

    pip install pyppmd && python benchmarks/score_text.py --data FOLDER --json benchmarks/results/score_text.json

FOLDER holds the corpora that the recipe of the text checkpoint names, each with train.txt.xz and test.txt.xz in it.
A compressor is measured twice: on the test file by itself, and on what the test file adds to the training file of
the same corpus, which is nearer to what the checkpoint was given. The Markov model is fitted to that training file.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pyppmd
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from ngram import NgramModel, score_with_ngrams
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.evaluation import bits_per_unit, nats_per_token, score_documents

CORPORA = ("eltec_eng", "enwiki_sample", "tinyshakespeare")
MARKOV_ORDER = 5
PPMD_ORDERS = (5, 6, 8, 12)
PPMD_MEMORY = 1 << 30
XZ_DICTIONARY = 1 << 28


def xz(data: bytes) -> int:
    """Bytes that are left by `xz -9e`, with a dictionary that holds all of a corpus."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": XZ_DICTIONARY}]
    return len(lzma.compress(data, filters=filters))


def ppmd(data: bytes, order: int) -> int:
    """Bytes that are left by PPMd, variant H, as in 7-Zip."""
    return len(pyppmd.compress(data, max_order=order, mem_size=PPMD_MEMORY, variant="H"))


def compress(train: bytes, test: bytes) -> dict[str, float]:
    """Bits per byte of the test file, by compressor; of PPMd's orders the one that does best on this file."""
    compressors: dict[str, list[Callable[[bytes], int]]] = {
        "xz": [xz],
        "PPMd": [lambda data, order=order: ppmd(data, order) for order in PPMD_ORDERS],
    }
    result = {}
    for name, settings in compressors.items():
        bits = [(8 * size(test) / len(test), 8 * (size(train + test) - size(train)) / len(test)) for size in settings]
        result[name] = min(alone for alone, _ in bits)
        result[f"{name} after train"] = min(after for _, after in bits)
    return result


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "text",
    data: Annotated[Path, typer.Option(help="Folder with the corpora.")] = Path("data"),
    json_file: JsonFile = None,
    batch_size: Annotated[int, typer.Option(help="Documents scored side by side.")] = 4,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score a checkpoint, compressors and a Markov model on the test split of each corpus."""
    if threads is not None:
        torch.set_num_threads(threads)
    domain = domains.get("text")
    loaded = load_checkpoint(checkpoint, domain=domain)
    as_bytes = domain.tokenizer_type.from_options({"kind": "bytes"})
    corpora: dict[str, dict[str, Any]] = {}
    for name in CORPORA:
        train, test = (data / name / f"{split}.txt.xz" for split in ("train", "test"))
        documents = domain.read_documents(test, loaded.tokenizer, is_training=False)
        started = time.perf_counter()
        with progress_bar() as progress:
            task = progress.add_task(name, total=sum(document.shape[1] - 1 for document in documents), status="tokens")
            scores = score_documents(
                loaded.model,
                documents,
                loaded.tokenizer,
                batch_size=batch_size,
                on_progress=lambda count, task=task, progress=progress: progress.advance(task, count),
            )
        seconds = time.perf_counter() - started
        rows = [document[0] for document in domain.read_documents(train, as_bytes, is_training=True)]
        markov = score_with_ngrams(
            [NgramModel(rows, as_bytes.vocab_sizes[0], order=MARKOV_ORDER)],
            domain.read_documents(test, as_bytes, is_training=False),
            as_bytes,
        )
        corpora[name] = {
            "documents": len(documents),
            "bytes": sum(score.num_units for score in scores),
            "tokens": sum(score.num_tokens for score in scores),
            "seconds": round(seconds, 1),
            "checkpoint": asdict(bits_per_unit(scores, seed=seed)),
            "nats_per_token": nats_per_token(scores, seed=seed).value,
            f"order-{MARKOV_ORDER} Markov": asdict(bits_per_unit(markov, seed=seed)),
            "compressors": compress(*(lzma.decompress(path.read_bytes()) for path in (train, test))),
        }
    _print(corpora)
    if json_file is not None:
        about = {"checkpoint": loaded.name, "parameters": loaded.model.num_parameters, "trained": loaded.metrics}
        result = {"run": describe_run(seed=seed), **about, "corpora": corpora}
        write_result(json_file, result)


def _print(corpora: dict[str, dict[str, Any]]) -> None:
    """One row per model, one column per corpus."""
    names = list(corpora)
    table = Table("bits per byte of the test split", *(f"{name}\n{corpora[name]['bytes']:,} bytes" for name in names))
    for model in ("checkpoint", f"order-{MARKOV_ORDER} Markov"):
        estimates = [corpora[name][model] for name in names]
        table.add_row(model, *(f"{e['value']:.3f} {_interval(e['low'], e['high'])}" for e in estimates))
    for compressor in corpora[names[0]]["compressors"]:
        table.add_row(compressor, *(f"{corpora[name]['compressors'][compressor]:.3f}" for name in names))
    Console().print(table)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None else f"[{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    run_command(main)
