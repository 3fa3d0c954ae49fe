"""Do continuations of novels use words as novels do? A grid of sampling settings, and the one that comes nearest.

    python benchmarks/text_check.py --checkpoint text --data FOLDER --json benchmarks/results/text_check.json

From the validation split of eltec_eng below FOLDER passages are given and gone on with. Counted over what is written,
and over what the novels really say there: the share of invented words, which the training split has not; the share of
sequences of four words that came before in the same continuation; and the share of words that are new to it. The
setting nearest the truth, by the sum of the three distances, is named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import JsonFile, Threads, describe_sampling, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.domains.text.characters import CharacterRules
from adaptgen.domains.text.corpus import split_documents
from adaptgen.domains.text.encoding import read_text
from adaptgen.domains.text.grammar import Length, TextGrammar, TokenMoves
from adaptgen.generation import generate
from adaptgen.model import new_decoder
from adaptgen.sampling import Sampling

CORPUS = "eltec_eng"
PROMPT_CHARACTERS, NEW_WORDS = 1500, 200
REPEATED_WORDS = 4
MEASURES = ("invented", "repeated", "different")
GRID = [
    Sampling(temperature=temperature, **keep)
    for temperature in (0.7, 0.8, 0.9, 1.0)
    for keep in ({}, {"top_p": 0.9}, {"top_p": 0.95}, {"min_p": 0.05}, {"min_p": 0.1})
]


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower().replace("'", "").replace("’", ""))


def measure(texts: Sequence[str], known: set[str]) -> dict[str, float]:
    """Mean over texts of each measure."""
    rows = []
    for text in texts:
        words = words_of(text)
        runs = list(zip(*(words[start:] for start in range(REPEATED_WORDS)), strict=False))
        rows.append(
            (
                sum(word not in known for word in words) / max(1, len(words)),
                1 - len(set(runs)) / max(1, len(runs)),
                len(set(words)) / max(1, len(words)),
            )
        )
    return dict(zip(MEASURES, np.mean(rows, axis=0).tolist(), strict=True))


def distance(measured: dict[str, float], truth: dict[str, float]) -> float:
    return sum(abs(measured[name] - truth[name]) for name in MEASURES)


def passages(text: str, count: int) -> list[tuple[str, str]]:
    """Prompts evenly spaced over a split, each with the words that really follow; none spans two documents."""
    needed = PROMPT_CHARACTERS + 10 * NEW_WORDS
    starts = []
    for document in split_documents(text):
        starts += [document[start : start + needed] for start in range(0, len(document) - needed, needed)]
    chosen = [starts[index * len(starts) // count] for index in range(count)]
    found = []
    for passage in chosen:
        prompt, rest = passage[:PROMPT_CHARACTERS], passage[PROMPT_CHARACTERS:]
        found.append((prompt, " ".join(rest.split()[:NEW_WORDS])))
    return found


def write_on(
    checkpoint: Checkpoint, moves: TokenMoves, prompts: Sequence[str], sampling: Sampling, *, seed: int
) -> list[str]:
    texts, decoder = [], new_decoder(checkpoint.model)
    for prompt in prompts:
        tokens = checkpoint.tokenizer.encode(prompt)[:, -checkpoint.model.config.attention_window :]
        grammar = TextGrammar(moves, Length(words=NEW_WORDS))
        (new,) = generate(decoder, tokens, [grammar], sampling, seed=seed)
        texts.append(checkpoint.tokenizer.decode(new).decode("utf-8"))
    return texts


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "text",
    data: Annotated[Path, typer.Option(help="Folder with eltec_eng/ in it.")] = Path("data"),
    json_file: JsonFile = None,
    count: Annotated[int, typer.Option("--passages", min=1, help="How many passages.")] = 12,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the sampling.")] = 0,
) -> None:
    """Try a grid of sampling settings."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint, domain=domains.get("text"))
    train, validation = (read_text(data / CORPUS / f"{split}.txt.xz").text for split in ("train", "validation"))
    known = set(words_of(train))
    found = passages(validation, count)
    prompts, truths = [prompt for prompt, _ in found], [truth for _, truth in found]
    moves = TokenMoves(loaded.tokenizer, CharacterRules.of_encoding("utf-8"))
    truth, results = measure(truths, known), []
    with progress_bar() as progress:
        task = progress.add_task("settings", total=len(GRID), status="")
        for sampling in GRID:
            texts = write_on(loaded, moves, prompts, sampling, seed=seed)
            measured = measure(texts, known)
            results.append(
                {"sampling": asdict(sampling), "distance": distance(measured, truth), **measured, "first": texts[0]}
            )
            progress.advance(task)
    results.sort(key=lambda result: result["distance"])
    _print(results, truth)
    if json_file is not None:
        about = {"checkpoint": loaded.name, "trained": loaded.metrics, "passages": count}
        result = {"run": describe_run(seed=seed), **about, "truth": truth, "results": results}
        write_result(json_file, result)


def _print(results: Sequence[dict[str, Any]], truth: dict[str, float]) -> None:
    """The truth, then one row per setting, nearest first."""
    table = Table("sampling", *(f"{name} words" for name in MEASURES), "distance")
    table.add_row("what the novels say", *(f"{truth[name]:.1%}" for name in MEASURES), "", end_section=True)
    for result in results:
        table.add_row(
            describe_sampling(result["sampling"]),
            *(f"{result[key]:.1%}" for key in MEASURES),
            f"{result['distance']:.4f}",
        )
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
