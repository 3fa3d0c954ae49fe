"""A run that was stopped and goes on is the run that was never stopped, bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adaptgen import checkpoint
from adaptgen.errors import AdaptgenError, CheckpointError, OutputFileError, RecipeError
from adaptgen.recipe_files import load_recipe
from adaptgen.training import loop
from adaptgen.training.run_folder import clear
from adaptgen.training.session import Session


def train(recipe: Path, folder: Path, *overrides: str, stop_after: int | None = None, resume: bool = False) -> Session:
    """Train, or until so many steps are done."""
    session = Session(load_recipe(recipe, overrides=overrides), folder, resume=resume)
    session.run(should_stop=lambda: session.trainer.step == stop_after)
    return session


def read_log(folder: Path) -> list[dict[str, object]]:
    """The log without what differs from run to run: how long things took."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in records]


def wait_for_lines(log: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") >= count):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last/training.safetensors", "best/model.safetensors"):
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            assert torch.equal(tensor, theirs[key]), f"{name}: {key}"
    for name in ("last/training.json", "best/metrics.json"):
        assert (one / name).read_text() == (other / name).read_text()
    assert read_log(one) == read_log(other)


@pytest.mark.parametrize("rate", ["null", "0.01"], ids=["adamw", "muon"])
@pytest.mark.parametrize("stop_after", [0, 3, 5])
def test_resumed_run_equals_one_that_never_stopped(
    tiny_recipe: Path, tmp_path: Path, stop_after: int, rate: str
) -> None:
    optimizer = f"training.muon_learning_rate={rate}"
    train(tiny_recipe, tmp_path / "whole", optimizer)
    train(tiny_recipe, tmp_path / "parts", optimizer, stop_after=stop_after)
    train(tiny_recipe, tmp_path / "parts", optimizer, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_can_be_made_longer(tiny_recipe: Path, tmp_path: Path) -> None:
    constant_rate = "training.decay_share=0"
    train(tiny_recipe, tmp_path / "whole", constant_rate, "training.max_steps=10")
    train(tiny_recipe, tmp_path / "parts", constant_rate, "training.max_steps=5")
    train(tiny_recipe, tmp_path / "parts", constant_rate, "training.max_steps=10", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_process_leaves_no_trace_in_the_log(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "whole")
    train(tiny_recipe, tmp_path / "parts", stop_after=3)
    # Steps after the last save, the last line cut off.
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "loss": 1.0, "seconds": 1.0}\n{"step": 5, "lo')
    # And the swap of last/ cut in the middle.
    (tmp_path / "parts" / "last").rename(tmp_path / "parts" / "last.old")
    train(tiny_recipe, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_saves_by_time_between_validations(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_SECONDS", 0)
    session = Session(load_recipe(tiny_recipe), tmp_path / "run")
    saved = []

    def on_step(record: dict[str, float]) -> None:
        info = tmp_path / "run" / "last" / "training.json"
        saved.append(json.loads(info.read_text())["step"] if info.is_file() else 0)

    session.run(on_step=on_step)
    assert saved == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs a list of the files that are mapped")
def test_a_resumed_run_holds_none_of_the_files_that_it_was_read_from(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "run", stop_after=3)
    session = train(tiny_recipe, tmp_path / "run", stop_after=4, resume=True)
    assert session.trainer.step == 4
    assert str(tmp_path / "run") not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_a_folder_that_is_held_for_a_moment_is_still_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, rename = [], Path.rename

    def rename_after_a_while(path: Path, target: Path) -> Path:
        if not waits:
            raise PermissionError
        return rename(path, target)

    monkeypatch.setattr(checkpoint.time, "sleep", waits.append)
    monkeypatch.setattr(Path, "rename", rename_after_a_while)
    for text in ("one", "two"):
        waits.clear()
        with checkpoint.replace_folder(tmp_path / "last") as partial:
            (partial / "state").write_text(text, encoding="utf-8")
        assert (len(waits), (tmp_path / "last" / "state").read_text(encoding="utf-8")) == (1, text)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "best", Path.rename
    folder.mkdir()
    (folder / "state").write_text("one", encoding="utf-8")

    def refuse_the_new(path: Path, target: Path) -> Path:
        if path.name == "best.partial":
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OSError, match="no"), checkpoint.replace_folder(folder) as partial:
        (partial / "state").write_text("two", encoding="utf-8")
    assert (folder / "state").read_text(encoding="utf-8") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("stop_after", [None, 3, 5])
def test_writes_each_state_once(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int | None
) -> None:
    original, saved = loop.Trainer.save_last, []
    monkeypatch.setattr(loop.Trainer, "save_last", lambda trainer: saved.append(trainer.step) or original(trainer))
    train(tiny_recipe, tmp_path / "run", stop_after=stop_after)
    assert saved == {None: [5, 8], 3: [3], 5: [5]}[stop_after]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.num_layers=3", "model.num_layers = 2, the recipe has 3"),
        ("model.shortcut.place=replace", "model.shortcut.place = 'add', the recipe has 'replace'"),
        ("tokenizer.num_velocities=5", "tokenizer.num_velocities = 4, the recipe has 5"),
        ("training.validation_batches=5", "training.validation_batches = 2, the recipe has 5"),
        ("data.validation_share=0.2", "data.validation_share = 0.1, the recipe has 0.2"),
        ("training.muon_learning_rate=0.1", "training.muon_learning_rate = None, the recipe has 0.1"),
        ("training.batch_size=3", "training.batch_size = 2, the recipe has 3"),
    ],
)
def test_refuses_to_go_on_as_something_else(tiny_recipe: Path, tmp_path: Path, override: str, named: str) -> None:
    train(tiny_recipe, tmp_path / "run", stop_after=1)
    with pytest.raises(RecipeError) as caught:
        train(tiny_recipe, tmp_path / "run", override, resume=True)
    assert named in str(caught.value)


def test_refuses_to_go_on_with_other_files(tiny_recipe: Path, tmp_path: Path) -> None:
    corpus, examples = tmp_path / "corpus", Path(__file__).parents[2] / "examples"
    corpus.mkdir()
    for path in (examples / "corpus").glob("*_0*.mid"):
        (corpus / path.name).write_bytes(path.read_bytes())
    override = f"data.folder={corpus}"
    train(tiny_recipe, tmp_path / "run", override, stop_after=1)
    (corpus / "another.mid").write_bytes((examples / "waltz.mid").read_bytes())
    with pytest.raises(RecipeError, match="no longer holds the files that the run"):
        train(tiny_recipe, tmp_path / "run", override, resume=True)


def test_two_processes_do_not_share_a_folder(tiny_recipe: Path, tmp_path: Path, start_adaptgen: Callable) -> None:
    run = tmp_path / "run"
    process = start_adaptgen("train", tiny_recipe, "-o", "run", "--steps", 100000, "--set", "training.validate_every=7")
    try:
        wait_for_lines(run / "log.jsonl", 20, process)
        for how in ({"resume": True}, {"force": True}, {}):
            with pytest.raises(OutputFileError, match=r"another process is training in .*run\. Wait for it"):
                Session(load_recipe(tiny_recipe), run, **how)
    finally:
        process.kill()
        process.communicate()
    session = Session(load_recipe(tiny_recipe, overrides=["training.max_steps=100000"]), run, resume=True)
    step = session.trainer.step
    session.run(should_stop=lambda: session.trainer.step > step)
    assert read_log(run)[-1]["step"] == step + 1 > 7
    assert {path.name.removesuffix(".partial") for path in run.iterdir()} == {
        "recipe.yaml", "run.json", "skipped.tsv", "best", "last", "log.jsonl", "loss.png", "tensorboard",
    }  # fmt: skip


def test_a_run_that_came_first_to_a_new_folder_keeps_it(tiny_recipe: Path, tmp_path: Path) -> None:
    """Both find no folder; the second has read its corpus when the first has trained."""
    run = tmp_path / "run"

    def finish_another(source: str, done: int, total: int) -> None:
        if not run.exists():
            train(tiny_recipe, run, "data.validation_share=0.13", stop_after=1)

    with pytest.raises(OutputFileError, match="is not empty"):
        Session(load_recipe(tiny_recipe, overrides=["data.validation_share=0.12"]), run, on_progress=finish_another)
    assert json.loads((run / "last" / "training.json").read_text())["step"] == 1


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="it takes Linux to bound a process's memory")
def test_a_batch_that_no_memory_holds_is_said(tiny_recipe: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    overrides = ["training.batch_size=4096", "model.model_dim=256"]
    session = Session(load_recipe(tiny_recipe, overrides=overrides), tmp_path / "run")
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        with pytest.raises(RecipeError, match="too little memory for this model and this batch"):
            session.run()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def test_a_damaged_log_does_not_keep_a_run_from_going_on(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "whole")
    train(tiny_recipe, tmp_path / "parts", stop_after=3)
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('0\n{"loss": 1.0}\n')
    train(tiny_recipe, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_damaged_description_of_the_run_is_named(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "run", stop_after=1)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json is damaged\. Begin anew with --force"):
        train(tiny_recipe, tmp_path / "run", resume=True)


def test_nothing_to_resume(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no run to resume"):
        train(tiny_recipe, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_killed_before_its_first_save_can_only_begin_anew(tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_recipe, run, stop_after=1)
    shutil.rmtree(run / "last")
    with pytest.raises(CheckpointError, match=r"has no run to resume\. Begin anew with --force"):
        train(tiny_recipe, run, resume=True)
    with pytest.raises(OutputFileError, match=r"is not empty\. Use --force to begin anew"):
        train(tiny_recipe, run)


def test_to_begin_anew_takes_away_all_of_the_run_before(tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_recipe, run, stop_after=1)
    # As a process leaves it that is killed while it removes what it has replaced.
    shutil.copytree(run / "last", run / "last.old")
    (run / "recipe.yaml.partial").write_text("")
    clear(run)
    assert list(run.iterdir()) == []


def test_refuses_to_overwrite_a_run(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "run", stop_after=1)
    with pytest.raises(OutputFileError, match="is not empty"):
        train(tiny_recipe, tmp_path / "run")


def test_damaged_state(tiny_recipe: Path, tmp_path: Path) -> None:
    train(tiny_recipe, tmp_path / "run", stop_after=1)
    state = tmp_path / "run" / "last" / "training.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(AdaptgenError, match="damaged"):
        train(tiny_recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_cleanly_on_a_signal(
    tiny_recipe: Path, tmp_path: Path, start_adaptgen: Callable, number: signal.Signals
) -> None:
    lasting = ("training.decay_share=0", "training.max_steps=100000", "training.validate_every=7")
    process = start_adaptgen("train", tiny_recipe, "-o", "parts", *(f"--set={override}" for override in lasting))
    wait_for_lines(tmp_path / "parts" / "log.jsonl", 4, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    step = json.loads((tmp_path / "parts" / "last" / "training.json").read_text())["step"]
    assert f"Stopped after step {step:,} and saved" in out
    assert "adaptgen train parts/recipe.yaml -o parts --resume" in out
    assert read_log(tmp_path / "parts")[-1]["step"] == step
    if number == signal.SIGINT:
        longer = (*lasting[:1], f"training.max_steps={step + 3}", lasting[2])
        train(tmp_path / "parts" / "recipe.yaml", tmp_path / "parts", *longer, resume=True)
        train(tiny_recipe, tmp_path / "whole", *longer)
        assert_same_run(tmp_path / "whole", tmp_path / "parts")
