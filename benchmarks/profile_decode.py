"""What a frame's time goes to, by the profiler: products of weights, of keys and values, and all the calls around them.

    python benchmarks/profile_decode.py

A model of 8 layers of width 256, with and without shortcuts, one thread. The profiler makes every call dearer, so that
the rest looks larger than it is.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from command import run_command
from speed import ALL_LAYERS, PLAIN, SHORTCUT, VOCAB_SIZE, prepare, transformer

from adaptgen.model.fast_decoder import FastDecoder

WIDTH, PROMPT_FRAMES, WINDOW, ROWS = 256, 512, 1_024, (1, 16)


def main(
    drawn: Annotated[int, typer.Option(help="Frames that each row has drawn before.")] = 128,
    frames: Annotated[int, typer.Option(help="Frames that are timed, then profiled.")] = 60,
) -> None:
    """Print milliseconds a frame for one row and for sixteen."""
    prepare(1)
    random = np.random.default_rng(0)
    prompt = random.integers(VOCAB_SIZE, size=(1, PROMPT_FRAMES))
    for form, rows in product((PLAIN, SHORTCUT, ALL_LAYERS), ROWS):
        decoder = FastDecoder(transformer(WIDTH, window=WINDOW, form=form))
        decoder.start(prompt, rows)
        new = random.integers(VOCAB_SIZE, size=(rows, 1))

        def steps(count: int, decoder: FastDecoder = decoder, new: np.ndarray = new) -> None:
            for _ in range(count):
                decoder.step(new)

        steps(drawn)
        started = time.perf_counter()
        steps(frames)
        milliseconds = 1000 * (time.perf_counter() - started) / frames
        profiler = cProfile.Profile()
        profiler.runcall(steps, frames)
        stats = pstats.Stats(profiler)
        taken = {"weights": 0.0, "keys and values": 0.0}
        for (file, _, function), (_, _, own, *_) in stats.stats.items():
            if Path(file).name == "kernels.py":
                taken["keys and values" if function in ("attend", "append") else "weights"] += own
        rest = stats.total_tt - sum(taken.values())
        print(f"{form}, {rows} row{'s' * (rows > 1)}: {milliseconds:.2f} ms a frame without the profiler; with it")
        for name, seconds in (*taken.items(), ("all else", rest)):
            print(f"  {name:<16} {1000 * seconds / frames:6.2f} ms")
        print(f"  {stats.total_calls / frames:.0f} calls")


if __name__ == "__main__":
    run_command(main)
