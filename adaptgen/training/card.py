"""The model card of a user's own run."""

from __future__ import annotations

from pathlib import Path

from adaptgen import __version__
from adaptgen.checkpoint import Checkpoint
from adaptgen.config import Recipe
from adaptgen.paths import command_line
from adaptgen.training.corpus import Corpus
from adaptgen.training.loop import Validation

__all__ = ["model_card"]


def model_card(
    recipe: Recipe,
    checkpoint: Checkpoint,
    corpus: Corpus,
    folder: Path,
    *,
    step: int,
    tokens_seen: int,
    training_seconds: float,
    validation: Validation,
) -> str:
    """Text of README.md, from what the run knows about itself.

    Args:
        recipe: as run.
        checkpoint: the model and its domain.
        corpus: what it was trained on.
        folder: of the run.
        step, tokens_seen, training_seconds: how far the run is.
        validation: at that step.
    """
    domain, model = checkpoint.domain, checkpoint.model
    origin = f"fine-tuned from `{Path(recipe.init_from).name}`" if recipe.init_from else "trained from scratch"
    used = corpus.num_files - len(corpus.skipped)
    command = ["adaptgen", "continue", domain.example_input, "--checkpoint", str(folder / "best")]
    lines = [
        f"# {recipe.name}",
        "",
        f"A {domain.name} model of {model.num_parameters:,} parameters, {origin} with adaptgen {__version__} on the "
        f"folder `{Path(recipe.data.folder).name}`.",
        "",
        "Licence: for you to choose, within the terms of the files it was trained on.",
        "",
        "## Use",
        "",
        f"    {command_line(command)}",
        "",
        "## Training",
        "",
        f"- Files: {used:,} used, {len(corpus.skipped):,} skipped",
        f"- Tokens in them: {corpus.num_tokens('train'):,} to train on, {corpus.num_tokens('validation'):,} held out "
        "for validation",
        f"- Steps: {step:,} of {recipe.training.max_steps:,}, which saw {tokens_seen:,} tokens in "
        f"{training_seconds / 60:.1f} minutes; seed {recipe.training.seed}",
        "",
        "## Validation",
        "",
    ]
    if validation.nats_per_token is None:
        lines += ["Nothing was held out, so it is not known how well the model does on new files."]
    for source, values in validation.by_source.items():
        measured = ", ".join(f"{value:.3f} {key.replace('_', ' ')}" for key, value in values.items())
        name = Path(recipe.data.folder).name if source == "." else source
        lines += [f"- `{name}`: {measured}"]
    return "\n".join(lines) + "\n"
