"""Where one model is ahead of another: on frames that can be copied from the past, or on others?

    python benchmarks/copying.py --baseline music-twin-plain --checkpoint music-twin-shortcut --data FOLDER/pop909

Over evenly spaced passages of the test split: the last few frames before each one are looked for in the window. They may
have come before and been followed, the last time, by the same frame as now (it can be copied), or by another (copying
would be wrong), or not have come (there is nothing to copy). Differences in bits add up over these three to that of
all, each divided by the units of all. Each passage is read by itself, so its beginning has little past.
"""

from __future__ import annotations

import math
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
from adaptgen.errors import UsageError
from adaptgen.model import Transformer

ROOT = Path(__file__).parents[1]
KINDS = ("followed as before", "followed otherwise", "not there before")
ALL = "all frames"
NUM_RESAMPLES = 10_000


def kinds_of_frames(passage: np.ndarray, *, context: int, window: int) -> np.ndarray:
    """For each frame of `[K, T]` after the first, which of `KINDS` it is: int `[T - 1]`."""
    frames = [frame.tobytes() for frame in np.ascontiguousarray(passage.T)]
    last_seen: dict[tuple[bytes, ...], int] = {}
    kinds = np.full(len(frames) - 1, KINDS.index("not there before"))
    for place in range(1, len(frames)):
        before = tuple(frames[max(0, place - context) : place])
        if len(before) < context:
            continue
        earlier = last_seen.get(before)
        # The query of a frame sees `window` frames, of which the last is the one before it.
        if earlier is not None and earlier >= place - window:
            is_same = frames[earlier] == frames[place]
            kinds[place - 1] = KINDS.index("followed as before" if is_same else "followed otherwise")
        last_seen[before] = place
    return kinds


@torch.inference_mode()
def bits_of_frames(model: Transformer, passage: np.ndarray) -> np.ndarray:
    """What each frame of `[K, T]` after the first costs, over all streams: `[T - 1]`."""
    tokens = torch.from_numpy(passage.astype(np.int64))[None]
    log_shares = model(tokens[:, :, :-1]).double().log_softmax(dim=3)
    nats = -log_shares.gather(3, tokens[:, :, 1:, None]).squeeze(3).sum(dim=1)[0]
    return nats.numpy() / math.log(2)


def compare(bits: list[np.ndarray], baseline: list[np.ndarray], kinds: list[np.ndarray], units: np.ndarray) -> dict[str, Any]:
    """Bits per frame of both, and the difference in bits per unit with its 95 % interval over passages, by kind."""
    drawn = np.random.default_rng(0).integers(len(bits), size=(NUM_RESAMPLES, len(bits)))
    rows = {}
    for index, name in enumerate((*KINDS, ALL)):
        chosen = [of_frames == index if name != ALL else of_frames >= 0 for of_frames in kinds]
        own, other = (
            np.array([costs[which].sum() for costs, which in zip(each, chosen, strict=True)]) for each in (bits, baseline)
        )
        count, less = sum(which.sum() for which in chosen), own - other
        low, high = np.quantile(less[drawn].sum(axis=1) / units[drawn].sum(axis=1), [0.025, 0.975])
        rows[name] = {
            "frames": int(count),
            "bits_per_frame": float(own.sum() / max(1, count)),
            "bits_per_frame_of_baseline": float(other.sum() / max(1, count)),
            "difference_per_unit": float(less.sum() / units.sum()),
            "interval": [float(low), float(high)],
        }
    return rows


def main(
    baseline: Annotated[str, typer.Option(help="What the others are compared with: a shipped name or a folder.")],
    checkpoint: Annotated[list[str], typer.Option(help="The others, with the same tokenizer.")],
    data: Annotated[Path, typer.Option(help="Folder with a test split.")],
    name: Annotated[list[str] | None, typer.Option(help="What each of the others is called.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many passages.")] = 100,
    context: Annotated[int, typer.Option(min=1, help="How many frames are looked for in the past.")] = 4,
    threads: Threads = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the figures go; benchmarks/results/ if not given.")
    ] = None,
) -> None:
    """Measure on which frames checkpoints differ from another."""
    if threads is not None:
        torch.set_num_threads(threads)
    plain, others = load_checkpoint(baseline), [load_checkpoint(each) for each in checkpoint]
    if len(name or checkpoint) != len(checkpoint):
        raise UsageError(f"there are {len(name)} names of {len(checkpoint)} checkpoints", "Give one --name for each")
    tokenizer, window = plain.tokenizer, plain.model.config.attention_window
    for each in others:
        if each.tokenizer.fingerprint != tokenizer.fingerprint:
            raise UsageError(f"{each.name} has another tokenizer than {plain.name}", "Compare checkpoints of one recipe")
    passages = held_out(plain, data, limit=limit, tokens=window)
    kinds = [kinds_of_frames(passage, context=context, window=window) for passage in passages]
    units = np.array([tokenizer.count_units(passage) for passage in passages])
    of_baseline = [bits_of_frames(plain.model, passage) for passage in passages]
    result = {
        "run": describe_run(seed=0),
        "baseline": baseline,
        "data": data.name,
        "unit": tokenizer.unit_name,
        "passages": len(passages),
        "context": context,
        "checkpoints": {
            label: compare([bits_of_frames(each.model, passage) for passage in passages], of_baseline, kinds, units)
            for label, each in zip(name or checkpoint, others, strict=True)
        },
    }
    write_result(output or ROOT / "benchmarks" / "results" / f"copying_{data.name}.json", result)
    _print(result)


def _print(result: dict[str, Any]) -> None:
    for label, rows in result["checkpoints"].items():
        table = Table(label, "frames", "bits", "of baseline", f"less, per {result['unit']}", "over passages", box=None)
        for kind, row in rows.items():
            low, high = row["interval"]
            table.add_row(
                kind,
                f"{row['frames']:,}",
                f"{row['bits_per_frame']:.3f}",
                f"{row['bits_per_frame_of_baseline']:.3f}",
                f"{row['difference_per_unit']:+.4f}",
                f"{low:+.4f} to {high:+.4f}",
            )
        Console().print(table)


if __name__ == "__main__":
    run_command(main)
