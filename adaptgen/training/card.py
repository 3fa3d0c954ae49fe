"""The model card of a user's own run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptgen import __version__
from adaptgen.checkpoint import Checkpoint, find_checkpoint
from adaptgen.checkpoint_files import licence_of, name_of, read_card
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
    changes: Sequence[dict[str, Any]] = (),
) -> str:
    """Text of README.md, from what the run knows about itself.

    Args:
        recipe: as run.
        checkpoint: the model and its domain.
        corpus: what it was trained on.
        folder: of the run.
        step, tokens_seen, training_seconds: how far the run is.
        validation: at that step.
        changes: settings that were changed when the run was resumed, as in run.json.
    """
    domain, model = checkpoint.domain, checkpoint.model
    origin, terms = "trained from scratch", "the files it was trained on"
    if recipe.init_from is not None:
        parent = find_checkpoint(recipe.init_from)
        origin = f"fine-tuned from `{name_of(parent)}`"
        terms += f" and of the card of `{name_of(parent)}` ({licence_of(read_card(parent)) or 'not stated'})"
    used = corpus.num_files - len(corpus.skipped)
    command = ["adaptgen", "continue", domain.example_input, "--checkpoint", str(folder / "best")]
    lines = [
        f"# {recipe.name}",
        "",
        f"A {domain.name} model of {model.num_parameters:,} parameters, {origin} with adaptgen {__version__} on the "
        f"folder `{Path(recipe.data.folder).name}`.",
        "",
        f"Licence: for you to choose, within the terms of {terms}.",
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
        *_changes(changes),
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


def _changes(changes: Sequence[dict[str, Any]]) -> list[str]:
    """A line on how the training went on otherwise than it was begun; none if it did not."""
    said = [
        f"{change['key'].removeprefix('training.')} {change['old']} -> {change['new']} after step {change['step']:,}"
        for change in changes
        if change["key"].startswith("training.")
    ]
    return [f"- Changed on the way: {', '.join(said)}"] if said else []
