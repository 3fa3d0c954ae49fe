"""A run that two processes share is the run of one, and may be gone on with by any number of them."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptgen
from adaptgen.checkpoint import load_checkpoint
from adaptgen.config import ModelConfig, TrainingConfig
from adaptgen.errors import RecipeError, UsageError
from adaptgen.model import Transformer
from adaptgen.recipe_files import load_recipe
from adaptgen.training.distributed import Ranks, choose_device
from adaptgen.training.loop import next_token_loss
from adaptgen.training.session import Session

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# Dropout differs from process to process.
SAME = ["training.dropout=0", "training.batch_size=4"]
MUON = [*SAME, "training.muon_learning_rate=0.01"]
HALF = "training.precision=bfloat16"
STOP_AFTER = 3

Adaptgen = Callable[..., tuple[int, str, str]]


def start_processes(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(adaptgen.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TORCHRUN, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(recipe: Path, folder: Path, overrides: list[str], *, stop_after: int | None = None, resume: bool = False):
    """Train in this process alone."""
    session = Session(load_recipe(recipe, overrides=overrides), folder, resume=resume)
    session.run(should_stop=lambda: session.trainer.step == stop_after)


def losses(folder: Path) -> list[float]:
    """Of all steps and validations, in order."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record["loss"] if "loss" in record else record["validation"]["nats_per_token"] for record in records]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, token_cache: Path, tiny_recipe_text: str) -> Iterator[Path]:
    """Runs of one process, and of two, which are started once since that takes most of the time."""
    folder, num_threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    recipe = folder / "tiny.yaml"
    recipe.write_text(tiny_recipe_text, encoding="utf-8")
    train(recipe, folder / "one", SAME)
    train(recipe, folder / "one, muon", MUON)
    train(recipe, folder / "from one to two", SAME, stop_after=STOP_AFTER)
    plan: list[dict[str, Any]] = [
        {"recipe": str(recipe), "folder": str(folder / name), "overrides": overrides, **how}
        for name, overrides, how in [
            ("two", SAME, {}),
            ("two, muon", MUON, {}),
            ("from one to two", SAME, {"resume": True}),
            ("from two to one", SAME, {"stop_after": STOP_AFTER}),
            ("two, in pieces", [*SAME, "training.micro_batch_size=1", "training.checkpoint_activations=true"], {}),
            ("two, bfloat16", [*SAME, HALF], {}),
            ("fsdp", [*SAME, "training.fsdp=true"], {"stop_after": STOP_AFTER}),
            ("fsdp", [*SAME, "training.fsdp=true", "training.checkpoint_activations=true"], {"resume": True}),
            ("fsdp, from two to one", [*MUON, "training.fsdp=true"], {"stop_after": STOP_AFTER}),
            ("fsdp, muon", [*MUON, "training.fsdp=true", "training.micro_batch_size=1"], {}),
            ("fsdp, bfloat16", [*SAME, HALF, "training.fsdp=true"], {}),
        ]
    ]
    plan = [{"stop_after": None, "resume": False, **run} for run in plan]
    process = start_processes(Path(__file__).with_name("shared_runs.py"), json.dumps(plan), cwd=folder)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    train(recipe, folder / "from two to one", SAME, resume=True)
    train(recipe, folder / "fsdp, from two to one", MUON, resume=True)
    yield folder
    torch.set_num_threads(num_threads)


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("two", "one"),
        ("two, muon", "one, muon"),
        ("from one to two", "one"),
        ("from two to one", "one"),
        ("two, in pieces", "one"),
        ("fsdp", "one"),
        ("fsdp, from two to one", "one, muon"),
        ("fsdp, muon", "one, muon"),
    ],
)
def test_the_curve_is_that_of_one_process(runs: Path, name: str, alone: str) -> None:
    expected = losses(runs / alone)
    assert len(expected) == 10
    assert losses(runs / name) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["two, bfloat16", "fsdp, bfloat16"])
def test_bfloat16_is_near_and_not_the_same(runs: Path, name: str) -> None:
    expected = losses(runs / "one")
    assert losses(runs / name) == pytest.approx(expected, abs=0.05)
    assert losses(runs / name) != pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["two", "fsdp"])
def test_the_best_weights_are_whole(runs: Path, name: str) -> None:
    ours, theirs = (load_checkpoint(str(runs / folder / "best")).model.state_dict() for folder in (name, "one"))
    for key, tensor in theirs.items():
        assert torch.allclose(ours[key], tensor, atol=2e-3), key


@pytest.mark.parametrize("mixing", [None, "denseformer", "value_residual"])
def test_recomputed_activations_give_the_same_gradients(mixing: str | None) -> None:
    shape = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=8)
    shape = shape if mixing is None else shape.model_copy(update={"shortcut": None, "depth_mixing": mixing})
    tokens = torch.arange(34).remainder(11).view(2, 1, 17)
    gradients = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        model = Transformer(shape, (11,), dropout=0.5)
        Ranks(torch.device("cpu")).spread(model, training_config(checkpoint_activations=recomputed))
        torch.manual_seed(1)
        next_token_loss(model(tokens[:, :, :-1]), tokens[:, :, 1:]).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def test_recomputed_activations_are_not_kept() -> None:
    shape = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=8, shortcut=None)
    model = Transformer(shape, (11,))
    Ranks(torch.device("cpu")).spread(model, training_config(checkpoint_activations=True))
    tokens = torch.arange(37)[None, None] % 11
    loss = next_token_loss(model(tokens[:, :, :-1]), tokens[:, :, 1:])
    size = 36 * 3 * 16 * 4
    kept = [found for found in gc.get_objects() if type(found) is torch.Tensor and storage_size(found) == size]
    assert not kept, "queries, keys and values of all layers in one"
    loss.backward()


def storage_size(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def training_config(**settings: Any) -> TrainingConfig:
    return TrainingConfig(max_steps=1, batch_size=4, seq_len=16, learning_rate=1e-3, **settings)


def test_says_what_cannot_be_divided() -> None:
    shape = ModelConfig(
        num_layers=2, num_heads=2, model_dim=16, attention_window=8, shortcut=None, depth_mixing="attention_residual"
    )
    model, three = Transformer(shape, (11,)), Ranks(torch.device("cpu"), world_size=3)
    with pytest.raises(RecipeError, match=r"^training.batch_size 4 is not a multiple of the 3 processes\. Change one"):
        three.spread(model, training_config())
    with pytest.raises(RecipeError, match="which a model with depth_mixing attention_residual does not"):
        Ranks(torch.device("cpu")).spread(model, training_config(checkpoint_activations=True))


def test_auto_takes_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    present: set[str] = set()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match="torch finds no cuda device here"):
        choose_device("cuda")
    present.add("mps")
    assert choose_device("auto") == torch.device("mps")
    present.add("cuda")
    assert choose_device("auto", local_rank=1) == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="process 3 of this machine has no GPU: there are 2"):
        choose_device("auto", local_rank=2)


def wait_for_steps(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while not (folder / "log.jsonl").is_file() or len((folder / "log.jsonl").read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def find_rank(parent: int, rank: int) -> int:
    """The id of a process that torchrun has started."""
    for folder in Path("/proc").iterdir():
        try:
            is_child = folder.name.isdigit() and f"\nPPid:\t{parent}\n" in (folder / "status").read_text()
            if is_child and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"{parent} has no process of rank {rank}")


def start_long_run(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    """Far from its end, and past its first validation."""
    endless = ["--steps", 100_000, "--set", "training.validate_every=4"]
    process = start_processes("-m", "adaptgen", "train", recipe, "-o", folder, *endless, cwd=folder.parent)
    wait_for_steps(folder, 8)
    return process


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_run_which_can_go_on(
    tiny_recipe: Path, tmp_path: Path, adaptgen_here: Adaptgen, lost: int
) -> None:
    process = start_long_run(tiny_recipe, tmp_path / "run")
    os.kill(find_rank(process.pid, lost), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    ours, _, launcher = err.partition("Traceback")
    assert "Error: another process of this run has ended, so this one stops too. Start all of them" in ours
    assert "torch/distributed/run.py" in launcher
    assert "adaptgen/training" not in launcher
    assert out.count("Loading ...") == 1
    saved = json.loads((tmp_path / "run" / "last" / "training.json").read_text())["step"]
    code, out, err = adaptgen_here("train", tiny_recipe, "-o", "run", "--resume", "--steps", saved + 2)
    assert code == 0, err
    assert f"Going on after step {saved:,}" in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_all_save_once(tiny_recipe: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start_long_run(tiny_recipe, tmp_path / "run")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert out.count("Stopped after step") == 1, err
    assert out.count("Loading ...") == 1
    assert "Error:" not in err
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    saved = json.loads((tmp_path / "run" / "last" / "training.json").read_text())["step"]
    assert f"Stopped after step {saved:,} and saved" in out
    assert saved == steps[-1]


@pytest.mark.slow
def test_a_mistake_is_said_once(tiny_recipe: Path, tmp_path: Path) -> None:
    process = start_processes("-m", "adaptgen", "train", tiny_recipe, "--set", "training.batch_size=3", cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert err.count("Error: training.batch_size 3 is not a multiple of the 2 processes") == 1
    assert not (tmp_path / "runs").exists()
