"""Make a checkpoint that ships from a run and from what was measured of it.

    python benchmarks/ship.py runs/music music --temperature 1.0 --min-p 0.1

Run it once to have a checkpoint to measure, then the scripts that measure it, then once more: their figures below
benchmarks/results/ go into metrics.json. The card, README.md in the checkpoint's folder, is written by hand and kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from command import run_command

from adaptgen.checkpoint import load_checkpoint, replace_folder, save_checkpoint
from adaptgen.sampling import Sampling

ROOT = Path(__file__).parents[1]
RESULTS = {
    "music": {"test": "score_music.json", "musical_check": "musical_check.json", "recall": "recall_music.json"},
    "text": {"test": "score_text.json", "words": "text_check.json", "recall": "recall_text.json"},
    "speech": {"test": "score_speech.json", "speech_check": "speech_check.json", "codec": "score_codec.json"},
}


def summary(content: Any) -> Any:
    """A result without the figures of single songs, and without what the checkpoint said of itself before."""
    if not isinstance(content, dict):
        return content
    is_detail = {
        key: isinstance(value, list) and any(isinstance(item, dict) for item in value) for key, value in content.items()
    }
    return {key: summary(value) for key, value in content.items() if key != "trained" and not is_detail[key]}


def ship(
    run: Annotated[Path, typer.Argument(help="A run's folder, with best/ in it.")],
    name: Annotated[str, typer.Argument(help="Of the checkpoint, such as music.")],
    temperature: Annotated[float, typer.Option()] = 1.0,
    top_k: Annotated[int | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    min_p: Annotated[float | None, typer.Option()] = None,
) -> None:
    """Write a folder below checkpoints/ anew."""
    checkpoint = load_checkpoint(str(run / "best"))
    checkpoint.sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    for key, file in RESULTS.get(name, {}).items():
        path = ROOT / "benchmarks" / "results" / file
        if path.is_file():
            checkpoint.metrics[key] = summary(json.loads(path.read_text(encoding="utf-8")))
    target = ROOT / "checkpoints" / name
    card = target / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    with replace_folder(target) as partial:
        save_checkpoint(checkpoint, partial, card=text)


if __name__ == "__main__":
    run_command(ship)
