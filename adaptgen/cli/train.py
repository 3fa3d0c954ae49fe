"""`adaptgen train`: fit a model to a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped name such as music.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder with your files; the recipe's own if not given.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run; runs/<name> if not given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in that folder stopped.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Begin anew in a folder that holds a run.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a setting of the recipe."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Short for --set training.max_steps=...")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set training.seed=...")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON; the rest to stderr.")
    ] = False,
) -> None:
    """Train a model on a folder of files, or fine-tune one.

    Example: adaptgen train music --data ~/midi --set training.max_steps=2000
    """
