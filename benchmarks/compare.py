"""The same model with and without shortcuts, and with later ideas of that kind, trained on the same batches.

    python benchmarks/compare.py recipes/compare/music.yaml --data FOLDER

Every variant is trained from the recipe with each of several seeds, in a folder of its own below --runs, and scored
on the test split, every token once. The scores of a run are kept below --records, and a run that has some is not
trained again, so the command may be stopped and given again, with more seeds or variants, on another machine too.
Batches depend on the seed alone, so a seed's variants see the same music or text in the same order. `--ablations`
compares forms of the shortcut in place of other models, `--only` some of both; `--jobs` trains several at a time.
report.py makes the page of the figures.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
import typer
from command import run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import restore_folder
from adaptgen.cli.common import new_console, progress_bar, write_new
from adaptgen.config import ModelConfig, Recipe, ShortcutConfig
from adaptgen.errors import InputFileError, UsageError
from adaptgen.evaluation import DocumentScore, bits_per_unit, paired_difference, score_documents
from adaptgen.model import Transformer
from adaptgen.recipe_files import load_recipe
from adaptgen.training.run_folder import read_recipe
from adaptgen.training.session import Session

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RECORDS = RESULTS / "records"
PLAIN = "plain"
BASELINE = "plain, as many parameters"
SCALED = f"{BASELINE}, embedding scaled"
SHORTCUT = "shortcut"
EMBEDDING = f"{SHORTCUT}, the embedding alone"
PAPER = ShortcutConfig(place="replace", feature_map="mlp")
"""The form of arXiv:2409.10870."""
VALUE_RESIDUAL = {"depth_mixing": "value_residual"}
SPEED_ROUNDS, SPEED_STEPS, DECODED_FRAMES = 3, 2, 64


@dataclass(frozen=True)
class Variant:
    """A model, and how many steps it is trained."""

    model: ModelConfig
    max_steps: int


def rivals(recipe: Recipe, vocab_sizes: tuple[int, ...]) -> dict[str, Variant]:
    """The shortcut and what it is compared with, by name."""
    model, steps = recipe.model, recipe.training.max_steps
    plain = model.model_copy(update={"shortcut": None})
    flops = [
        training_flops_per_token(_build(config, vocab_sizes, device="meta"), recipe.training.seq_len)
        for config in (model, plain)
    ]
    models = {
        BASELINE: _widened(plain, model, vocab_sizes),
        SHORTCUT: model,
        EMBEDDING: _changed(model, depths=(0,)),
        "shortcut as in the paper": model.model_copy(update={"shortcut": PAPER}),
        PLAIN: plain,
        "plain, one layer more": plain.model_copy(update={"num_layers": model.num_layers + 1}),
        "DenseFormer": plain.model_copy(update={"depth_mixing": "denseformer"}),
        "attention residuals": plain.model_copy(update={"depth_mixing": "attention_residual"}),
        "value residuals": plain.model_copy(update=VALUE_RESIDUAL),
        f"value residuals, {SHORTCUT}": model.model_copy(update=VALUE_RESIDUAL),
        f"value residuals, {SHORTCUT} to the embedding": _changed(model, depths=(0,)).model_copy(update=VALUE_RESIDUAL),
    }
    longer = Variant(plain, round(steps * flops[0] / flops[1]))
    return {name: Variant(config, steps) for name, config in models.items()} | {"plain, as much compute": longer}


def ablations(recipe: Recipe, vocab_sizes: tuple[int, ...]) -> dict[str, Variant]:
    """Other forms of the shortcut, and of plain, one thing changed at a time."""
    model = recipe.model
    changes = {
        "every second depth": {"depths": tuple(range(0, model.num_layers - 1, 2))},
        "the deepest alone": {"depths": (model.num_layers - 2,)},
        "its own frame alone": {"window": 1},
        "MLP maps": {"feature_map": "mlp"},
        "in place of self-attention": {"place": "replace"},
    }
    forms = {f"{SHORTCUT}, {name}": _changed(model, **change) for name, change in changes.items()}
    smaller = _changed(model, depths=(0,))
    forms |= {EMBEDDING: smaller, f"{EMBEDDING}, as many parameters": _widened(smaller, model, vocab_sizes)}
    baseline = _widened(model.model_copy(update={"shortcut": None}), model, vocab_sizes)
    scaled = baseline.model_copy(update={"scale_embedding": True})
    models = {BASELINE: baseline, SCALED: scaled, SHORTCUT: model, **forms}
    return {name: Variant(config, recipe.training.max_steps) for name, config in models.items()}


def _changed(model: ModelConfig, **settings: Any) -> ModelConfig:
    """The model with other settings of its shortcut."""
    return model.model_copy(update={"shortcut": model.shortcut.model_copy(update=settings)})


def _widened(model: ModelConfig, other: ModelConfig, vocab_sizes: tuple[int, ...]) -> ModelConfig:
    """The model with MLPs so wide that it has the parameters of the other."""
    extra = _build(other, vocab_sizes, device="meta").num_parameters
    extra -= _build(model, vocab_sizes, device="meta").num_parameters
    wider = 8 * round(extra / (2 * model.model_dim * model.num_layers) / 8)
    return model.model_copy(update={"mlp_dim": (model.mlp_dim or 4 * model.model_dim) + wider})


def _build(config: ModelConfig, vocab_sizes: tuple[int, ...], *, device: str = "cpu") -> Transformer:
    with torch.device(device):
        return Transformer(config, vocab_sizes)


def training_flops_per_token(model: Transformer, seq_len: int) -> float:
    """Multiply-adds counted twice, backward twice the forward; attention over the frames that are visible.

    Left out: norms, softmax, and the mixing of depths by averages and attention residuals, a few numbers a layer.
    """
    config, shortcut = model.config, model.blocks[-1].shortcut
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    blocks = sum(block.attention is not None for block in model.blocks)
    attended = blocks * _mean_visible(seq_len, config.attention_window)
    if shortcut is not None:
        attended += len(shortcut.depths) * _mean_visible(seq_len, shortcut.window)
        if shortcut.key_value is not None:
            # One projection, used for every depth.
            matrices += (len(shortcut.depths) - 1) * shortcut.key_value.weight.numel()
    return 3 * (2 * matrices + 4 * config.model_dim * attended)


def _mean_visible(seq_len: int, window: int) -> float:
    return float(np.minimum(np.arange(1, seq_len + 1), window).mean())


def cached_numbers_per_frame(model: Transformer) -> int:
    """Keys and values of one frame, over all layers and depths that the cache holds."""
    shortcut = model.blocks[-1].shortcut
    held = sum(block.attention is not None for block in model.blocks)
    held += 0 if shortcut is None else len(shortcut.depths)
    return 2 * model.config.model_dim * held


def measure_speed(models: dict[str, Transformer], recipe: Recipe) -> dict[str, dict[str, float]]:
    """Tokens a second in training and in decoding with a full cache, best of some rounds over all models in turn.

    Weights make no difference, so fresh ones do. A step is forward and backward; the optimiser is left out.
    """
    speeds = {name: {"training_tokens_per_second": 0.0, "decoded_frames_per_second": 0.0} for name in models}
    for _ in range(SPEED_ROUNDS):
        for name, model in models.items():
            for key, speed in (
                ("training_tokens_per_second", _training_speed(model, recipe)),
                ("decoded_frames_per_second", _decoding_speed(model)),
            ):
                speeds[name][key] = max(speeds[name][key], speed)
    return speeds


def _training_speed(model: Transformer, recipe: Recipe) -> float:
    batch_size, seq_len = recipe.training.batch_size, recipe.training.seq_len
    tokens = torch.zeros(batch_size, len(model.vocab_sizes), seq_len, dtype=torch.int64)
    started = time.perf_counter()
    for _ in range(SPEED_STEPS):
        F.cross_entropy(model(tokens).flatten(0, 2), tokens.flatten()).backward()
        model.zero_grad()
    return SPEED_STEPS * batch_size * seq_len / (time.perf_counter() - started)


@torch.inference_mode()
def _decoding_speed(model: Transformer) -> float:
    cache = model.new_cache(1)
    tokens = torch.zeros(1, len(model.vocab_sizes), model.config.attention_window, dtype=torch.int64)
    model(tokens, cache)
    started = time.perf_counter()
    for _ in range(DECODED_FRAMES):
        model(tokens[:, :, :1], cache)
    return DECODED_FRAMES / (time.perf_counter() - started)


@dataclass(frozen=True)
class Outcome:
    """What is kept of one training run.

    Attributes:
        made: hardware, versions, commit, seed and date.
        corpus: changes with any token that it was trained on or scored with.
        scores: of the test documents of each source.
        validation: nats per token on the validation split while it was trained.
    """

    made: dict[str, Any]
    corpus: str
    scores: dict[str, list[DocumentScore]]
    validation: list[dict[str, float]]


def read_record(path: Path, recipe: Recipe) -> Outcome:
    """What is kept of a run of this recipe.

    Raises:
        UsageError: it is of another recipe.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["recipe"] != _decisive(recipe):
        raise UsageError(f"{path} is of another recipe", "Give another name with --set name=NAME, or --records")
    scores = {
        source: [DocumentScore(nats=nats, num_tokens=tokens, num_units=units) for nats, tokens, units in rows]
        for source, rows in content["scores"].items()
    }
    return Outcome(content["made"], content["corpus"], scores, content["validation"])


def write_record(path: Path, recipe: Recipe, outcome: Outcome) -> None:
    """Keep it."""
    content = {
        "made": outcome.made,
        "corpus": outcome.corpus,
        "recipe": _decisive(recipe),
        "scores": {
            source: [[score.nats, score.num_tokens, score.num_units] for score in scores]
            for source, scores in outcome.scores.items()
        },
        "validation": outcome.validation,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, json.dumps(content).encode(), force=True)


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that decides what comes out; where its data lie does not."""
    return recipe.model_dump(
        mode="json", include={"model": True, "training": True, "tokenizer": True, "data": {"sources"}}
    )


@dataclass(frozen=True)
class Run:
    """What is trained, in which folder, and the file that keeps its scores."""

    recipe: Recipe
    folder: Path
    record: Path


def make_records(runs: Sequence[Run], *, jobs: int) -> None:
    """Train and score, so many runs at a time. Where one fails, those that have begun are finished."""
    if jobs == 1:
        for run in runs:
            _make_record(run)
        return
    context = multiprocessing.get_context("spawn")
    # Ctrl-C ends the processes at once; a run goes on from there next time.
    pool = ProcessPoolExecutor(jobs, context, signal.signal, (signal.SIGINT, signal.SIG_DFL))
    with pool, progress_bar() as bar:
        task = bar.add_task("runs", total=len(runs), status="")
        try:
            for finished in as_completed([pool.submit(_make_record, run, is_hidden=True) for run in runs]):
                finished.result()
                bar.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make_record(run: Run, *, is_hidden: bool = False) -> None:
    write_record(run.record, run.recipe, train_and_score(run.recipe, run.folder, is_hidden=is_hidden))


def train_and_score(recipe: Recipe, folder: Path, *, is_hidden: bool = False) -> Outcome:
    """Train a recipe in a folder, or go on where that was stopped, and score the test splits."""
    restore_folder(folder / "last")
    resume = (folder / "last").is_dir()
    if resume and _decisive(read_recipe(folder)) != _decisive(recipe):
        raise UsageError(f"{folder} holds a run of another recipe", "Give another folder with --runs")
    session = Session(recipe, folder, resume=resume, force=not resume)
    with progress_bar(is_hidden=is_hidden) as bar:
        task = bar.add_task(folder.name, total=recipe.training.max_steps, completed=session.trainer.step, status="")
        session.run(on_step=lambda step: bar.update(task, completed=step["step"]))
    model, tokenizer = session.trainer.model.eval(), session.trainer.checkpoint.tokenizer
    scores = {}
    for source, shards in zip(recipe.data.sources, session.corpus.shards, strict=True):
        if "test" not in shards:
            raise InputFileError(f"{source.path} has no test split", "Give another folder with --data")
        scores[source.path] = score_documents(model, list(shards["test"].documents()), tokenizer)
    made = describe_run(seed=recipe.training.seed)
    return Outcome(made, session.corpus.fingerprint, scores, validation_curve(folder))


def validation_curve(folder: Path) -> list[dict[str, float]]:
    """Nats per token on the validation split while a run was trained."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"step": record["step"], "nats_per_token": record["validation"]["nats_per_token"]}
        for record in records
        if "validation" in record
    ]


def summarize(runs: Sequence[list[DocumentScore]], baseline: Sequence[list[DocumentScore]]) -> dict[str, Any]:
    """Bits per unit over seeds, and how far a variant is from the baseline.

    The difference has two intervals: over documents, with each document's bits averaged over seeds, and over seeds
    (Student's t). The first says whether it holds for other documents, the second whether for another training run.
    """
    values = [bits_per_unit(run).value for run in runs]
    differences = [value - bits_per_unit(run).value for value, run in zip(values, baseline, strict=True)]
    over_documents = paired_difference(_mean_over_seeds(runs), _mean_over_seeds(baseline))
    spread = statistics.stdev(differences) / math.sqrt(len(runs)) * _t_quantile(len(runs)) if len(runs) > 1 else None
    return {
        "bits_per_unit": statistics.fmean(values),
        "of_each_seed": values,
        "difference": statistics.fmean(differences),
        "over_documents": None if over_documents.low is None else [over_documents.low, over_documents.high],
        "over_seeds": None if spread is None else [statistics.fmean(differences) + s * spread for s in (-1, 1)],
    }


def _mean_over_seeds(runs: Sequence[list[DocumentScore]]) -> list[DocumentScore]:
    return [
        DocumentScore(
            nats=statistics.fmean(score.nats for score in scores),
            num_tokens=scores[0].num_tokens,
            num_units=scores[0].num_units,
        )
        for scores in zip(*runs, strict=True)
    ]


def _t_quantile(count: int) -> float:
    """The .975 quantile of Student's t with `count` - 1 degrees of freedom."""
    return {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}[count]


def print_tables(result: dict[str, Any], console: Console) -> None:
    """What each variant costs, and how it does on each source."""
    table = Table("variant", box=None)
    for heading in ("parameters", "GFLOP a 1,000 tokens", "trained tokens/s", "decoded frames/s", "cache a frame"):
        table.add_column(heading, justify="right")
    for name, row in result["variants"].items():
        table.add_row(
            name,
            f"{row['parameters']:,}",
            f"{row['training_flops_per_token'] / 1e6:.1f}",
            f"{row['training_tokens_per_second']:,.0f}",
            f"{row['decoded_frames_per_second']:.0f}",
            f"{row['cached_numbers_per_frame']:,}",
        )
    console.print(table)
    for source in result["sources"]:
        table = Table(source, box=None)
        for heading in (f"bits per {result['unit']}", "difference", "over documents", "over seeds"):
            table.add_column(heading, justify="right")
        for name, row in result["variants"].items():
            figures = row["sources"][source]
            intervals = (_range(figures[key]) for key in ("over_documents", "over_seeds"))
            table.add_row(name, f"{figures['bits_per_unit']:.4f}", f"{figures['difference']:+.4f}", *intervals)
        console.print(table)


def _range(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"


def main(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="One of recipes/compare/.")],
    data: Annotated[Path | None, typer.Option(help="The corpus; not read where all runs have records.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the figures go; benchmarks/results/ if not given.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs"),
    records: Annotated[Path, typer.Option(help="Where the scores of each run are kept.")] = RECORDS,
    seeds: Annotated[int, typer.Option(help="How many times each variant is trained; 1 to 8.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help=f"Variants beside {BASELINE!r}, of either kind.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many runs at a time, each in a process of its own.")] = 1,
    ablate: Annotated[bool, typer.Option("--ablations", help="Compare forms of the shortcut.")] = False,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key.path=value of the recipe.")] = None,
) -> None:
    """Train all variants, score them, and say which is better."""
    if not 1 <= seeds <= 8:
        raise UsageError(f"--seeds is {seeds}", "Give a whole number from 1 to 8")
    settings = load_recipe(recipe, overrides=overrides or [])
    if settings.model is None or settings.model.shortcut is None:
        raise UsageError(f"{recipe} has no model with a shortcut to compare with", "Give one of recipes/compare/")
    if data is not None:
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"folder": str(data)})})
    tokenizer = domains.get(settings.domain).tokenizer_type.from_options(settings.tokenizer)
    models, forms = (make(settings, tokenizer.vocab_sizes) for make in (rivals, ablations))
    known = models | forms
    unknown = sorted(set(only or []) - set(known))
    if unknown:
        raise UsageError(f"there is no variant {unknown[0]!r}", f"Give some of: {', '.join(known)}")
    chosen = {BASELINE, *only} if only else forms if ablate else models
    variants = {name: variant for name, variant in known.items() if name in chosen}
    planned = _planned(settings, variants, seeds=seeds, runs=runs, records=records)
    outcomes = _outcomes(planned, jobs=jobs)
    result = {
        "run": describe_run(seed=0),
        "made": _distinct(outcomes),
        "recipe": settings.model_dump(mode="json", exclude={"data"}),
        "seeds": seeds,
        "unit": tokenizer.unit_name,
        "baseline": BASELINE,
        "sources": {source: len(scores) for source, scores in outcomes[BASELINE][0].scores.items()},
        "variants": _rows(settings, variants, outcomes, tokenizer.vocab_sizes),
    }
    kind = "ablations" if ablate else "compare"
    output = output or RESULTS / f"{kind}_{settings.name.removeprefix('compare-')}.json"
    write_result(output, result)
    print_tables(result, new_console())


def _planned(
    settings: Recipe, variants: dict[str, Variant], *, seeds: int, runs: Path, records: Path
) -> dict[str, list[Run]]:
    """A run of each variant with each seed."""
    planned: dict[str, list[Run]] = {name: [] for name in variants}
    for name, variant in variants.items():
        for seed in range(seeds):
            training = settings.training.model_copy(update={"seed": seed, "max_steps": variant.max_steps})
            label = f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            recipe = settings.model_copy(update={"model": variant.model, "training": training, "name": label})
            folder, record = runs / settings.name / label, records / settings.name / f"{label}.json"
            planned[name].append(Run(recipe, folder, record))
    return planned


def _outcomes(planned: dict[str, list[Run]], *, jobs: int) -> dict[str, list[Outcome]]:
    """What came of the planned runs; those that have no record are made first.

    Raises:
        UsageError: some are of other data than others.
    """
    # All variants with a seed before the next seed, so that what is there when it is stopped can be compared.
    runs = [run for of_one_seed in zip(*planned.values(), strict=True) for run in of_one_seed]
    for run in runs:
        if run.record.is_file():
            read_record(run.record, run.recipe)
    make_records([run for run in runs if not run.record.is_file()], jobs=jobs)
    outcomes = {name: [read_record(run.record, run.recipe) for run in of_one] for name, of_one in planned.items()}
    corpora = {
        outcome.corpus: run for name in planned for outcome, run in zip(outcomes[name], planned[name], strict=True)
    }
    if len(corpora) > 1:
        one, other, *_ = (run.record for run in corpora.values())
        raise UsageError(f"{one} and {other} are of different data", "Give another folder with --records")
    return outcomes


def _rows(
    settings: Recipe, variants: dict[str, Variant], outcomes: dict[str, list[Outcome]], vocab_sizes: tuple[int, ...]
) -> dict[str, Any]:
    """What each variant costs, and how it does."""
    torch.set_num_threads(settings.training.num_threads or torch.get_num_threads())
    models = {name: _build(variant.model, vocab_sizes) for name, variant in variants.items()}
    speeds, rows = measure_speed(models, settings), {}
    for name, model in models.items():
        of_sources = {}
        for source in outcomes[BASELINE][0].scores:
            own = [outcome.scores[source] for outcome in outcomes[name]]
            baseline = [outcome.scores[source] for outcome in outcomes[BASELINE]]
            of_sources[source] = summarize(own, baseline)
        rows[name] = {
            "max_steps": variants[name].max_steps,
            "parameters": model.num_parameters,
            "training_flops_per_token": training_flops_per_token(model, settings.training.seq_len),
            "cached_numbers_per_frame": cached_numbers_per_frame(model),
            **speeds[name],
            "sources": of_sources,
            "validation": [outcome.validation for outcome in outcomes[name]],
        }
    return rows


def _distinct(outcomes: dict[str, list[Outcome]]) -> dict[str, list[Any]]:
    """All values of where, with what and when runs were made."""
    made = [outcome.made for of_variant in outcomes.values() for outcome in of_variant]
    hardware = [
        each.get("gpu") or f"{each['cpu']}, {each['threads']} thread{'s' * (each['threads'] > 1)}" for each in made
    ]
    distinct = {key: sorted({each[key] for each in made}) for key in ("torch", "commit", "date")}
    return {"hardware": sorted(set(hardware)), **distinct}


if __name__ == "__main__":
    run_command(main)
