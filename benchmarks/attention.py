"""Where a shortcut model looks, over held-out files, and what it takes from there.

    python benchmarks/attention.py --checkpoint music --data FOLDER

Over evenly spaced passages of the test split: the share of the shortcut's attention that falls on each depth, and on
frames by how far back they are, for all tokens, for each kind, and for quarters of the tokens by what they cost; and
whether harder tokens look deeper, by the rank correlation of cost and mean depth within each passage, over all tokens
and among tokens of one kind, so that it is not the kinds that make it. Attention is not use: so each depth's map is
silenced in turn, and the rise in loss is what the depth is worth to the model as it was trained. Copying is measured by
the share of attention on past frames that hold the very token to come, next to the share of such frames among all that
are in view; this is of the frames with most attention only. report.py puts the figures into docs/BENCHMARKS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import Threads, run_command, write_result
from provenance import describe_run
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor, nn

from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import new_console, progress_bar
from adaptgen.config import DataConfig
from adaptgen.corpus_files import split_files
from adaptgen.errors import CheckpointError, InputFileError
from adaptgen.evaluation import nats_per_token, paired_difference, score_documents
from adaptgen.inspection import Inspection, depth_name, inspect_document

ROOT = Path(__file__).parents[1]
FEWEST_OF_A_KIND = 20
SHORTEST_PASSAGE = 100
NUM_RESAMPLES = 10_000


def averages(found: Sequence[Inspection]) -> dict[str, dict[str, Any]]:
    """Shares by depth and by distance over all passages' tokens, by group; each token weighs the same."""
    tables = [inspection.averages() for inspection in found]
    result: dict[str, dict[str, Any]] = {}
    for group in ("all", "by_kind", "by_cost"):
        rows: dict[str, list[dict[str, Any]]] = {}
        for table in tables:
            for name, row in table[group].items():
                rows.setdefault(name, []).append(row)
        result[group] = {name: _weighted(parts) for name, parts in rows.items()}
    return result


def _weighted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tokens = np.array([row["tokens"] for row in rows], dtype=np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=tokens))

    return {
        "tokens": int(tokens.sum()),
        "nats": mean([row["nats"] for row in rows]),
        "mean_depth": mean([row["mean_depth"] for row in rows]),
        **{
            kind: {name: mean([row[kind][name] for row in rows]) for name in rows[0][kind]}
            for kind in ("depth_shares", "distance_shares")
        },
    }


def depth_against_cost(found: Sequence[Inspection], *, seed: int) -> dict[str, dict[str, float | None]]:
    """Spearman's correlation of a token's cost with the mean depth read for it: mean over passages, 95 % interval.

    Among tokens of one kind it is the mean over the kinds of a passage, by their number of tokens. A model that reads
    one depth has none.
    """
    if len(found[0].map.depths) == 1:
        return {}
    overall, within = [], []
    for inspection in found:
        costs, kinds = inspection.map.nats[1:], np.array(inspection.kinds[1:])
        depths = inspection.map.depth_shares[1:] @ np.array(inspection.map.depths)
        overall.append(spearmanr(costs, depths).statistic)
        parts = [
            (spearmanr(costs[kinds == kind], depths[kinds == kind]).statistic, count)
            for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True)
            if count >= FEWEST_OF_A_KIND
        ]
        parts = [(value, count) for value, count in parts if np.isfinite(value)]
        if parts:
            values, counts = zip(*parts, strict=True)
            within.append(np.average(values, weights=counts))
    return {"all tokens": _bootstrap(overall, seed=seed), "tokens of one kind": _bootstrap(within, seed=seed)}


def _bootstrap(values: Sequence[float], *, seed: int) -> dict[str, float | None]:
    """The mean with a 95 % percentile interval over passages."""
    values = np.array([value for value in values if np.isfinite(value)])
    if not len(values):
        return {"value": None, "low": None, "high": None}
    means = np.random.default_rng(seed).choice(values, size=(NUM_RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def copying(found: Sequence[Inspection], passages: Sequence[np.ndarray], window: int) -> dict[str, float]:
    """How much of the linked attention falls on past frames that equal the frame to come, and how many such there are.

    Links are the frames with most attention, so their weights sum to less than one.
    """
    attended, total, chance, count = 0.0, 0.0, 0.0, 0
    for inspection, passage in zip(found, passages, strict=True):
        for frame in range(2, passage.shape[1]):
            links, weights = inspection.map.link_frames[frame], inspection.map.link_weights[frame]
            past = passage[:, max(0, frame - window) : frame]
            is_same = (past == passage[:, frame : frame + 1]).all(axis=0)
            if not is_same.any():
                continue
            there = links >= 0
            same = (passage[:, links[there]] == passage[:, frame : frame + 1]).all(axis=0)
            attended += float(weights[there][same].sum())
            total += float(weights[there].sum())
            chance += float(is_same.mean())
            count += 1
    return {"tokens": count, "attention": attended / max(total, 1e-9), "chance": chance / max(count, 1)}


@contextmanager
def silenced(module: nn.Module) -> Iterator[None]:
    """What a module puts out is zero meanwhile."""

    def zero(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    hook = module.register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()


def worth_of_depths(
    checkpoint: Checkpoint, passages: Sequence[np.ndarray], *, seed: int, on_scored: Callable[[], None]
) -> dict[str, dict[str, float | None]]:
    """By how many bits per unit the loss rises when one depth's map is silenced, and when the whole shortcut is."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    shortcut = model.blocks[-1].shortcut
    parts = dict(zip(map(str, shortcut.depths), shortcut.maps, strict=True)) | {"all": shortcut.out}
    whole = score_documents(model, passages, tokenizer)
    on_scored()
    result = {}
    for name, module in parts.items():
        with silenced(module):
            rise = paired_difference(score_documents(model, passages, tokenizer), whole, seed=seed)
        result[name] = {"value": rise.value, "low": rise.low, "high": rise.high}
        on_scored()
    return {"nats_per_token": {"value": nats_per_token(whole).value}, **result}


def held_out(checkpoint: Checkpoint, data: Path, *, limit: int, tokens: int) -> list[np.ndarray]:
    """Evenly spaced passages of the test split, `[K, T]` each, T <= tokens."""
    domain = checkpoint.domain
    settings = DataConfig(folder=str(data), validation_share=0, test_share=0)
    paths = [path for path, _ in split_files(data, domain.suffixes, settings)["test"]]
    documents = []
    for path in paths:
        try:
            documents += domain.read_documents(path, checkpoint.tokenizer, is_training=False)
        except InputFileError:
            continue
    passages = [
        document[:, start : start + tokens]
        for document in documents
        for start in range(0, document.shape[1] - SHORTEST_PASSAGE, tokens)
    ]
    if not passages:
        raise InputFileError(f"{data} has no test split of {domain.name}", "Give another folder with --data")
    count = min(limit, len(passages))
    return [passages[index * len(passages) // count] for index in range(count)]


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")],
    data: Annotated[Path, typer.Option(help="Folder with a test split.")],
    limit: Annotated[int, typer.Option(min=1, help="How many passages.")] = 40,
    tokens: Annotated[int, typer.Option(min=16, help="How long each is.")] = 512,
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the figures go; benchmarks/results/ if not given.")
    ] = None,
) -> None:
    """Measure where a checkpoint looks."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint)
    if loaded.model.blocks[-1].shortcut is None:
        raise CheckpointError(f"{loaded.name} has no shortcut to look at", "Give another with --checkpoint")
    passages = held_out(loaded, data, limit=limit, tokens=tokens)
    num_depths = len(loaded.model.blocks[-1].shortcut.depths)
    with progress_bar() as progress:
        task = progress.add_task(loaded.name, total=len(passages) + num_depths + 2, status="")
        found = []
        for passage in passages:
            found.append(inspect_document(loaded.model, passage, loaded.tokenizer))
            progress.advance(task)
        worth = worth_of_depths(loaded, passages, seed=seed, on_scored=lambda: progress.advance(task))
    result = {
        "run": describe_run(seed=seed),
        "checkpoint": loaded.name,
        "parameters": loaded.model.num_parameters,
        "data": data.name,
        "passages": len(passages),
        "tokens": sum(passage.shape[1] - 1 for passage in passages),
        "unit": loaded.tokenizer.unit_name,
        "averages": averages(found),
        "cost_and_depth": depth_against_cost(found, seed=seed),
        "copying": copying(found, passages, loaded.model.config.attention_window),
        "worth": worth,
    }
    output = output or ROOT / "benchmarks" / "results" / f"attention_{loaded.name.replace('/', '-')}.json"
    write_result(output, result)
    _print(result)


def _print(result: dict[str, Any]) -> None:
    all_tokens = result["averages"]["all"]["all tokens"]
    depths = all_tokens["depth_shares"]
    names = [depth_name(int(depth)) for depth in depths]
    far = [f"{name} back" for name in all_tokens["distance_shares"]]
    table = Table("", "tokens", "nats", *names, "mean depth", *far, box=None)
    for group in result["averages"].values():
        for name, row in group.items():
            shares = [f"{share:.3f}" for share in row["depth_shares"].values()]
            back = [f"{share:.3f}" for share in row["distance_shares"].values()]
            table.add_row(name, f"{row['tokens']:,}", f"{row['nats']:.3f}", *shares, f"{row['mean_depth']:.2f}", *back)
    worth = [f"{result['worth'][depth]['value']:+.4f}" for depth in depths]
    table.add_row(f"bits per {result['unit']} without it", "", "", *worth)
    console = new_console()
    console.print(table)
    console.print(f"without the whole shortcut: {result['worth']['all']['value']:+.4f} bits per {result['unit']}")
    for name, figure in result["cost_and_depth"].items():
        console.print(f"rank correlation of cost and depth, {name}: {figure}")
    console.print(f"copying: {result['copying']}")


if __name__ == "__main__":
    run_command(main)
