"""How fast are songs tokenised in parallel, does training wait for data, and how much memory does it take?

    python benchmarks/speed_data.py --threads 2 --json benchmarks/results/speed_data.json

The songs are the ones that ship, so many times over, each time with another text in them, since equal files are kept
once. Each round writes to a cache of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import mido
import numpy as np
import torch
import typer
from command import JsonFile, Threads, run_command, write_result
from speed import (
    ALL_LAYERS,
    VOCAB_SIZE,
    describe_speed_run,
    prepare,
    print_ratios,
    ratio,
    table_row,
    time_in_turns,
    transformer,
)
from speed_train import SEQUENCE, WIDTH, new_step

from adaptgen import domains
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.shards import BatchSampler, Shard
from adaptgen.shards import prepare as prepare_source

EXAMPLES = Path(__file__).parents[1] / "examples"
SONGS = sorted([*(EXAMPLES / "corpus").glob("*.mid"), *(EXAMPLES / "lieder").rglob("*.mid")])
MEMORY_BATCH, MEMORY_STEPS = 8, 2
NUM_BATCHES = 50
KIB, GB = 1024, 1e9


def main(
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="How often each thing is timed.")] = 2,
    copies: Annotated[int, typer.Option(help="How many times the songs are there.")] = 25,
    batch_size: Annotated[int, typer.Option(help="Sequences per step.")] = 4,
    json: JsonFile = None,
) -> None:
    """Print ratios, with the least and the most of the rounds in brackets."""
    prepare(threads)
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        num_songs = _write_songs(Path(folder) / "songs", copies)
        tasks = {f"{count}": _tokenizing(Path(folder), count) for count in (1, workers)}
        seconds = time_in_turns(tasks, rounds=rounds)
    parallel = ratio(seconds, "1", f"{workers}")
    print_ratios({f"{num_songs} songs, 1 process over {workers}": parallel})
    loading = _share_of_loading(batch_size)
    print(f"  a batch takes {loading:.2%} of a step")
    peak = _peak_of_training()
    print(f"  training 8 x {WIDTH}, batch {MEMORY_BATCH} x {SEQUENCE:,}: {peak / GB:.2f} GB")
    if json is not None:
        shape = f"8 x {WIDTH}, {ALL_LAYERS}, batch {MEMORY_BATCH} x {SEQUENCE:,}"
        step = f"a step, batch {batch_size} x {SEQUENCE:,}"
        table = [
            table_row(f"tokenising {num_songs} songs with {workers} processes", ">= 1.7 x", parallel, "one process"),
            table_row("time of drawing a batch", "< 2 %", f"{loading:.2%}", step),
            table_row(f"most memory that training held, {shape}", "< 4 GB", f"{peak / GB:.2f} GB"),
        ]
        settings = describe_speed_run(rounds=rounds, songs=num_songs, batch_size=batch_size)
        write_result(json, settings | {"seconds": seconds, "loading": loading, "peak bytes": peak, "table": table})


def _write_songs(folder: Path, copies: int) -> int:
    """How many there are then."""
    folder.mkdir()
    for song in SONGS:
        content = mido.MidiFile(song)
        content.tracks[0].insert(0, mido.MetaMessage("text", text=""))
        for copy in range(copies):
            content.tracks[0][0] = mido.MetaMessage("text", text=f"copy {copy}")
            content.save(folder / f"{song.stem}.{copy}.mid")
    return len(SONGS) * copies


def _tokenizing(folder: Path, num_workers: int) -> Callable[[], None]:
    domain = domains.get("music")
    tokenizer = domain.tokenizer_type.from_options({})

    def task() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            os.environ["ADAPTGEN_CACHE"] = cache
            source, config = SourceConfig(path="songs"), DataConfig(folder=str(folder))
            prepare_source(domain, tokenizer, source, config, folder, num_workers=num_workers)

    return task


def _share_of_loading(batch_size: int) -> float:
    """Time of drawing a batch, varied as in training, over that of the step that it is for."""
    domain = domains.get("music")
    tokenizer = domain.tokenizer_type.from_options({})
    songs = [domain.read_documents(song, tokenizer, is_training=False) for song in SONGS]
    tokens = np.concatenate([document for documents in songs for document in documents], axis=1)
    sampler = BatchSampler(
        [Shard(tokens.astype(np.uint16), [0, tokens.shape[1]])],
        [1.0],
        batch_size=batch_size,
        seq_len=SEQUENCE,
        seed=0,
        vary=partial(domain.augment, tokenizer),
    )
    started = time.perf_counter()
    for step in range(NUM_BATCHES):
        sampler.batch(step)
    drawing = (time.perf_counter() - started) / NUM_BATCHES
    step = new_step(transformer(WIDTH, window=SEQUENCE), torch.randint(VOCAB_SIZE, (batch_size, 1, SEQUENCE + 1)))
    return drawing / statistics.median(time_in_turns({"step": step}, rounds=3)["step"])


def _peak_of_training() -> int:
    """Most bytes that a process held in which some steps were made."""
    process = multiprocessing.get_context("spawn").Process(target=_train)
    process.start()
    process.join()
    assert process.exitcode == 0
    # Linux counts in KiB, macOS in bytes. The largest of all children that have ended, and none else is as large.
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else KIB)


def _train() -> None:
    prepare(None)
    tokens = torch.randint(VOCAB_SIZE, (MEMORY_BATCH, 1, SEQUENCE + 1))
    step = new_step(transformer(WIDTH, window=SEQUENCE, form=ALL_LAYERS), tokens)
    for _ in range(MEMORY_STEPS):
        step()


if __name__ == "__main__":
    run_command(main)
