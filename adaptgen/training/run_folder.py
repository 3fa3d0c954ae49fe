"""The folder of a run: who may write into it, and whether a run in it may go on.

recipe.yaml     the recipe as run, with all overrides
run.json        what the corpus was
skipped.tsv     files that could not be used, and why
best/, last/    a checkpoint, and the state to resume from
log.jsonl ...   see `adaptgen.training.log`
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from adaptgen.checkpoint import restore_folder
from adaptgen.config import Recipe, load_recipe
from adaptgen.errors import CheckpointError, OutputFileError, RecipeError
from adaptgen.training.log import CURVE, LOG, TENSORBOARD

__all__ = ["RECIPE", "SKIPPED", "check_fits", "check_free", "clear", "read_recipe", "write_about"]

RECIPE, ABOUT, SKIPPED = "recipe.yaml", "run.json", "skipped.tsv"
WRITTEN = (RECIPE, ABOUT, SKIPPED, "best", "last", LOG, CURVE, TENSORBOARD)
SAME_TRAINING = ("batch_size", "seq_len", "seed", "augment", "muon_learning_rate")
"""What decides, with data, model and tokenizer, which batches a run sees and which optimisers keep its state. The
rest may change on the way."""


def check_free(folder: Path, *, resume: bool, force: bool) -> None:
    """Refuse a folder that a run must not write into.

    Raises:
        OutputFileError: it holds something, and neither `resume` nor `force` is set; or it is a file.
        CheckpointError: `resume` is set and there is nothing to resume.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFileError(f"{folder} is not a folder", "Give another with -o")
    if resume:
        restore_folder(folder / "last")
        restore_folder(folder / "best")
        if not (folder / "last").is_dir():
            remedy = "Begin anew with --force" if _is_used(folder) else "Start one without --resume"
            raise CheckpointError(f"{folder} has no run to resume", remedy)
    elif not force and _is_used(folder):
        can_resume = any((folder / name).is_dir() for name in ("last", "last.old"))
        go_on = "--resume to go on with its run, " if can_resume else ""
        raise OutputFileError(f"{folder} is not empty", f"Use {go_on}--force to begin anew, or -o elsewhere")


def _is_used(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def clear(folder: Path) -> None:
    """Remove an earlier run, also what a killed one left half swapped, and nothing that is not part of one."""
    for path in (folder / f"{name}{suffix}" for name in WRITTEN for suffix in (".old", ".partial", "")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read_recipe(folder: Path) -> Recipe | None:
    """The recipe that a run was begun with; None if it left none."""
    return load_recipe(folder / RECIPE) if (folder / RECIPE).is_file() else None


def check_fits(folder: Path, recipe: Recipe, *, corpus_fingerprint: str) -> None:
    """Check that going on with a run would be going on with the same model on the same batches.

    Raises:
        RecipeError: model, tokenizer, data or batches are others; names the key and both values.
    """
    begun = read_recipe(folder)
    if begun is None:
        return
    old, new = _decisive(begun), _decisive(recipe)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise RecipeError(
                f"the run in {folder} was begun with {key} = {old.get(key)!r}, the recipe has {new.get(key)!r}",
                "Resume with the value it was begun with, or begin another run with -o",
            )
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if about["corpus_fingerprint"] != corpus_fingerprint:
        raise RecipeError(
            f"{recipe.data.folder} no longer holds the files that the run in {folder} was begun with",
            "Put them back, or begin another run with -o",
        )


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """The settings that must stay, by dotted key."""
    content = recipe.model_dump(mode="json")
    # The files are compared by their tokens, wherever they come from.
    content["data"].pop("folder")
    content["data"].pop("download")
    content["training"] = {key: content["training"][key] for key in SAME_TRAINING}
    content.pop("name")
    return dict(_flatten(content))


def _flatten(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if items is None:
        return [(prefix, content)]
    return [pair for key, value in items for pair in _flatten(value, f"{prefix}.{key}".lstrip("."))]


def write_about(folder: Path, recipe: Recipe, about: dict[str, Any], skipped: list[tuple[str, str]]) -> None:
    """Write what the run is made of; each file at one go."""
    lines = ["file\treason", *("\t".join(map(_one_line, row)) for row in skipped)]
    content = {
        RECIPE: yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        ABOUT: json.dumps(about, indent=2) + "\n",
        SKIPPED: "\n".join(lines) + "\n",
    }
    for name, text in content.items():
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(folder / name)


def _one_line(text: str) -> str:
    return " ".join(text.split())
