"""The comparison trains what has no record yet, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SONGS = sorted((ROOT / "examples" / "corpus").glob("*.mid"))
SOURCES = ("pop909", "openscore_lieder")
TINY = (
    *("model.model_dim=16", "model.num_layers=2", "model.num_heads=2", "model.attention_window=32"),
    *("training.max_steps=2", "training.batch_size=2", "training.seq_len=32", "training.validation_batches=1"),
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two sources with a few songs in each split."""
    for number, source in enumerate(SOURCES):
        for place, split in enumerate(("train", "validation", "test")):
            folder = tmp_path / "data" / source / split
            folder.mkdir(parents=True)
            for song in SONGS[3 * (number + 2 * place) :][:2]:
                shutil.copy(song, folder)
    return tmp_path / "data"


def compare(folder: Path, data: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "benchmarks" / "compare.py", ROOT / "recipes" / "compare" / "music.yaml"]
    command += ["--data", data, "--records", folder / "records", "-o", folder / "result.json"]
    command += [word for setting in TINY for word in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*map(str, command), *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True
    )


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def without_speed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.endswith("per_second")}


def test_recorded_runs_are_taken_and_others_are_trained(tmp_path: Path, corpus: Path) -> None:
    first = compare(tmp_path, corpus, "--seeds", 1, "--only", "shortcut", "--runs", tmp_path / "first")
    assert first.returncode == 0, first.stderr
    before = read(tmp_path)["variants"]
    more = ("--seeds", 2, "--only", "shortcut", "--only", "plain, as much compute", "--runs", tmp_path / "second")
    second = compare(tmp_path, corpus, *more, "--jobs", 2)
    assert second.returncode == 0, second.stderr
    after = read(tmp_path)["variants"]
    trained = sorted(folder.name for folder in (tmp_path / "second" / "compare-music").iterdir())
    assert trained == [
        "plain-as-many-parameters-1",
        "plain-as-much-compute-0",
        "plain-as-much-compute-1",
        "shortcut-1",
    ]
    for name, row in before.items():
        for source in SOURCES:
            assert after[name]["sources"][source]["of_each_seed"][:1] == row["sources"][source]["of_each_seed"]
    again = compare(tmp_path, corpus, *more[:-1], tmp_path / "third")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "third").exists()
    assert {name: without_speed(row) for name, row in read(tmp_path)["variants"].items()} == {
        name: without_speed(row) for name, row in after.items()
    }


def test_a_record_of_another_recipe_is_refused(tmp_path: Path, corpus: Path) -> None:
    options = ("--seeds", 1, "--only", "shortcut", "--runs", tmp_path / "runs")
    assert compare(tmp_path, corpus, *options).returncode == 0
    other = compare(tmp_path, corpus, *options, "--set", "training.learning_rate=0.1")
    assert other.returncode == 2
    assert "plain-as-many-parameters-0.json is of another recipe" in other.stderr


def test_what_goes_wrong_in_another_process_is_one_sentence(tmp_path: Path, corpus: Path) -> None:
    shutil.rmtree(corpus / SOURCES[0] / "test")
    failed = compare(tmp_path, corpus, "--seeds", 1, "--only", "shortcut", "--jobs", 2, "--runs", tmp_path / "runs")
    assert failed.returncode == 1
    assert "pop909 has no test split. Give another folder with --data.\n" in failed.stderr
    assert "Traceback" not in failed.stderr
