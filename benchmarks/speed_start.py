"""How long from the shell to help, to a loaded model, and to a continued song, and how much memory that takes.

    python benchmarks/speed_start.py --json benchmarks/results/speed_start.json

Each is a process of its own, timed from outside, as a user meets it. Files come from the disk's cache, for each runs
once before, untimed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from command import JsonFile, run_command, write_result
from speed import describe_speed_run, table_row

SONG = Path(__file__).parents[1] / "examples" / "song.mid"
NUM_BARS = 16
LOAD = (
    "import adaptgen.continuation; from adaptgen.checkpoint import load_checkpoint; "
    "from adaptgen.model import new_decoder; new_decoder(load_checkpoint('music').model)"
)
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
        }
        for turn in range(rounds + 1):
            for name, arguments in processes.items():
                taken, peak = _run(arguments)
                if turn > 0:
                    seconds.setdefault(name, []).append(taken)
                    peak_bytes[name] = max(peak, peak_bytes.get(name, 0))
        seconds["continue, first time"] = [_run(processes["continue"], NUMBA_CACHE_DIR=f"{folder}/compiled")[0]]
    for name, times in seconds.items():
        print(f"  {name:<20} {statistics.median(times):6.2f} s")
    print(f"  `continue` held {peak_bytes['continue'] / MB:.0f} MB at most")
    if json is not None:
        shown = {name: f"{statistics.median(times):.2f} s" for name, times in seconds.items()}
        table = [
            table_row("`adaptgen --help`", "< 0.5 s", shown["help"]),
            table_row(f"`adaptgen continue examples/song.mid --bars {NUM_BARS}`", "<= 10 s", shown["continue"]),
            table_row("of which importing and loading the model", "<= 4 s", shown["import and load"]),
            table_row("the same where no loops are compiled yet", "", shown["continue, first time"]),
            table_row("most memory that `continue` held", "< 1000 MB", f"{peak_bytes['continue'] / MB:.0f} MB"),
        ]
        settings = describe_speed_run(rounds=rounds, bars=NUM_BARS)
        write_result(json, settings | {"seconds": seconds, "peak bytes": peak_bytes, "table": table})


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
