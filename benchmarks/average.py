"""Average the weights of a checkpoint and of one that was trained on from it.

    python benchmarks/average.py checkpoints/music runs/music-bands/best runs/music-averaged/best --share 0.6

What was trained on has learned the new corpora and forgotten some of the old ones; half the way there it keeps most of
both (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903). Recall is the second's; all else is
the first's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from command import run_command

from adaptgen.checkpoint import load_checkpoint, replace_folder, save_checkpoint
from adaptgen.errors import CheckpointError


@torch.no_grad()
def average(
    first: Annotated[Path, typer.Argument(help="The checkpoint that training began with.")],
    second: Annotated[Path, typer.Argument(help="The one that it came to.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the second.")] = 0.6,
) -> None:
    """Write a checkpoint of averaged weights."""
    start, end = load_checkpoint(first), load_checkpoint(second)
    if start.model.config != end.model.config or start.tokenizer.fingerprint != end.tokenizer.fingerprint:
        raise CheckpointError(f"{first} and {second} are not of one form", "Give one that was trained from the other")
    for weight, other in zip(start.model.parameters(), end.model.parameters(), strict=True):
        weight.lerp_(other, share)
    start.recall = end.recall
    card = (first / "README.md").read_text(encoding="utf-8")
    with replace_folder(output) as partial:
        save_checkpoint(start, partial, card=card)


if __name__ == "__main__":
    run_command(average)
