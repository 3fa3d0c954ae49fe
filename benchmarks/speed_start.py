"""How long from the shell to help, to a loaded model, and to a continued song, and how much memory that takes.

    python benchmarks/speed_start.py --json benchmarks/results/speed_start.json

Each is a process of its own, timed from outside, as a user meets it. Files come from the disk's cache, for each runs
once before, untimed. Then the same where every core has another program to run, and how long a song of so many tokens
is learned.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from command import JsonFile, run_command, write_result
from speed import describe_speed_run, table_row, time_in_turns

from adaptgen.adaptation import adapt_checkpoint
from adaptgen.checkpoint import load_checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"
SONG = EXAMPLES / "song.mid"
NUM_BARS = 16
LEARNED_TOKENS = 5_000
LOAD = (
    "import adaptgen.continuation; from adaptgen.checkpoint import load_checkpoint; "
    "from adaptgen.model import new_decoder; new_decoder(load_checkpoint('music').model)"
)
BUSY = "while True: pass"
KIB, MB = 1024, 1e6


def main(
    rounds: Annotated[int, typer.Option(help="How often each is run.")] = 3,
    json: JsonFile = None,
) -> None:
    """Print medians of seconds, and the most memory that a process held at any time."""
    seconds: dict[str, list[float]] = {}
    peak_bytes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        song = [str(SONG), "--bars", str(NUM_BARS), "--seed", "0", "-o", f"{folder}/song", "--force"]
        processes: dict[str, list[str]] = {
            "help": [sys.executable, "-m", "adaptgen", "--help"],
            "import and load": [sys.executable, "-c", LOAD],
            "continue": [sys.executable, "-m", "adaptgen", "continue", *song],
            "continue, not adapted": [sys.executable, "-m", "adaptgen", "continue", *song, "--no-adapt"],
        }
        for turn in range(rounds + 1):
            for name, arguments in processes.items():
                taken, peak = _run(arguments)
                if turn > 0:
                    seconds.setdefault(name, []).append(taken)
                    peak_bytes[name] = max(peak, peak_bytes.get(name, 0))
        seconds["continue, first time"] = [_run(processes["continue"], NUMBA_CACHE_DIR=f"{folder}/compiled")[0]]
        with _busy_cores():
            seconds["continue, cores busy"] = [_run(processes["continue"])[0] for _ in range(rounds)]
    seconds[f"learning {LEARNED_TOKENS:,} tokens"] = _seconds_of_learning(rounds)
    for name, times in seconds.items():
        print(f"  {name:<24} {statistics.median(times):6.2f} s")
    print(f"  `continue` held {peak_bytes['continue'] / MB:.0f} MB at most")
    if json is not None:
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        shown = {name: f"{median:.2f} s" for name, median in medians.items()}
        share = 1 - medians["continue, not adapted"] / medians["continue"]
        slower = medians["continue, cores busy"] / medians["continue"]
        table = [
            table_row("`adaptgen --help`", "< 0.5 s", shown["help"]),
            table_row(f"`adaptgen continue examples/song.mid --bars {NUM_BARS}`", "<= 12 s", shown["continue"]),
            table_row("of which importing and loading the model", "<= 4 s", shown["import and load"]),
            table_row("of which learning the song", "", f"{share:.0%}"),
            table_row("the same where no loops are compiled yet", "", shown["continue, first time"]),
            table_row("the same where all cores are busy", "<= 2.2 x", f"{slower:.2f} x", "idle cores"),
            table_row(f"learning {LEARNED_TOKENS:,} tokens", "<= 5 s", shown[f"learning {LEARNED_TOKENS:,} tokens"]),
            table_row("most memory that `continue` held", "< 1000 MB", f"{peak_bytes['continue'] / MB:.0f} MB"),
        ]
        settings = describe_speed_run(rounds=rounds, bars=NUM_BARS)
        write_result(json, settings | {"seconds": seconds, "peak bytes": peak_bytes, "table": table})


@contextmanager
def _busy_cores() -> Iterator[None]:
    """Keep as many other processes running as there are cores."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _seconds_of_learning(rounds: int) -> list[float]:
    """Seconds in which a loaded model learns a band's song so long."""
    checkpoint = load_checkpoint("music")
    (song,) = checkpoint.domain.read_documents(EXAMPLES / "band.mid", checkpoint.tokenizer, is_training=False)
    tokens = np.resize(song, (1, LEARNED_TOKENS))
    (seconds,) = time_in_turns({"learn": lambda: adapt_checkpoint(checkpoint, tokens)}, rounds=rounds).values()
    return seconds


def _run(arguments: list[str], **environment: str) -> tuple[float, int]:
    """Seconds until a process has ended, and the most bytes it held."""
    started = time.perf_counter()
    process = subprocess.Popen(
        arguments, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, error
    # Linux counts in KiB, macOS in bytes.
    return taken, usage.ru_maxrss * (1 if sys.platform == "darwin" else KIB)


if __name__ == "__main__":
    run_command(main)
