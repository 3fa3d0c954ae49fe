"""`adaptgen checkpoints`: which models there are, and what is known about them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptgen.cli.common import new_console, print_json, say

__all__ = ["app"]

app = typer.Typer(help="List checkpoints and show what is known about them.", no_args_is_help=True)


@app.command("ls")
def list_checkpoints(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")] = False,
) -> None:
    """List the checkpoints that come with adaptgen.

    Example: adaptgen checkpoints ls
    """
    from rich.table import Table

    from adaptgen.checkpoint_files import find_checkpoint, shipped

    rows = [_describe(find_checkpoint(name)) for name in shipped()]
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("No checkpoints are installed.")
        return
    table = Table(box=None)
    for heading in ("checkpoint", "domain", "parameters", "size", "licence"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f} MB"
        table.add_row(row["name"], row["domain"], f"{row['parameters']:,}", size, row["licence"])
    new_console().print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped name, or a checkpoint's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")] = False,
) -> None:
    """Show a checkpoint's size, card and measurements.

    Example: adaptgen checkpoints show music
    """
    from adaptgen.checkpoint_files import find_checkpoint

    about = _describe(find_checkpoint(name))
    if as_json:
        print_json(about)
        return
    metrics, card = about.pop("metrics"), about.pop("card")
    for key, value in about.items():
        say(f"{key:<12}{value:,}" if isinstance(value, int) else f"{key:<12}{value}")
    for key, value in _flatten(metrics):
        say(f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}")
    if card:
        say("")
        for line in card.splitlines():
            say(line)


def _describe(folder: Path) -> dict[str, Any]:
    """What is known about a checkpoint without loading it."""
    from safetensors import SafetensorError, safe_open

    from adaptgen.checkpoint_files import WEIGHTS, licence_of, name_of, read_card, read_config, read_metrics
    from adaptgen.errors import CheckpointError

    config = read_config(folder)
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}", "Get the checkpoint again") from None
    card = read_card(folder)
    return {
        "name": name_of(folder),
        "folder": str(folder),
        "domain": config["domain"],
        "parameters": sum(math.prod(shape) for shape in shapes),
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "licence": licence_of(card) or "not stated",
        "card": _card_head(card),
        "metrics": read_metrics(folder),
    }


def _card_head(card: str) -> str:
    """The part of a model card before its first section, without what is there for machines."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    return re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _flatten(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested measurements as (dotted name, value)."""
    result = []
    for key, value in content.items():
        # The source of a run that takes all of its folder.
        key = "all files" if key == "." else key
        result += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + str(key), value)]
    return result
