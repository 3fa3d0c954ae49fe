"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "miditok", "symusic", "numpy", "matplotlib", "soundfile")
PROGRAM = """
import sys
sys.argv = ["adaptgen", *sys.argv[1:]]
from adaptgen.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("IMPORTED", *sys.modules)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["recipes", "ls"]])
def test_starts_without_heavy_imports(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert "adaptgen.cli.train" in imported
    assert not imported.intersection(HEAVY)


def test_every_command_shows_an_example() -> None:
    from adaptgen.cli import app

    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    commands = [command.callback for group in groups for command in group.registered_commands]
    assert len(commands) >= 6
    for command in commands:
        assert "Example: adaptgen " in command.__doc__, command
