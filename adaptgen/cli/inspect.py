"""`adaptgen inspect`: where the model looks in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptgen.cli.common import (
    new_console,
    print_json,
    progress_bar,
    refuse_existing,
    result_file,
    result_stem,
    say,
    write_new,
)
from adaptgen.errors import CheckpointError, InputFileError, UsageError
from adaptgen.paths import printable

__all__ = ["inspect_"]

DEFAULT_TOKENS = 640
DRAWN_TOKENS = 2560
"""How many the picture shows at most."""
SUFFIXES = (".png", ".html", ".json")


def inspect_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of any domain.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Whose attention; the domain's shipped one if not given.")
    ] = None,
    tokens: Annotated[
        int,
        typer.Option(help=f"How many tokens, from the file's beginning; the picture has {DRAWN_TOKENS:,} at most."),
    ] = DEFAULT_TOKENS,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Let the model learn the file first, as `continue` lets it learn a song.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=result_file,
            metavar="PATH",
            help="Of the results, with or without .png; FILE.attention here if not given.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite results that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the averages as JSON.")] = False,
) -> None:
    """Show how much of the last block's attention falls on each layer, and where in the past.

    Writes a picture, a page on which hovering a token shows its links, and JSON with every token.

    Example: adaptgen inspect song.mid
    """
    if tokens < 2:
        raise UsageError(f"--tokens is {tokens}", "Give a whole number from 2 up")
    stem = result_stem(output, f"{file.stem}.attention", SUFFIXES)
    paths = {suffix: stem.with_name(stem.name + suffix) for suffix in SUFFIXES}
    refuse_existing(paths.values(), force=force, inputs=[file])

    import numpy as np

    from adaptgen import domains
    from adaptgen.adaptation import adapt_checkpoint
    from adaptgen.checkpoint import load_checkpoint
    from adaptgen.inspection import depth_name, inspect_document
    from adaptgen.model import DISTANCES

    domain = domains.for_file(file)
    loaded = load_checkpoint(checkpoint or domain.default_checkpoint, domain=domain)
    if loaded.model.config.shortcut is None:
        raise CheckpointError(f"{loaded.name} has no shortcut to look at", "Give another with --checkpoint")
    whole = np.concatenate(domain.read_documents(file, loaded.tokenizer, is_training=False), axis=1)
    document = whole[:, :tokens]
    if document.shape[1] < 2:
        raise InputFileError(f"{file} has one token", "Give a longer file")
    model = loaded.model
    with progress_bar(stderr=True) as bar:
        if adapt:
            learning = bar.add_task("Adapting", total=100, status="")
            model = adapt_checkpoint(
                loaded, whole, on_progress=lambda share: bar.update(learning, completed=100 * share)
            ).model
        task = bar.add_task("Reading", total=document.shape[1] - 1, status="tokens")
        found = inspect_document(model, document, loaded.tokenizer, on_progress=lambda count: bar.advance(task, count))
    averages = found.averages()
    title = printable(f"{file.name}, read by {loaded.name}" + ", adapted to it" * adapt)
    content = {
        "file": file.name,
        "checkpoint": loaded.name,
        "adapted": adapt,
        "averages": averages,
        "tokens": found.tokens(),
    }
    write_new(paths[".png"], found.picture(title=title, max_tokens=DRAWN_TOKENS), force=force)
    write_new(paths[".html"], found.page(title=title), force=force)
    write_new(paths[".json"], (json.dumps(content, allow_nan=False) + "\n").encode(), force=force)
    if as_json:
        print_json({"files": [str(path) for path in paths.values()], "averages": averages})
        return
    depths = found.map.depths
    headings = {"distance_shares": [f"{name} back" for name in DISTANCES]}
    if len(depths) > 1:
        headings = {"depth_shares": [*map(depth_name, depths), "mean depth"], **headings}
    _print(averages, headings)
    if len(depths) == 1 and domain.twins:
        only = depth_name(depths[0])
        say(f"{loaded.name} reads one layer, the {only}. One that reads all: --checkpoint {domain.twins[-1]}")
    say(f"Written: {', '.join(str(path) for path in paths.values())}")
    if document.shape[1] > DRAWN_TOKENS:
        say(f"The picture shows the first {DRAWN_TOKENS:,} of {document.shape[1]:,} tokens, the others all.")


def _print(averages: dict[str, dict[str, dict[str, Any]]], headings: dict[str, list[str]]) -> None:
    """A table for each kind of share that is headed, a row for each group of tokens."""
    from rich.table import Table
    from rich.text import Text

    for kind, names in headings.items():
        table = Table("", box=None)
        for heading in ("tokens", "nats", *names):
            table.add_column(heading, justify="right")
        for group in averages.values():
            for name, row in group.items():
                shares = [*row[kind].values(), *([row["mean_depth"]] if kind == "depth_shares" else [])]
                cells = (f"{row['tokens']:,}", f"{row['nats']:.3f}", *(f"{share:.3f}" for share in shares))
                table.add_row(Text(name), *cells)
            table.add_section()
        new_console().print(table)
