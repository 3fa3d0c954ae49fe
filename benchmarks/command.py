"""What the scripts here have in common: how they end when something is wrong, and how they store figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptgen.cli.common import print_error, write_new
from adaptgen.errors import AdaptgenError

__all__ = ["JsonFile", "Threads", "describe_sampling", "run_command", "write_result"]

JsonFile = Annotated[Path | None, typer.Option("--json", help="Where to store the figures.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; torch's own choice if not given.")]


def run_command(main: Callable[..., None]) -> None:
    """Run a function with the arguments of the command line; end as `adaptgen` itself does."""
    try:
        typer.run(main)
    except AdaptgenError as error:
        print_error(error)
        sys.exit(error.exit_code)


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Store figures as JSON, in place of earlier ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_new(path, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode(), force=True)


def describe_sampling(sampling: dict[str, float | None]) -> str:
    """What is set, in words."""
    return ", ".join(f"{name} {value:g}" for name, value in sampling.items() if value is not None)
