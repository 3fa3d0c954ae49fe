"""The command line: one verb per file. Only commands import torch and MidiTok, to start at once."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
from typer.core import TyperGroup

from adaptgen import __version__
from adaptgen.cli import checkpoints, codec, recipes
from adaptgen.cli.common import EXIT_INTERRUPTED, print_error, say
from adaptgen.cli.continue_ import continue_
from adaptgen.cli.eval import eval_
from adaptgen.cli.inspect import inspect_
from adaptgen.cli.render import render
from adaptgen.cli.tokenize import tokenize
from adaptgen.cli.train import train
from adaptgen.errors import AdaptgenError

__all__ = ["app", "main"]


class Verbs(TyperGroup):
    """All verbs; each may be interrupted."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("Interrupted.", stderr=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="adaptgen",
    cls=Verbs,
    help="Continue a file: a small transformer writes the next bars of your song, the next words of your text, "
    "or the next seconds of your voice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which --help lists them.
app.command("continue")(continue_)
app.command("render")(render)
app.command("tokenize")(tokenize)
app.command("train")(train)
app.command("eval")(eval_)
app.command("inspect")(inspect_)
app.add_typer(codec.app, name="codec")
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
    _prepare_output()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except AdaptgenError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # No mistake of ours either: a disk, a permission, a name that is too long, a reader that has gone.
        if not isinstance(error, BrokenPipeError):
            place = f"{error.filename}: " if error.filename else ""
            say(f"Error: {place}{error.strerror or error}.", style="red", stderr=True)
        _drop_output()
        sys.exit(AdaptgenError.exit_code)


def _prepare_output() -> None:
    """Let no name that stdout's encoding lacks, and no stdout that is closed, stop a verb."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it stays open
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what cannot be written go quietly, which Python would try to write once more at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
