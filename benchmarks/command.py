"""How a script here ends when something is wrong: as `adaptgen` itself does."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from adaptgen.cli.common import print_error
from adaptgen.errors import AdaptgenError

__all__ = ["run_command"]


def run_command(main: Callable[..., None]) -> None:
    """Run a function with the arguments of the command line."""
    try:
        typer.run(main)
    except AdaptgenError as error:
        print_error(error)
        sys.exit(error.exit_code)
