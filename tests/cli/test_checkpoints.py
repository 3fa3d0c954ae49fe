"""What is known about checkpoints, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_inspect import random_checkpoint

from adaptgen.checkpoint import find_checkpoint, load_checkpoint
from adaptgen.shipped import shipped_folder

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", {"format_version": 1}, "config.json is damaged: it names no domain"),
        ("metrics.json", [1], "metrics.json is damaged: it is no JSON object"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    adaptgen_here: Run, tmp_path: Path, name: str, content: object, expected: str
) -> None:
    folder = random_checkpoint(tmp_path / "mine", domain_name="text", shortcut=None)
    (folder / name).write_text(json.dumps(content))
    for arguments in (("checkpoints", "show", folder), ("eval", "--checkpoint", folder, "--data", tmp_path)):
        code, _, err = adaptgen_here(*arguments)
        assert (code, expected in err) == (1, True), err
        assert "Traceback" not in err


def test_of_a_run_the_best_checkpoint_is_proposed(adaptgen_here: Run, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    random_checkpoint(tmp_path / "runs" / "best", domain_name="text", shortcut=None)
    for arguments in (("checkpoints", "show", "runs"), ("eval", "--checkpoint", "runs", "--data", ".")):
        code, _, err = adaptgen_here(*arguments)
        assert (code, "runs is not a checkpoint: it has no config.json. Give runs/best." in err) == (1, True), err


def test_a_checkpoint_of_a_run_is_shown_with_its_run(adaptgen_here: Run, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "waltzes"
    (run / "last").mkdir(parents=True)
    (run / "recipe.yaml").write_text("")
    random_checkpoint(run / "best", domain_name="text", shortcut=None)
    shutil.copytree(run / "best", run / "kept")
    for weights in ("best", "kept"):
        code, out, err = adaptgen_here("checkpoints", "show", f"runs/waltzes/{weights}")
        assert code == 0, err
        assert out.splitlines()[0].split() == ["name", f"waltzes/{weights}"]
    code, _, err = adaptgen_here("checkpoints", "show", "runs/waltzes/last")
    expected = "runs/waltzes/last is not a checkpoint: it has no config.json. Give runs/waltzes/best."
    assert (code, expected in err) == (1, True), err


def test_a_checkpoint_is_called_by_its_folder_from_within_it(adaptgen_here: Run, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "mine", domain_name="text", shortcut=None)
    for given in ("mine", "mine/.", "mine/../mine"):
        code, out, err = adaptgen_here("checkpoints", "show", given, "--json")
        assert code == 0, err
        assert (json.loads(out)["name"], load_checkpoint(given).name) == ("mine", "mine")


def test_names_are_whole_where_there_is_little_room(
    adaptgen_here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("adaptgen.cli.common.UNSEEN_WIDTH", 56)
    code, out, err = adaptgen_here("checkpoints", "ls")
    assert code == 0, err
    assert "…" not in out
    lines = out.splitlines()
    width = next(line.rindex("music") for line in lines if line.split()[:2] == ["music", "music"])
    assert "speech-twin-shortcut" in "".join(line[:width].strip() for line in lines)
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="text", shortcut=None)
    name = "a_name_that_is_longer_than_the_terminal_is_wide.txt"
    (tmp_path / name).write_text("Once")
    code, out, err = adaptgen_here("continue", name, "--checkpoint", checkpoint, "--chars", 3)
    assert code == 0, err
    assert "…" not in out
    assert name.replace(".txt", ".continued.txt") in "".join(out.split())


def test_a_folder_does_not_take_the_place_of_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_checkpoint(tmp_path / "text", domain_name="text", shortcut=None)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("text") == shipped_folder("checkpoints") / "text"
    assert find_checkpoint("./text").resolve() == find_checkpoint(Path("text")).resolve() == tmp_path / "text"
