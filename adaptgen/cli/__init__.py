"""The command line: one verb per file. Only commands import torch and MidiTok, to start at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adaptgen import __version__
from adaptgen.cli import checkpoints, recipes
from adaptgen.cli.common import print_error, say
from adaptgen.errors import AdaptgenError

__all__ = ["app", "main"]

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="adaptgen",
    help="Continue a song: a small transformer writes the next bars of your MIDI file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which --help lists them.
app.add_typer(recipes.app, name="recipes")
app.add_typer(checkpoints.app, name="checkpoints")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"adaptgen {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """What holds for all verbs."""


def main() -> None:
    """Run the command line; a mistake of the user's is one sentence and an exit code, never a traceback."""
    try:
        app()
    except AdaptgenError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        # Typer has turned Ctrl-C into this.
        if end.code == EXIT_INTERRUPTED:
            say("Interrupted.", stderr=True)
        raise
