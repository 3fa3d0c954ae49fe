"""`adaptgen eval`: how well models predict files that they have not seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptgen.cli.common import new_console, print_json, progress_bar, refuse_existing, result_file, say, write_new
from adaptgen.cli.dataset import bring_data, dataset_recipes
from adaptgen.errors import CheckpointError, InputFileError, RecipeError, UsageError
from adaptgen.paths import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from adaptgen.checkpoint import Checkpoint
    from adaptgen.config import Recipe
    from adaptgen.domains.base import Domain, Tokenizer
    from adaptgen.evaluation import DocumentScore, Estimate

__all__ = ["eval_"]

LARGEST_NATS = 700.0
"""Of which e to the power can still be written down."""


def eval_(
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A domain, such as music: held-out files that ship. Or published data, such as text8, or a recipe "
            "that names some: their test split."
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped name or a folder, by default those that ship for the domain; give it again to compare "
            "others with the first."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder or a file of your own instead.")] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder with a copy of the published data, not to fetch them.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Measure this many documents, or all if there are fewer, from files evenly spaced over the folder."
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Measure each document's second half, by the models as they are and after they have "
            "learned its first half, as `continue` lets them.",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Documents read side by side; changes no score.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", parser=result_file, metavar="PATH", help="Also write the figures as JSON here."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a result that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how well models predict files: next-token loss, with 95 % intervals over documents.

    Every token is scored once, with as much of its past as the model's window holds. Where a checkpoint goes back to
    earlier passages than that, as `continue` does, it has another row, "+ recall". Of a folder with splits the test
    split is taken, or the validation split if there is none; of any other, all files.

    With --adapt each document's second half is measured instead. Further rows, "+ adapted", are of the models when they
    have learned its first half.

    Without --checkpoint these are measured: two small twins of equal parameters that were trained on the same
    batches, one plain and one with the shortcut, and the checkpoint that continues your files.

    Example: adaptgen eval --dataset music

    Example: adaptgen eval --dataset music --checkpoint music --adapt

    Example: adaptgen eval --dataset text8 --checkpoint runs/text8/best

    Example: adaptgen eval --checkpoint runs/a/best --checkpoint runs/b/best --data FOLDER
    """
    from adaptgen.checkpoint import load_checkpoint

    for name, value in (("--limit", limit), ("--batch-size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}", "Give a whole number from 1 up")
    if seed < 0:
        raise UsageError(f"--seed is {seed}", "Give a whole number from 0 up")
    if dataset is None and not checkpoint:
        raise UsageError("there is nothing to measure", "Give --dataset or --checkpoint")
    if output is not None:
        refuse_existing([output], force=force, inputs=[] if data is None else [data])
    domain, published = (None, None) if dataset is None else _resolve(dataset)
    if source is not None and (published is None or data is not None):
        raise UsageError(
            "--source is a copy of published data, and none are measured", "Name them with --dataset, without --data"
        )
    names = checkpoint or [*domain.twins, domain.default_checkpoint]
    models = [load_checkpoint(name, domain=domain) for name in names]
    domain = models[0].domain
    for name, other in zip(names, models, strict=True):
        if other.domain is not domain:
            raise CheckpointError(
                f"{names[0]} is for {domain.name}, {name} for {other.domain.name}", "Compare models of one domain"
            )
    if published is not None and data is None:
        data = bring_data(published, source, stderr=True)
    folder, files = _find(domain, data)
    if data is not None and published is None:
        for name in names:
            _say_what_was_trained_on(name, files, domain)
    # Models that read the same tokens share them.
    tokenizers = {_key(model.tokenizer): model.tokenizer for model in models}
    by_tokenizer = {key: _read(files, domain, tokenizer, limit=limit) for key, tokenizer in tokenizers.items()}
    read = [by_tokenizer[_key(model.tokenizer)] for model in models]
    skipped = read[0][1]
    counts = []
    for name, model, (documents, _) in zip(names, models, read, strict=True):
        if not documents:
            reason = f"; the first was skipped because: {skipped[0][1]}" if skipped else ""
            raise InputFileError(f"{folder} has no file that can be read{reason}", "Give another with --data")
        counts.append([model.tokenizer.count_units(document) for document in documents])
        if counts[-1] != counts[0]:
            raise CheckpointError(
                f"{name} does not read the same {model.tokenizer.unit_name}s in these files as {names[0]}",
                "Compare models whose tokenizers keep the same of a file",
            )
    unit = models[0].tokenizer.unit_name
    if not sum(counts[0]):
        raise InputFileError(f"{folder} has no {unit}s to measure", "Give another with --data")
    rows, scores = [], []
    with progress_bar(stderr=True) as progress:
        for name, model, (documents, _) in zip(names, models, read, strict=True):
            given = [max(1, document.shape[1] // 2) if adapt else 1 for document in documents]
            total = sum(map(_num_tokens, documents, given))
            recalls = (None,) if model.recall is None else (None, model.recall)
            for is_adapted in (False, True) if adapt else (False,):
                bars = [
                    progress.add_task(_row_name(name, is_adapted, recall is not None), total=total, status="tokens")
                    for recall in recalls
                ]
                found = _score(
                    model,
                    documents,
                    given,
                    seed=seed if is_adapted else None,
                    batch_size=batch_size,
                    on_progress=lambda place, count, bars=bars: progress.advance(bars[place], count),
                )
                for recall, scored in zip(recalls, found, strict=True):
                    scores.append(scored)
                    paired = scores[0] if rows and _are_of_the_same(model, scored, models[0], scores[0]) else None
                    figures = _figures(name, model, scored, paired, seed=seed)
                    about = {"checkpoint": name, "adapted": is_adapted, "recall": recall is not None}
                    rows.append({**about, **figures})
    result = {
        "data": str(folder),
        "domain": domain.name,
        "unit": unit,
        "documents": len(scores[0]),
        "units": round(sum(score.num_units for score in scores[0]), 3),
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
        if not checkpoint and domain.twins:
            twins = " and ".join(domain.twins)
            say(f"Only {twins} were trained alike; {domain.default_checkpoint} was trained longer.")


def _resolve(dataset: str) -> tuple[Domain, Recipe | None]:
    """The domain of a data set, and the recipe that names it where it is a published one."""
    from adaptgen import domains
    from adaptgen.recipe_files import load_recipe
    from adaptgen.shipped import find_recipe

    published = dataset_recipes()
    if dataset in domains.names():
        return domains.get(dataset), None
    if dataset not in published and not Path(dataset).is_file():
        known = ", ".join([*domains.names(), *published])
        raise UsageError(f"there is no dataset {dataset!r}", f"Give one of {known}, or a recipe, or --data")
    recipe = load_recipe(find_recipe(published.get(dataset, dataset)))
    return domains.get(recipe.domain), recipe


def _find(domain: Domain, data: Path | None) -> tuple[Path, list[Path]]:
    """The folder or file that is measured, and all files in it."""
    from adaptgen.config import DataConfig
    from adaptgen.corpus_files import split_files
    from adaptgen.shipped import find_shipped

    if data is None:
        found = find_shipped(domain.held_out)
        if found is None:
            raise InputFileError(f"no held-out {domain.name} files come with adaptgen", "Give your own with --data")
        data = found
    if not data.exists():
        raise InputFileError(f"there is no file or folder {data}", "Give one with --data")
    splits = split_files(data, domain.suffixes, DataConfig(folder=str(data), validation_share=0, test_share=0))
    files = [path for path, _ in splits["test"] or splits["validation"] or splits["train"]]
    if not files:
        kinds = ", ".join(domain.suffixes)
        raise InputFileError(f"{data} has no {domain.name} files ({kinds})", "Give another with --data")
    return data, files


def _say_what_was_trained_on(name: str, files: list[Path], domain: Domain) -> None:
    """Warn of a checkpoint in a run's folder that has learned some of the files that are measured."""
    from adaptgen.checkpoint_files import find_checkpoint
    from adaptgen.corpus_files import split_files
    from adaptgen.training.run_folder import read_recipe

    try:
        recipe = read_recipe(find_checkpoint(name).resolve().parent)
    except RecipeError:
        # It takes no recipe to measure a checkpoint.
        return
    if recipe is None or recipe.data.folder is None:
        return
    sources = [Path(recipe.data.folder) / source.path for source in recipe.data.sources]
    splits = [split_files(source, domain.suffixes, recipe.data) for source in sources]
    learned = {path.resolve() for split in splits for path, _ in split["train"]}
    count = sum(path.resolve() in learned for path in files)
    if count:
        message = f"{name} was trained on {count:,} of these {len(files):,} files, which it knows better than new ones."
        say(message, style="yellow", stderr=True)


def _key(tokenizer: Tokenizer) -> tuple[str, int, tuple[int, ...]]:
    """What tokenizers have alike that give the same tokens, the one that begins a document included."""
    return tokenizer.fingerprint, tokenizer.begin, tokenizer.vocab_sizes


def _read(
    files: list[Path], domain: Domain, tokenizer: Tokenizer, *, limit: int | None
) -> tuple[list[np.ndarray], list[tuple[Path, str]]]:
    """Documents, all or so many of as many files, and the files that cannot be read, for which others are taken."""
    documents, skipped = {}, {}
    chosen = _evenly(files, limit)
    with progress_bar(stderr=True) as progress:
        task = progress.add_task("reading", total=0, status="files")
        while chosen:
            progress.update(task, total=len(documents) + len(skipped) + len(chosen))
            for path in chosen:
                try:
                    documents[path] = domain.read_documents(path, tokenizer, is_training=False)
                except InputFileError as error:
                    skipped[path] = error.problem.removeprefix(f"{path} ")
                progress.advance(task)
            left = [path for path in files if path not in documents and path not in skipped]
            missing = 0 if limit is None else max(0, limit - sum(map(len, documents.values())))
            chosen = _evenly(left, missing)
    found = [document for path in files for document in documents.get(path, [])]
    return _evenly(found, limit), [(path, skipped[path]) for path in files if path in skipped]


def _evenly(items: list[Any], limit: int | None) -> list[Any]:
    """So many of them, evenly spaced, from the first on."""
    if limit is None or limit >= len(items):
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def _num_tokens(document: np.ndarray, given: int) -> int:
    return document.shape[0] * (document.shape[1] - given)


def _score(
    model: Checkpoint,
    documents: list[np.ndarray],
    given: list[int],
    *,
    seed: int | None,
    batch_size: int,
    on_progress: Callable[[int, int], None],
) -> list[list[DocumentScore]]:
    """Scores of all documents after what is given of each: without recall, and with it if the checkpoint does that.

    Args:
        seed: of learning what is given of each document first; it is not learned if not given.
        on_progress: called with which of these it is about, and the number of tokens scored.
    """
    from adaptgen.adaptation import adapt_checkpoint
    from adaptgen.evaluation import score_documents

    recalls = (None,) if model.recall is None else (None, model.recall)
    results: list[list[DocumentScore]] = [[] for _ in recalls]
    # A document that is learned has a model of its own; others are read side by side.
    one_by_one = [slice(index, index + 1) for index in range(len(documents))]
    for chosen in [slice(None)] if seed is None else one_by_one:
        learner = model.model
        if seed is not None:
            first = documents[chosen][0][:, : given[chosen][0]]
            learner = adapt_checkpoint(model, first, seed=seed).model
        for place, recall in enumerate(recalls):
            results[place] += score_documents(
                learner,
                documents[chosen],
                model.tokenizer,
                batch_size=batch_size,
                recall=recall,
                given=given[chosen],
                on_progress=lambda count, place=place: on_progress(place, count),
            )
    return results


def _are_of_the_same(
    model: Checkpoint, scores: list[DocumentScore], other: Checkpoint, others: list[DocumentScore]
) -> bool:
    """Whether bits per unit of both are of the same: ten codes of a frame take more than its first alone, and halves of
    a document are others in other tokens."""
    if len(model.tokenizer.vocab_sizes) != len(other.tokenizer.vocab_sizes):
        return False
    return [score.num_units for score in scores] == [score.num_units for score in others]


def _figures(
    name: str, model: Checkpoint, scores: list[DocumentScore], first: list[DocumentScore] | None, *, seed: int
) -> dict[str, Any]:
    from adaptgen.evaluation import bits_per_unit, bits_per_unit_by_stream, nats_per_token, paired_difference

    nats = nats_per_token(scores, seed=seed)
    if not math.isfinite(nats.value):
        raise CheckpointError(f"{name} predicts no probabilities: its loss is {nats.value}", "Train it anew")
    figures = {
        "parameters": model.model.num_parameters,
        "context": model.model.config.attention_window,
        "streams": len(model.tokenizer.vocab_sizes),
        "tokens": sum(score.num_tokens for score in scores),
        "nats_per_token": _interval(nats),
        "perplexity": math.exp(min(nats.value, LARGEST_NATS)),
        f"bits_per_{model.tokenizer.unit_name}": _interval(bits_per_unit(scores, seed=seed)),
    }
    if figures["streams"] > 1:
        by_stream = bits_per_unit_by_stream(scores, seed=seed)
        figures[f"bits_per_{model.tokenizer.unit_name}_by_codebook"] = [_interval(bits) for bits in by_stream]
    if first is not None:
        figures["difference_to_first"] = _interval(paired_difference(scores, first, seed=seed))
    return figures


def _row_name(checkpoint: str, is_adapted: bool, is_recalling: bool) -> str:
    return printable(checkpoint) + " + adapted" * is_adapted + " + recall" * is_recalling


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    unit = result["unit"]
    for item in result["skipped"]:
        say(f"skipped {item['file']}: {item['reason']}", stderr=True)
    num_documents = result["documents"]
    documents = "one document" if num_documents == 1 else f"{num_documents:,} documents"
    say(f"{result['data']}: {documents}, {result['units']:,} {unit}s")
    table = Table("checkpoint", box=None)
    for heading in ("parameters", "tokens", "nats per token", "perplexity", f"bits per {unit}", "minus the first"):
        table.add_column(heading, justify="right")
    for row in result["models"]:
        table.add_row(
            Text(_row_name(row["checkpoint"], row["adapted"], row["recall"])),
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            _shown(row["nats_per_token"]),
            f"{row['perplexity']:.3f}",
            _shown(row[f"bits_per_{unit}"]),
            _shown(row.get("difference_to_first")),
        )
    new_console().print(table)
    say("One document has no interval." if num_documents == 1 else "In brackets: 95 % intervals over documents.")
    streams = {row["streams"] for row in result["models"]}
    if len(streams) > 1:
        counts = " and ".join(map(str, sorted(streams)))
        say(f"These models predict {counts} codes of a frame, so their bits per {unit} are not of the same thing.")


def _shown(figure: dict[str, float | None] | None) -> str:
    if figure is None:
        return ""
    interval = "" if figure["low"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
    return f"{figure['value']:.4f}{interval}"
