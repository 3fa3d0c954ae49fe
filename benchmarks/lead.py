"""On which frames is one model ahead of another?

    python benchmarks/lead.py --baseline music-twin-plain --checkpoint music-twin-shortcut --data FOLDER/pop909

Over evenly spaced passages of the test split, each as long as the window and read by itself, frames are sorted in four
ways: by what copying would do (the last few frames before may have come before, followed then by the same frame as now
or by another, or may not have come), by how long ago the same frame was, by how much past there is, and by kind. Each
sort's differences in bits, divided by the units of all, add up to the difference as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from attention import held_out
from command import Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table

from adaptgen.checkpoint import load_checkpoint
from adaptgen.domains.base import Tokenizer
from adaptgen.errors import UsageError
from adaptgen.model import Transformer

ROOT = Path(__file__).parents[1]
COPIES = ("followed as before", "followed otherwise", "not there before")
NEVER = "never"
BOUNDS = (8, 32, 128)
"""Where ranges of frames end that are told apart."""
NUM_RESAMPLES = 10_000


def sort_frames(passage: np.ndarray, tokenizer: Tokenizer, *, context: int) -> dict[str, np.ndarray]:
    """For each sort, the name of the range or kind that each frame of `[K, T]` after the first is of: `[T - 1]`."""
    frames = [frame.tobytes() for frame in np.ascontiguousarray(passage.T)]
    last_frame: dict[bytes, int] = {frames[0]: 0}
    last_context: dict[tuple[bytes, ...], int] = {}
    copies, ages = [], []
    for place in range(1, len(frames)):
        frame, before = frames[place], tuple(frames[max(0, place - context) : place])
        earlier = last_context.get(before)
        copies.append(COPIES[2 if earlier is None else int(frames[earlier] != frame)])
        ages.append(_range(place - last_frame[frame]) if frame in last_frame else NEVER)
        last_frame[frame] = place
        if len(before) == context:
            last_context[before] = place
    return {
        f"the {context} frames before": np.array(copies),
        "the same frame was, frames ago": np.array(ages),
        "frames of past": np.array([_range(place) for place in range(1, len(frames))]),
        "kind": np.array(tokenizer.kinds_of(passage)[1:]),
    }


def _range(count: int) -> str:
    first = 1
    for last in BOUNDS:
        if count <= last:
            return f"{first} to {last}"
        first = last + 1
    return f"{first} or more"


@torch.inference_mode()
def bits_of_frames(model: Transformer, passage: np.ndarray) -> np.ndarray:
    """What each frame of `[K, T]` after the first costs, over all streams: `[T - 1]`."""
    tokens = torch.from_numpy(passage.astype(np.int64))[None]
    log_shares = model(tokens[:, :, :-1]).double().log_softmax(dim=3)
    nats = -log_shares.gather(3, tokens[:, :, 1:, None]).squeeze(3).sum(dim=1)[0]
    return nats.numpy() / math.log(2)


def compare(
    bits: Sequence[np.ndarray], baseline: Sequence[np.ndarray], chosen: Sequence[np.ndarray], units: np.ndarray
) -> dict[str, Any]:
    """Of the chosen frames of each passage: bits of both, and what they add to the difference in bits per unit.

    Args:
        bits, baseline: of each frame of each passage.
        chosen: bool, as many.
        units: of each passage.
    """
    own, other = (
        np.array([costs[which].sum() for costs, which in zip(each, chosen, strict=True)]) for each in (bits, baseline)
    )
    count, less = int(sum(which.sum() for which in chosen)), own - other
    drawn = np.random.default_rng(0).integers(len(units), size=(NUM_RESAMPLES, len(units)))
    low, high = np.quantile(less[drawn].sum(axis=1) / units[drawn].sum(axis=1), [0.025, 0.975])
    return {
        "frames": count,
        "bits_per_frame": float(own.sum() / count),
        "bits_per_frame_of_baseline": float(other.sum() / count),
        "difference_per_unit": float(less.sum() / units.sum()),
        "interval": [float(low), float(high)],
    }


def main(
    baseline: Annotated[str, typer.Option(help="What the other is compared with: a shipped name or a folder.")],
    checkpoint: Annotated[str, typer.Option(help="The other, with the same tokenizer.")],
    data: Annotated[Path, typer.Option(help="Folder with a test split.")],
    limit: Annotated[int, typer.Option(min=1, help="How many passages.")] = 100,
    context: Annotated[int, typer.Option(min=1, help="How many frames are looked for in the past.")] = 4,
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the figures go; benchmarks/results/ if not given.")
    ] = None,
) -> None:
    """Print and store where one checkpoint is ahead of another."""
    if threads is not None:
        torch.set_num_threads(threads)
    plain, other = load_checkpoint(baseline), load_checkpoint(checkpoint)
    if other.tokenizer.fingerprint != plain.tokenizer.fingerprint:
        raise UsageError(f"{checkpoint} has another tokenizer than {baseline}", "Compare checkpoints of one recipe")
    tokenizer = plain.tokenizer
    passages = held_out(plain, data, limit=limit, tokens=plain.model.config.attention_window)
    units = np.array([tokenizer.count_units(passage) for passage in passages])
    bits, of_baseline = ([bits_of_frames(each.model, passage) for passage in passages] for each in (other, plain))
    found = [sort_frames(passage, tokenizer, context=context) for passage in passages]
    everything = [np.ones(len(costs), dtype=bool) for costs in bits]
    sorts = {"": {"all frames": compare(bits, of_baseline, everything, units)}}
    for sort in found[0]:
        names = sorted({name for of_passage in found for name in of_passage[sort].tolist()}, key=_order)
        sorts[sort] = {
            name: compare(bits, of_baseline, [of_passage[sort] == name for of_passage in found], units)
            for name in names
        }
    result = {
        "run": describe_run(seed=0),
        "checkpoint": checkpoint,
        "baseline": baseline,
        "data": data.name,
        "unit": tokenizer.unit_name,
        "passages": len(passages),
        "sorts": sorts,
    }
    write_result(output or ROOT / "benchmarks" / "results" / f"lead_{data.name}.json", result)
    _print(result)


def _order(name: str) -> tuple[int, str]:
    """Ranges by where they begin, all else by name."""
    first = name.split()[0]
    return (int(first) if first.isdigit() else 0, name)


def _print(result: dict[str, Any]) -> None:
    for sort, rows in result["sorts"].items():
        table = Table(sort, "frames", "bits", "of baseline", f"less, per {result['unit']}", "95 %", box=None)
        for name, row in rows.items():
            low, high = row["interval"]
            table.add_row(
                name,
                f"{row['frames']:,}",
                f"{row['bits_per_frame']:.3f}",
                f"{row['bits_per_frame_of_baseline']:.3f}",
                f"{row['difference_per_unit']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
            )
        Console().print(table)


if __name__ == "__main__":
    run_command(main)
