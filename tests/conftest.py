"""What all tests share: a token cache of their own, a tiny recipe, and the command line as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

import adaptgen

ROOT = Path(__file__).parent.parent
TINY_RECIPE = f"""
name: tiny
domain: music
tokenizer: {{num_velocities: 4}}
model: {{num_layers: 2, num_heads: 2, model_dim: 32, attention_window: 64}}
data: {{folder: {ROOT / "examples" / "corpus"}, validation_share: 0.1, test_share: 0}}
training:
  max_steps: 8
  batch_size: 2
  seq_len: 64
  learning_rate: 1.0e-2
  warmup_steps: 2
  dropout: 0.1
  validate_every: 5
  validation_batches: 2
  num_threads: 1
"""


@pytest.fixture(scope="session", autouse=True)
def token_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shards are made once for all tests, and nowhere near the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTGEN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_recipe_text() -> str:
    """What is in `tiny_recipe`, for what outlives a test."""
    return TINY_RECIPE


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Iterator[Path]:
    """A recipe file of a model that trains in no time, on one thread so that it does so the same way each time."""
    import torch

    path, num_threads = tmp_path / "tiny.yaml", torch.get_num_threads()
    path.write_text(TINY_RECIPE, encoding="utf-8")
    yield path
    torch.set_num_threads(num_threads)


@pytest.fixture
def start_adaptgen(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `adaptgen ARGUMENTS` in a process of its own, in the test's folder."""

    def start(*arguments: object, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(adaptgen.__file__).parents[1])}
        command = [sys.executable, "-m", "adaptgen", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture
def adaptgen_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `adaptgen ARGUMENTS` in this process and the test's folder; gives exit code, stdout and stderr."""
    from adaptgen.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["adaptgen", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run
