"""The command line starts at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import adaptgen

HEAVY = ("torch", "miditok", "symusic", "numpy", "matplotlib", "soundfile")
SONG = Path(__file__).parents[1] / "examples" / "waltz.mid"
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


def imported_by(*arguments: object) -> set[str]:
    """Names of the modules that are there when `adaptgen ARGUMENTS` has ended."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("IMPORTED")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["recipes", "ls"]])
def test_starts_without_heavy_imports(arguments: list[str]) -> None:
    imported = imported_by(*arguments)
    assert "adaptgen.cli.train" in imported
    assert not imported.intersection(HEAVY)


@pytest.mark.parametrize("command", ["checkpoints ls", "checkpoints show music", "recipes validate music"])
def test_what_needs_no_model_starts_without_torch(command: str) -> None:
    assert "torch" not in imported_by(*command.split())


def test_a_song_is_rendered_without_torch(tmp_path: Path) -> None:
    assert "torch" not in imported_by("render", SONG, "-o", tmp_path / "waltz.wav")


def test_continuing_without_a_picture_imports_nothing_to_draw_with() -> None:
    program = "import sys, adaptgen.continuation, adaptgen.domains.music.prompt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stdout.split()


@pytest.mark.parametrize("arguments", [["recipes", "ls", "--json"], ["recipes", "cat", "music"], ["--help"]])
def test_a_reader_that_has_gone_is_no_error(
    start_adaptgen: Callable[..., subprocess.Popen[str]], arguments: list[str]
) -> None:
    process = start_adaptgen(*arguments)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) in (0, 1)
    assert error == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_one_sentence(start_adaptgen: Callable[..., subprocess.Popen[str]]) -> None:
    with Path("/dev/full").open("w") as full:
        _, error = start_adaptgen("recipes", "ls", "--json", stdout=full).communicate(timeout=60)
    assert error == "Error: No space left on device.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_output_that_is_closed_or_knows_few_letters_stops_no_verb(tmp_path: Path) -> None:
    program = shlex.quote(sys.executable)
    for command in (f"{program} -m adaptgen recipes ls >&-", f"{program} -m adaptgen render \u66f2.mid"):
        environment = os.environ | {
            "PYTHONIOENCODING": "latin-1",
            "PYTHONPATH": str(Path(adaptgen.__file__).parents[1]),
        }
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr
        said = (0, "") if "ls" in command else (1, "Error: \\u66f2.mid does not exist. Check the name.\n")
        assert (done.returncode, done.stderr) == said


def test_every_command_shows_an_example() -> None:
    from adaptgen.cli import app

    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    commands = [command.callback for group in groups for command in group.registered_commands]
    assert len(commands) >= 6
    for command in commands:
        assert "Example: adaptgen " in command.__doc__, command
