"""What a checkpoint's folder says of itself, read without its model and so without torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from adaptgen.errors import CheckpointError
from adaptgen.paths import user_path
from adaptgen.shipped import shipped_folder

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT_VERSION",
    "METRICS",
    "RECIPE",
    "WEIGHTS",
    "find_checkpoint",
    "licence_of",
    "name_of",
    "read_card",
    "read_config",
    "read_metrics",
    "shipped",
]

FORMAT_VERSION = 1
WEIGHTS, CONFIG, METRICS, CARD = "model.safetensors", "config.json", "metrics.json", "README.md"
RECIPE = "recipe.yaml"
"""What lies beside the checkpoints of a run."""


def shipped() -> list[str]:
    """Names of the checkpoints that come with adaptgen."""
    folder = shipped_folder("checkpoints")
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint, given as a shipped name or as a path.

    A shipped name goes before a folder of that name, which `./name` means, or a `Path`: what a command takes unless
    told otherwise must not depend on where it is started.

    Raises:
        CheckpointError: there is none of either.
    """
    if isinstance(name, str) and name in shipped():
        return shipped_folder("checkpoints") / name
    path = user_path(str(name))
    if (path / CONFIG).is_file():
        return path
    if path.exists():
        # Of a run, and beside the state that it is resumed from.
        best = next((best for best in (path / "best", path.parent / "best") if (best / CONFIG).is_file()), None)
        remedy = "Give a checkpoint's folder" if best is None else f"Give {best}"
        raise CheckpointError(f"{path} is not a checkpoint: it has no {CONFIG}", remedy)
    known = ", ".join(shipped()) or "none"
    raise CheckpointError(f"there is no checkpoint {str(name)!r}", f"Give a folder or one that is shipped: {known}")


def name_of(folder: Path) -> str:
    """What a checkpoint is called: by its folder, and by its run too where it is one of a run, as in mine/best."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if (folder.parent / RECIPE).is_file() else folder.name


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's config.json, of a version that is understood and with a domain's name.

    Raises:
        CheckpointError: it cannot be read, is of another version, or names no domain.
    """
    path = folder / CONFIG
    config = _read_json(path)
    version = config.get("format_version") if isinstance(config, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this adaptgen reads {FORMAT_VERSION}", "Update adaptgen"
        )
    if not isinstance(config.get("domain"), str):
        raise CheckpointError(f"{path} is damaged: it names no domain", "Get the checkpoint again")
    return config


def read_metrics(folder: Path) -> dict[str, Any]:
    """What was measured of a checkpoint; empty if that was not kept.

    Raises:
        CheckpointError: its metrics.json cannot be read.
    """
    path = folder / METRICS
    metrics = _read_json(path) if path.is_file() else {}
    if not isinstance(metrics, dict):
        raise CheckpointError(f"{path} is damaged: it is no JSON object", "Get the checkpoint again")
    return metrics


def read_card(folder: Path) -> str:
    """The text of a checkpoint's card; empty if it has none.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = folder / CARD
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}", "Get the checkpoint again") from None


def licence_of(card: str) -> str | None:
    """What a card says of its licence, in its text or in what is there for machines."""
    found = re.search(r"^\W*licen[cs]e\W*:\W*(.+?)[\s.*_]*$", card, re.MULTILINE | re.IGNORECASE)
    return found and found.group(1)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "Get the checkpoint again") from None
    except ValueError:
        raise CheckpointError(f"{path} is damaged", "Get the checkpoint again") from None
