"""Would it pay to draft frames from an early depth and verify several in one pass (arXiv:2211.17192)?

    python benchmarks/draft.py --checkpoint music --data FOLDER/pop909

The last block reads every depth, so each could draft. A head is trained on each depth of the frozen model, to predict
what the model does; then, on held-out passages and under the checkpoint's own sampling, how often would a draft be
accepted, so that what is drawn is still the full model's? A frame of K streams is accepted where all K are. With the
measured times of a drafted frame, and of a pass over one and over several frames, that gives the speed at the best
number of drafts, next to one frame at a time. It is an upper bound: taking back what a grammar has accepted, and the
draws themselves, are left out. Verifying n frames is timed as n rows that share their past.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
import typer
from command import JsonFile, Threads, run_command, write_result
from provenance import describe_run
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from adaptgen.checkpoint import Checkpoint, load_checkpoint
from adaptgen.cli.common import progress_bar
from adaptgen.config import DataConfig
from adaptgen.corpus_files import split_files
from adaptgen.errors import InputFileError
from adaptgen.model import Transformer
from adaptgen.model.fast_decoder import FastDecoder
from adaptgen.model.norm import RMSNorm

LEARNING_RATE = 1e-3
MOST_DRAFTS = 6
TIMED_FRAMES, PROMPT_FRAMES = 100, 512


class Heads(nn.Module):
    """From one depth's stream to logits of all streams; begins as the model's own head."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.norm = RMSNorm(model.config.model_dim)
        self.norm.load_state_dict(model.norm.state_dict())
        self.weights = nn.ParameterList(embedding.weight.detach().clone() for embedding in model.embeddings)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.norm(x)
        return [F.linear(x, weight) for weight in self.weights]


@torch.no_grad()
def run_model(model: Transformer, tokens: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The input of each block, `[1, T, C]`, and the logits of each stream, `[1, T, V]`."""
    inputs: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0])) for block in model.blocks
    ]
    try:
        logits = model(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs, [logits[:, stream, :, :size] for stream, size in enumerate(model.vocab_sizes)]


def train_heads(model: Transformer, passages: list[Tensor]) -> list[Heads]:
    """One for each depth, by the cross-entropy to what the model predicts."""
    heads = [Heads(model) for _ in model.blocks]
    optimizer = torch.optim.AdamW([p for head in heads for p in head.parameters()], lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(passages))
    with progress_bar(stderr=True) as progress:
        task = progress.add_task("heads", total=len(passages), status="passages")
        for passage in passages:
            inputs, logits = run_model(model, passage)
            targets = [of_stream.softmax(-1).flatten(0, 1) for of_stream in logits]
            losses = [
                F.cross_entropy(drafted.flatten(0, 1), target)
                for head, x in zip(heads, inputs, strict=True)
                for drafted, target in zip(head(x), targets, strict=True)
            ]
            torch.stack(losses).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            progress.advance(task)
    return heads


@torch.no_grad()
def acceptance(checkpoint: Checkpoint, heads: list[Heads], passages: list[Tensor]) -> list[float]:
    """Of each depth: the mean probability that a drafted frame is accepted, the overlap of both distributions."""
    accepted: list[list[np.ndarray]] = [[] for _ in heads]
    for passage in passages:
        inputs, logits = run_model(checkpoint.model, passage)
        wanted = [checkpoint.sampling.probabilities(of_stream.numpy()) for of_stream in logits]
        for head, x, found in zip(heads, inputs, accepted, strict=True):
            drafted = [checkpoint.sampling.probabilities(of_stream.numpy()) for of_stream in head(x)]
            overlaps = [np.minimum(p, q).sum(-1) for p, q in zip(wanted, drafted, strict=True)]
            found.append(np.prod(overlaps, axis=0).ravel())
    return [float(np.concatenate(found).mean()) for found in accepted]


def milliseconds(model: Transformer, *, rows: int = 1, num_blocks: int | None = None) -> float:
    """A step of so many rows, through the first blocks only if so many are given; the least of some, for at several
    rows others' use of the machine weighs more than what is measured."""
    random = np.random.default_rng(0)
    shape = len(model.vocab_sizes), PROMPT_FRAMES
    decoder = FastDecoder(model)
    decoder.start(random.integers(min(model.vocab_sizes), size=shape), rows)
    decoder.blocks = decoder.blocks[:num_blocks]
    frames = random.integers(min(model.vocab_sizes), size=(rows, shape[0]))
    seconds = []
    for _ in range(TIMED_FRAMES):
        started = time.perf_counter()
        decoder.step(frames)
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds)


def best_speed(rate: float, draft_ms: float, pass_ms: list[float]) -> tuple[float, int]:
    """Frames a millisecond next to one at a time, and with how many drafts; `pass_ms[n]` verifies n of them."""
    speeds = {}
    for drafts in range(1, MOST_DRAFTS + 1):
        frames = sum(rate**accepted for accepted in range(drafts + 1))
        speeds[drafts] = frames * pass_ms[0] / (drafts * draft_ms + pass_ms[drafts])
    best = max(speeds, key=lambda drafts: speeds[drafts])
    return speeds[best], best


def main(
    checkpoint: Annotated[str, typer.Option(help="A shipped name or a folder.")] = "music",
    data: Annotated[Path, typer.Option(help="A folder with train/ and test/ of its domain.")] = Path("data"),
    steps: Annotated[int, typer.Option(help="Passages that the heads are trained on.")] = 300,
    passages: Annotated[int, typer.Option(help="Passages to measure on.")] = 20,
    length: Annotated[int, typer.Option(help="Frames of a passage.")] = 512,
    seed: Annotated[int, typer.Option(help="Which passages.")] = 0,
    threads: Threads = None,
    json: JsonFile = None,
) -> None:
    """Print the acceptance and the speed of each depth."""
    if threads is not None:
        torch.set_num_threads(threads)
    loaded, random = load_checkpoint(checkpoint), np.random.default_rng(seed)
    training = _passages(loaded, data, "train", steps, length, random)
    heads = train_heads(loaded.model, training)
    rates = acceptance(loaded, heads, _passages(loaded, data, "test", passages, length, random))
    pass_ms = [milliseconds(loaded.model, rows=drafts + 1) for drafts in range(MOST_DRAFTS + 1)]
    rows: list[dict[str, Any]] = []
    for depth, rate in enumerate(rates):
        draft_ms = milliseconds(loaded.model, num_blocks=depth)
        speed, drafts = best_speed(rate, draft_ms, pass_ms)
        rows.append({"depth": depth, "accepted": rate, "draft_ms": draft_ms, "drafts": drafts, "speed": speed})
    table = Table("drafted from", "accepted", "ms to draft a frame", "drafts", "speed", box=None)
    for row in rows:
        name = "embedding" if row["depth"] == 0 else f"block {row['depth']}"
        figures = f"{row['accepted']:.3f}", f"{row['draft_ms']:.2f}", f"{row['drafts']}", f"{row['speed']:.2f} x"
        table.add_row(name, *figures)
    Console().print(table, f"ms of a pass over 1, 2, ... frames: {', '.join(f'{value:.2f}' for value in pass_ms)}")
    if json is not None:
        settings = {"steps": steps, "passages": passages, "length": length}
        result = {"run": describe_run(seed=seed), "checkpoint": loaded.name, "data": data.name, "settings": settings}
        write_result(json, result | {"pass_ms": pass_ms, "depths": rows})


def _passages(
    checkpoint: Checkpoint, data: Path, split: str, count: int, length: int, random: np.random.Generator
) -> list[Tensor]:
    """`[1, K, T]`, from documents in random order, each cut at a random place."""
    config = DataConfig(folder=str(data), validation_share=0, test_share=0)
    files = [path for path, _ in split_files(data, checkpoint.domain.suffixes, config)[split]]
    if not files:
        raise InputFileError(f"{data} has no files to {split} on", "Give another with --data")
    found: list[Tensor] = []
    while len(found) < count:
        before = len(found)
        for index in random.permutation(len(files)):
            for document in checkpoint.domain.read_documents(files[index], checkpoint.tokenizer, is_training=False):
                if len(found) < count and document.shape[1] > length:
                    start = random.integers(document.shape[1] - length)
                    found.append(torch.from_numpy(document[None, :, start : start + length].astype(np.int64)))
            if len(found) == count:
                break
        if len(found) == before:
            raise InputFileError(f"{data} has no document of {length} frames", "Give fewer with --length")
    return found


if __name__ == "__main__":
    run_command(main)
