"""The same model with and without shortcuts, and with later ideas of that kind, trained on the same batches.

    python benchmarks/compare.py recipes/compare/pop909.yaml --data FOLDER -o benchmarks/results/compare_pop909.json

Every variant is trained from the recipe with each of several seeds, in a folder of its own below --runs; what is
there already is not trained again, so the command may be stopped and given again. Then all are scored on the test
split, every token once. Batches depend on the seed alone, so a seed's variants see the same music or text in the
same order.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from command import run_command
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen import domains
from adaptgen.checkpoint import restore_folder
from adaptgen.cli.common import new_console, progress_bar, refuse_existing, write_new
from adaptgen.config import ModelConfig, Recipe, ShortcutConfig, load_recipe
from adaptgen.errors import InputFileError, UsageError
from adaptgen.evaluation import DocumentScore, bits_per_unit, paired_difference, score_documents
from adaptgen.model import Transformer
from adaptgen.training.run_folder import read_recipe
from adaptgen.training.session import Session

BASELINE = "plain"
DECODED_FRAMES = 128


def variants(model: ModelConfig, vocab_sizes: tuple[int, ...]) -> dict[str, ModelConfig]:
    """What is compared, by name; `model` has the shortcut."""
    plain = model.model_copy(update={"shortcut": None})
    extra = _num_parameters(model, vocab_sizes) - _num_parameters(plain, vocab_sizes)
    wider = 8 * round(extra / (2 * model.model_dim * model.num_layers) / 8)
    paper = ShortcutConfig(place="replace", feature_map="mlp")
    mlp_dim = (model.mlp_dim or 4 * model.model_dim) + wider
    return {
        BASELINE: plain,
        "plain, as many parameters": plain.model_copy(update={"mlp_dim": mlp_dim}),
        "plain, one layer more": plain.model_copy(update={"num_layers": model.num_layers + 1}),
        "shortcut": model,
        "shortcut, MLP maps in place of self-attention": model.model_copy(update={"shortcut": paper}),
        "DenseFormer": plain.model_copy(update={"depth_mixing": "denseformer"}),
        "attention residuals": plain.model_copy(update={"depth_mixing": "attention_residual"}),
        "value residuals": plain.model_copy(update={"depth_mixing": "value_residual"}),
    }


def _num_parameters(config: ModelConfig, vocab_sizes: tuple[int, ...]) -> int:
    with torch.device("meta"):
        return Transformer(config, vocab_sizes).num_parameters


def training_flops_per_token(model: Transformer, seq_len: int) -> float:
    """Multiply-adds counted twice, backward twice the forward; attention over the frames that are visible.

    Left out: norms, softmax, and the mixing of depths by averages and attention residuals, a few numbers a layer.
    """
    config = model.config
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    shortcut = model.blocks[-1].shortcut
    if shortcut is not None and shortcut.key_value is not None:
        # One projection, used for every depth.
        matrices += (len(shortcut.depths) - 1) * shortcut.key_value.weight.numel()
    visible = np.minimum(np.arange(1, seq_len + 1), config.attention_window).mean()
    attention = 4 * config.model_dim * visible * num_keys_per_frame(config)
    return 3 * (2 * matrices + attention)


def num_keys_per_frame(config: ModelConfig) -> int:
    """Keys of all layers that the cache holds for a frame; times twice the width, its size in numbers."""
    if config.shortcut is None:
        return config.num_layers
    depths = config.shortcut.depths
    tapped = config.num_layers - 1 if depths is None else len(depths)
    return config.num_layers + tapped


@torch.inference_mode()
def decode_speed(model: Transformer) -> float:
    """Frames a second, one after another, with a cache that is full."""
    cache, window = model.new_cache(1), model.config.attention_window
    tokens = torch.zeros(1, len(model.vocab_sizes), window, dtype=torch.int64)
    model(tokens, cache)
    started = time.perf_counter()
    for _ in range(DECODED_FRAMES):
        model(tokens[:, :, :1], cache)
    return DECODED_FRAMES / (time.perf_counter() - started)


def train(recipe: Recipe, folder: Path) -> Session:
    """A finished run; trains it, or the rest of it, if need be."""
    restore_folder(folder / "last")
    resume = (folder / "last").is_dir()
    begun = read_recipe(folder) if resume else None
    if begun is not None and (begun.model, begun.training, begun.tokenizer) != (
        recipe.model,
        recipe.training,
        recipe.tokenizer,
    ):
        raise UsageError(f"{folder} holds a run of another recipe", "Give another folder with --runs")
    session = Session(recipe, folder, resume=resume, force=not resume)
    with progress_bar() as bar:
        task = bar.add_task(folder.name, total=recipe.training.max_steps, completed=session.trainer.step, status="")
        session.run(on_step=lambda record: bar.update(task, completed=record["step"]))
    session.trainer.model.eval()
    return session


def summarize(runs: list[list[DocumentScore]], baseline: list[list[DocumentScore]]) -> dict[str, Any]:
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
        "over_documents": [over_documents.low, over_documents.high],
        "over_seeds": None if spread is None else [statistics.fmean(differences) + s * spread for s in (-1, 1)],
    }


def _mean_over_seeds(runs: list[list[DocumentScore]]) -> list[DocumentScore]:
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


def print_table(result: dict[str, Any], console: Console) -> None:
    """One row per variant."""
    unit = result["unit"]
    table = Table("variant", box=None)
    headings = ("parameters", f"bits per {unit}", f"less {BASELINE}", "over documents", "over seeds")
    for heading in (*headings, "GFLOP a 1,000 tokens", "tokens/s", "decoded/s", "cache a frame"):
        table.add_column(heading, justify="right")
    for name, row in result["variants"].items():
        table.add_row(
            name,
            f"{row['parameters']:,}",
            f"{row['bits_per_unit']:.4f}",
            f"{row['difference']:+.4f}",
            _range(row["over_documents"]),
            _range(row["over_seeds"]),
            f"{row['training_flops_per_token'] / 1e6:.1f}",
            f"{row['training_tokens_per_second']:,.0f}",
            f"{row['decoded_frames_per_second']:.0f}",
            f"{row['cached_numbers_per_frame']:,}",
        )
    console.print(table)


def _range(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"


def main(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="One of recipes/compare/.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the figures go, as JSON.")],
    data: Annotated[Path | None, typer.Option(help="The corpus.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs/compare"),
    seeds: Annotated[int, typer.Option(help="How many times each variant is trained; 1 to 8.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help=f"Variants beside {BASELINE!r}; all if not given.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key.path=value of the recipe.")] = None,
) -> None:
    """Train all variants, score them, and say which is better."""
    if not 1 <= seeds <= 8:
        raise UsageError(f"--seeds is {seeds}", "Give a whole number from 1 to 8")
    refuse_existing([output], force=True)
    settings = load_recipe(recipe, overrides=overrides or [])
    if settings.model is None or settings.model.shortcut is None:
        raise UsageError(f"{recipe} has no model with a shortcut to compare with", "Give one of recipes/compare/")
    if data is not None:
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"folder": str(data)})})
    tokenizer = domains.get(settings.domain).tokenizer_type.from_options(settings.tokenizer)
    models = variants(settings.model, tokenizer.vocab_sizes)
    unknown = sorted(set(only or []) - set(models))
    if unknown:
        raise UsageError(f"there is no variant {unknown[0]!r}", f"Give some of: {', '.join(models)}")
    chosen = {name: config for name, config in models.items() if not only or name in (BASELINE, *only)}
    scores: dict[str, list[list[DocumentScore]]] = {name: [] for name in chosen}
    about: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for seed in range(seeds):
        for name, config in chosen.items():
            training = settings.training.model_copy(update={"seed": seed})
            run = settings.model_copy(update={"model": config, "training": training, "name": f"{name}-{seed}"})
            folder = runs / settings.name / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            session = train(run, folder)
            tests = [source["test"] for source in session.corpus.shards if "test" in source]
            documents = [document for shard in tests for document in shard.documents()]
            if not documents:
                raise InputFileError(f"{run.data.folder} has no test split", "Give another with --data")
            model = session.trainer.model
            scores[name].append(score_documents(model, documents, session.trainer.checkpoint.tokenizer))
            about[name] = _describe(model, folder, training.seq_len)
    rows = {name: about[name] | summarize(scores[name], scores[BASELINE]) for name in chosen}
    result = {
        "run": describe_run(seed=0),
        "recipe": settings.model_dump(mode="json", exclude={"data"}),
        "seeds": seeds,
        "unit": tokenizer.unit_name,
        "documents": len(scores[BASELINE][0]),
        "variants": rows,
    }
    write_new(output, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode(), force=True)
    print_table(result, new_console())


def _describe(model: Transformer, folder: Path, seq_len: int) -> dict[str, Any]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [record for record in records if "loss" in record]
    return {
        "parameters": model.num_parameters,
        "training_flops_per_token": training_flops_per_token(model, seq_len),
        "training_tokens_per_second": statistics.median(record["tokens_per_second"] for record in steps),
        "decoded_frames_per_second": decode_speed(model),
        "cached_numbers_per_frame": 2 * model.config.model_dim * num_keys_per_frame(model.config),
        "validation": [
            {"step": record["step"], **record["validation"]} for record in records if "validation" in record
        ],
    }


if __name__ == "__main__":
    run_command(main)
