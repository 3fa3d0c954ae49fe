"""Run the speed benchmarks and put their figures into docs/PERFORMANCE.md; the machine should be idle.

    python benchmarks/run.py --threads 2

Needs Hugging Face transformers. `--only speed_decode` runs one of them, and takes the others' figures as they are. What
stands between the page's lines `<!-- begin figures -->` and
`<!-- end figures -->` is written anew from the JSON in benchmarks/results; the rest is written by hand and kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from command import Threads, run_command

from adaptgen.errors import UsageError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "PERFORMANCE.md"
RESULTS = Path(__file__).parent / "results"
SCRIPTS = ("speed_start", "speed_data", "speed_train", "speed_decode")


def main(
    threads: Threads = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(SCRIPTS)}; all if not given.")] = None,
) -> None:
    """Run the scripts, each in a process of its own, then write the page."""
    unknown = sorted(set(only or []) - set(SCRIPTS))
    if unknown:
        raise UsageError(f"there is no script {unknown[0]!r}", f"Give some of: {', '.join(SCRIPTS)}")
    environment = os.environ if threads is None else os.environ | {"OMP_NUM_THREADS": str(threads)}
    for name in only or SCRIPTS:
        print(name, flush=True)
        script = [sys.executable, str(Path(__file__).with_name(f"{name}.py"))]
        subprocess.run([*script, "--json", str(RESULTS / f"{name}.json")], check=True, env=environment)
    results = [json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in SCRIPTS]
    figures = "\n\n".join(_section(name, result) for name, result in zip(SCRIPTS, results, strict=True))
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(r"(<!-- begin figures -->\n).*(<!-- end figures -->)", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda match: f"{match[1]}\n{figures}\n\n{match[2]}", page), encoding="utf-8")


def _section(name: str, result: dict[str, Any]) -> str:
    """What one script measured, and on what, in Markdown."""
    lines = [
        f"`benchmarks/{name}.py`: {result['cpu']}, {result['cpu_count']} cores, {result['threads']} "
        f"thread{'s' * (result['threads'] > 1)}, torch {result['torch']}, transformers {result['transformers']}, "
        f"seed {result['seed']}, commit {result['commit']}, {result['date']}, one-minute load {result['load']:.1f}.",
        "",
        "| what | aim | figure | beside |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {row['what']} | {row['aim']} | {row['figure']} | {row['peer']} |" for row in result["table"]]
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
