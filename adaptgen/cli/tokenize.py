"""`adaptgen tokenize`: what the model sees of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaptgen.cli.common import print_json, say

__all__ = ["tokenize"]


def tokenize(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of any domain.")],
    roundtrip: Annotated[
        bool, typer.Option("--roundtrip", help="Show what is lost on the way to tokens and back instead.")
    ] = False,
    checkpoint: Annotated[
        str | None, typer.Option(help="Whose tokenizer to use; that of the domain's shipped one if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the tokens of a file, or what is lost in them.

    Example: adaptgen tokenize song.mid --roundtrip
    """
    import numpy as np

    from adaptgen import domains
    from adaptgen.checkpoint import load_tokenizer

    domain = domains.for_file(file)
    tokenizer = load_tokenizer(checkpoint or domain.default_checkpoint, domain=domain)
    if roundtrip:
        report = domain.check_roundtrip(file, tokenizer)
        if as_json:
            print_json(report)
        else:
            for name, value in report.items():
                say(f"{name.replace('_', ' '):<28}{value}")
        return
    tokens = np.concatenate(domain.read_documents(file, tokenizer, is_training=False), axis=1)
    names = tokenizer.describe(tokens)
    if as_json:
        print_json({"ids": tokens.tolist(), "tokens": names})
    else:
        for name in names:
            say(name)
