"""The folder of a run: who may write into it, and whether a run in it may go on.

recipe.yaml     the recipe as run, with all overrides
run.json        what the corpus was, and what was changed on the way
skipped.tsv     files that could not be used, and why
best/, last/    a checkpoint, and the state to resume from
log.jsonl ...   see `adaptgen.training.log`
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from adaptgen.checkpoint import restore_folder
from adaptgen.checkpoint_files import RECIPE
from adaptgen.config import Recipe
from adaptgen.errors import CheckpointError, OutputFileError, RecipeError
from adaptgen.recipe_files import load_recipe
from adaptgen.training.log import CURVE, LOG, TENSORBOARD

try:
    import fcntl
except ImportError:  # Windows, which has no locks that end with their process and need no file of their own
    fcntl = None

__all__ = [
    "RECIPE",
    "SKIPPED",
    "check_fits",
    "check_free",
    "check_spared",
    "clear",
    "differences",
    "earlier_changes",
    "held",
    "read_recipe",
    "write_about",
]

ABOUT, SKIPPED = "run.json", "skipped.tsv"
WRITTEN = (RECIPE, ABOUT, SKIPPED, "best", "last", LOG, CURVE, TENSORBOARD)
SAME_TRAINING = ("batch_size", "seq_len", "seed", "augment", "muon_learning_rate", "validation_batches")
"""What decides, with data, model and tokenizer, which batches a run sees and is validated on, and which optimisers keep
its state. The rest may change on the way."""


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


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep all other processes from writing into a run's folder, until the end of this one at the latest.

    The folder itself is locked, so that nothing is left in it. Where that cannot be done, as on some network file
    systems, nothing is kept from anybody.

    Raises:
        OutputFileError: another process has it.

    Source: flock(2).
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputFileError(
                f"another process is training in {folder}", "Wait for it, or give another folder with -o"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def check_spared(folder: Path, needed: Sequence[Path]) -> None:
    """Check that a run can be made from what is left when the one before it in the folder is removed.

    Raises:
        OutputFileError: a file or folder that it needs would be removed.
    """
    removed = [(folder / name).resolve() for name in WRITTEN]
    for path in needed:
        if any(path.resolve().is_relative_to(other) for other in removed):
            raise OutputFileError(
                f"{path}, which the new run needs, would be removed with the run in {folder}",
                "Begin the new one elsewhere with -o",
            )


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


def differences(one: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """Settings that are not the same in both, by dotted key, with their values."""
    ours, theirs = (dict(_flatten(recipe.model_dump(mode="json"))) for recipe in (one, other))
    keys = sorted(ours.keys() | theirs.keys())
    return [(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def check_fits(folder: Path, recipe: Recipe, *, corpus_fingerprint: str) -> list[tuple[str, Any, Any]]:
    """Check that going on with a run would be going on with the same model on the same batches.

    Returns:
        What else the run goes on with otherwise than it was begun: keys, and old and new values.

    Raises:
        RecipeError: model, tokenizer, data or batches are others; names the key and both values.
        CheckpointError: what the run was begun with cannot be read.
    """
    begun = read_recipe(folder)
    if begun is None:
        return []
    # Files are compared by their tokens, wherever they come from.
    changes = [change for change in differences(begun, recipe) if not change[0].startswith("data.download")]
    for key, old, new in changes:
        if _is_decisive(key):
            raise RecipeError(
                f"the run in {folder} was begun with {key} = {old!r}, the recipe has {new!r}",
                "Resume with the value it was begun with, or begin another run with -o",
            )
    try:
        begun_with = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["corpus_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / ABOUT} is damaged", "Begin anew with --force") from None
    if begun_with != corpus_fingerprint:
        raise RecipeError(
            f"{recipe.data.folder} no longer holds the files that the run in {folder} was begun with",
            "Put them back, or begin another run with -o",
        )
    return changes


def earlier_changes(folder: Path) -> list[dict[str, Any]]:
    """What a run that `check_fits` was changed to on the way: after which step, which key, and old and new value."""
    path = folder / ABOUT
    return json.loads(path.read_text(encoding="utf-8")).get("changes", []) if path.is_file() else []


def _is_decisive(key: str) -> bool:
    """Whether a setting must stay."""
    section, _, name = key.partition(".")
    return name in SAME_TRAINING if section == "training" else key not in ("name", "data.folder")


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
