"""`adaptgen eval`: how well models predict files that they have not seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptgen.cli.common import new_console, print_json, progress_bar, refuse_existing, say, write_new
from adaptgen.errors import CheckpointError, InputFileError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from adaptgen.checkpoint import Checkpoint
    from adaptgen.domains.base import Domain, Tokenizer
    from adaptgen.evaluation import DocumentScore, Estimate

__all__ = ["eval_"]


def eval_(
    dataset: Annotated[
        str | None, typer.Option(help="A domain, such as music: its shipped checkpoint on held-out files that ship.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="A shipped name or a folder; give it again to compare others with the first."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder or a file of your own instead.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many documents, evenly spaced.")] = None,
    batch_size: Annotated[int, typer.Option(help="Documents read side by side; changes no score.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the figures as JSON here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a result that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how well models predict files: next-token loss, with 95 % intervals over documents.

    Every token is scored once, with as much of its past as the model's window holds. Of a folder that has a test
    split, the test split is taken; of any other, all files.

    Example: adaptgen eval --dataset music

    Example: adaptgen eval --checkpoint runs/a/best --checkpoint runs/b/best --data FOLDER
    """
    from adaptgen.checkpoint import load_checkpoint
    from adaptgen.evaluation import score_documents

    for name, value in (("--limit", limit), ("--batch-size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}", "Give a whole number from 1 up")
    if dataset is None and not checkpoint:
        raise UsageError("there is nothing to measure", "Give --dataset or --checkpoint")
    if output is not None:
        refuse_existing([output], force=force)
    domain = None if dataset is None else _domain_of(dataset)
    models = [load_checkpoint(name, domain=domain) for name in checkpoint or [domain.default_checkpoint]]
    domain = models[0].domain
    for other in models[1:]:
        if other.domain is not domain:
            raise CheckpointError(
                f"{models[0].name} is for {domain.name}, {other.name} for {other.domain.name}",
                "Compare models of one domain",
            )
    folder, files = _find(domain, data)
    rows, scores, skipped = [], [], []
    with progress_bar(stderr=True) as progress:
        for model in models:
            documents, skipped = _read(files, domain, model.tokenizer)
            if not documents:
                raise InputFileError(f"{folder} has no file that can be read", "Give another with --data")
            step = max(1, len(documents) // limit) if limit else 1
            documents = documents[::step][:limit]
            total = sum(document.shape[0] * (document.shape[1] - 1) for document in documents)
            task = progress.add_task(model.name, total=total, status="tokens")
            scores.append(
                score_documents(
                    model.model,
                    documents,
                    model.tokenizer,
                    batch_size=batch_size,
                    on_progress=lambda count, task=task: progress.advance(task, count),
                )
            )
            if [score.num_units for score in scores[-1]] != [score.num_units for score in scores[0]]:
                raise CheckpointError(
                    f"{model.name} does not read the same {model.tokenizer.unit_name}s in these files as "
                    f"{models[0].name}",
                    "Compare models whose tokenizers keep the same of a file",
                )
            rows.append(_figures(model, scores[-1], scores[0], seed=seed))
    unit = models[0].tokenizer.unit_name
    result = {
        "data": str(folder),
        "domain": domain.name,
        "unit": unit,
        "documents": len(scores[0]),
        "units": sum(score.num_units for score in scores[0]),
        "skipped": [{"file": str(path), "reason": reason} for path, reason in skipped],
        "seed": seed,
        "models": rows,
    }
    if output is not None:
        write_new(output, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode(), force=force)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _domain_of(dataset: str) -> Domain:
    from adaptgen import domains

    if dataset not in domains.names():
        raise UsageError(f"there is no dataset {dataset!r}", f"Give one of {', '.join(domains.names())}, or --data")
    return domains.get(dataset)


def _find(domain: Domain, data: Path | None) -> tuple[Path, list[Path]]:
    """The folder or file that is measured, and all files in it."""
    from adaptgen.config import DataConfig
    from adaptgen.data import split_files
    from adaptgen.shipped import find_shipped

    if data is None:
        found = find_shipped(domain.held_out)
        assert found is not None, f"{domain.held_out} is shipped"
        data = found
    if data.is_file():
        return data, [data]
    if not data.is_dir():
        raise InputFileError(f"there is no file or folder {data}", "Give one with --data")
    splits = split_files(data, domain.suffixes, DataConfig(folder=str(data), validation_share=0, test_share=0))
    files = [path for path, _ in splits["test"] or splits["train"]]
    if not files:
        kinds = ", ".join(domain.suffixes)
        raise InputFileError(f"{data} has no {domain.name} files ({kinds})", "Give another with --data")
    return data, files


def _read(files: list[Path], domain: Domain, tokenizer: Tokenizer) -> tuple[list[np.ndarray], list[tuple[Path, str]]]:
    documents, skipped = [], []
    for path in files:
        try:
            documents += domain.read_documents(path, tokenizer, is_training=False)
        except InputFileError as error:
            skipped.append((path, error.problem.removeprefix(f"{path} ")))
    return documents, skipped


def _figures(
    model: Checkpoint, scores: list[DocumentScore], first: list[DocumentScore], *, seed: int
) -> dict[str, Any]:
    from adaptgen.evaluation import bits_per_unit, nats_per_token, paired_difference

    nats = nats_per_token(scores, seed=seed)
    figures = {
        "checkpoint": model.name,
        "parameters": model.model.num_parameters,
        "context": model.model.config.attention_window,
        "tokens": sum(score.num_tokens for score in scores),
        "nats_per_token": _interval(nats),
        "perplexity": math.exp(nats.value),
        f"bits_per_{model.tokenizer.unit_name}": _interval(bits_per_unit(scores, seed=seed)),
    }
    if scores is not first:
        figures["difference_to_first"] = _interval(paired_difference(scores, first, seed=seed))
    return figures


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table

    unit = result["unit"]
    for item in result["skipped"]:
        say(f"skipped {item['file']}: {item['reason']}", stderr=True)
    say(f"{result['data']}: {result['documents']:,} documents, {result['units']:,} {unit}s")
    table = Table("checkpoint", box=None)
    for heading in ("parameters", "tokens", "nats per token", "perplexity", f"bits per {unit}", "less the first"):
        table.add_column(heading, justify="right")
    for row in result["models"]:
        table.add_row(
            row["checkpoint"],
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            _shown(row["nats_per_token"]),
            f"{row['perplexity']:.3f}",
            _shown(row[f"bits_per_{unit}"]),
            _shown(row.get("difference_to_first")),
        )
    new_console().print(table)
    say("In brackets: 95 % intervals over documents.")


def _shown(figure: dict[str, float] | None) -> str:
    return "" if figure is None else f"{figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"
