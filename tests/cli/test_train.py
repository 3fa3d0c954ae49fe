"""`adaptgen train` as its user sees it: what it leaves, and what it says when something is wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY, TWO_STEPS

from adaptgen.checkpoint import load_checkpoint
from adaptgen.cli.common import StopSignals

EXAMPLES = Path(__file__).parents[2] / "examples"
Adaptgen = Callable[..., tuple[int, str, str]]


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder of files as people have them: good ones, a copy, broken ones, and something else."""
    folder = tmp_path / "my songs"
    folder.mkdir()
    for name in ("folk_reel_05", "folk_reel_06", "folk_circle_07", "pop_axis_01", "pop_fifties_02"):
        (folder / f"{name}.mid").write_bytes((EXAMPLES / "corpus" / f"{name}.mid").read_bytes())
    (folder / "a copy.MID").write_bytes((EXAMPLES / "corpus" / "pop_axis_01.mid").read_bytes())
    (folder / "[red]broken.mid").write_bytes(b"MThread")
    (folder / "empty.mid").write_bytes(b"")
    (folder / "notes.txt").write_text("not music")
    return folder


def test_leaves_a_finished_run(adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path, tmp_path: Path) -> None:
    code, out, err = adaptgen_here("train", tiny_recipe, "--data", songs, "--json", "--seed", 3)
    assert code == 0, err
    report = json.loads(out)
    assert report["is_complete"]
    assert (report["step"], report["num_files"], report["num_skipped"]) == (8, 8, 2)
    assert report["best_metrics"]["validation"]["."]["bits_per_note"] > 0
    run = tmp_path / "runs" / "tiny"
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 9))
    assert [record["step"] for record in records if "validation" in record] == [5, 8]
    assert any((run / "tensorboard").iterdir())
    as_run = yaml.safe_load((run / "recipe.yaml").read_text())
    assert as_run["training"]["seed"] == 3
    assert as_run["data"]["folder"] == str(songs)
    assert not list(run.glob("*.partial"))
    # Eight songs of a few hundred notes repeat themselves enough to fit it to the one that is held out.
    assert load_checkpoint(run / "best").recall is not None


def test_reports_skipped_files_with_reasons(
    adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path, tmp_path: Path
) -> None:
    code, out, err = adaptgen_here("train", tiny_recipe, "--data", songs, *TWO_STEPS)
    assert code == 0, err
    assert "Skipped 2 of 8 files:" in out
    assert "  empty.mid: is empty" in out
    rows = dict(line.split("\t") for line in (tmp_path / "runs/tiny/skipped.tsv").read_text().splitlines())
    assert rows.keys() == {"file", "empty.mid", "[red]broken.mid"}
    assert rows["[red]broken.mid"] == "is not a MIDI file: it begins with b'MThr' where MIDI has b'MThd'"


def test_card_says_how_to_use_the_run(adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path, tmp_path: Path) -> None:
    adaptgen_here("train", tiny_recipe, "--data", songs, *TWO_STEPS)
    card = (tmp_path / "runs/tiny/best/README.md").read_text()
    assert "adaptgen continue song.mid --checkpoint runs/tiny/best" in card
    assert "`my songs`" in card
    assert "6 used, 2 skipped" in card
    assert str(tmp_path) not in card
    adaptgen_here("train", tiny_recipe, "--data", songs, *TWO_STEPS, "-o", "my run")
    assert "adaptgen continue song.mid --checkpoint 'my run/best'" in (tmp_path / "my run/best/README.md").read_text()
    code, out, _ = adaptgen_here("checkpoints", "show", "runs/tiny/best", "--json")
    about = json.loads(out)
    assert code == 0
    assert about["domain"] == "music"
    assert about["metrics"]["step"] == 2


def test_shipped_recipe_runs_anywhere_and_is_fine_tuned(adaptgen_here: Adaptgen, tmp_path: Path) -> None:
    code, _, err = adaptgen_here("train", "recipes/music.yaml", *TWO_STEPS, *TINY)
    assert code == 0, err
    fine_tune = ("train", "music-finetune", *TWO_STEPS, "--set", "init_from=runs/music/best", "--json")
    code, _, err = adaptgen_here(*fine_tune, "-o", "tuned", "--set", "training.num_threads=1")
    assert code == 0, err
    config = json.loads((tmp_path / "tuned/best/config.json").read_text())
    assert config["model"]["model_dim"] == 32
    card = (tmp_path / "tuned/best/README.md").read_text()
    assert "fine-tuned from `music/best` with" in card, "the run's name, and which of its weights"
    own = "for you to choose, within the terms of the files it was trained on"
    assert f"\nLicence: {own} and of the card of `music/best` ({own}).\n" in card
    _, out, _ = adaptgen_here("checkpoints", "show", "tuned/best")
    assert f"licence     {own} and of the card of `music/best` ({own})\n" in out.replace("\n" + " " * 12, " ")
    assert "validation.all files.bits_per_note = " in out
    code, _, err = adaptgen_here(*fine_tune, "-o", "other", "--set", "tokenizer.num_velocities=9")
    assert code == 1
    assert "tokenizer.num_velocities is 9, but" in err
    assert not (tmp_path / "other").exists()


def test_force_replaces_the_run_and_nothing_else(adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path) -> None:
    adaptgen_here("train", tiny_recipe, *TWO_STEPS)
    mine = tmp_path / "runs" / "tiny" / "mine.txt"
    mine.write_text("keep")
    code, _, err = adaptgen_here("train", tiny_recipe, *TWO_STEPS)
    assert code == 1
    assert "runs/tiny is not empty. Use --resume to go on with its run, --force to begin anew" in err
    code, _, err = adaptgen_here("train", tiny_recipe, "--steps", 1, "--force")
    assert code == 0, err
    assert mine.read_text() == "keep"
    assert len((tmp_path / "runs/tiny/log.jsonl").read_text().splitlines()) == 2


def test_resume_needs_neither_data_nor_a_second_look(adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path) -> None:
    adaptgen_here("train", tiny_recipe, "--data", songs, *TWO_STEPS)
    code, out, err = adaptgen_here("train", tiny_recipe, *TWO_STEPS[2:], "--steps", 3, "--resume")
    assert code == 0, err
    assert "Going on after step 2" in out
    assert "Done: 3 steps" in out


def test_resume_goes_on_as_the_run_was_set(adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path) -> None:
    as_set = ("--set", "training.learning_rate=0.003", "--set", "training.dropout=0", "--set", "model.num_layers=3")
    adaptgen_here("train", tiny_recipe, *as_set, *TWO_STEPS)
    code, out, err = adaptgen_here("train", tiny_recipe, "--resume", "--steps", 3)
    assert code == 0, err
    assert "  training.max_steps: 2 -> 3\n" in out
    assert out.count(" -> ") == 1, "and nothing else has changed"
    change = {"step": 2, "key": "training.max_steps", "old": 2, "new": 3}
    assert json.loads((tmp_path / "runs/tiny/run.json").read_text())["changes"] == [change]
    assert "its own model.num_layers, training.dropout, training.learning_rate, training.validat" in out
    as_run = yaml.safe_load((tmp_path / "runs/tiny/recipe.yaml").read_text())["training"]
    assert (as_run["max_steps"], as_run["learning_rate"], as_run["dropout"]) == (3, 0.003, 0)
    code, out, err = adaptgen_here("train", "runs/tiny/recipe.yaml", "--resume", "--set", "training.weight_decay=0.2")
    assert code == 0, err
    assert "  training.weight_decay: 0.1 -> 0.2\n" in out
    another = {"step": 3, "key": "training.weight_decay", "old": 0.1, "new": 0.2}
    assert json.loads((tmp_path / "runs/tiny/run.json").read_text())["changes"] == [change, another]
    card = (tmp_path / "runs/tiny/best/README.md").read_text()
    assert "- Changed on the way: max_steps 2 -> 3 after step 2\n" in card, "nothing was trained since the second"
    assert "its own" not in out
    line = one_error(adaptgen_here("train", tiny_recipe, "--resume", "--set", "training.batch_size=3"))
    assert "was begun with training.batch_size = 2, the recipe has 3" in line


def test_begins_nothing_anew_that_it_would_remove_first(
    adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path
) -> None:
    adaptgen_here("train", tiny_recipe, *TWO_STEPS)
    fine_tune = ("--set", "model=null", "--set", "init_from=runs/tiny/best", "--force")
    line = one_error(adaptgen_here("train", tiny_recipe, *TWO_STEPS, *fine_tune))
    assert "runs/tiny/best, which the new run needs, would be removed with the run in runs/tiny" in line
    assert (tmp_path / "runs/tiny/best/model.safetensors").is_file()
    code, _, err = adaptgen_here("train", tiny_recipe, *TWO_STEPS, *fine_tune, "-o", "runs/other")
    assert code == 0, err


def test_a_model_that_no_memory_holds_is_said(adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path) -> None:
    # More than a processor can address, so that no system promises it.
    line = one_error(adaptgen_here("train", tiny_recipe, "--set", "model.mlp_dim=10000000000000"))
    assert "too little memory for this model and this batch. Lower training.micro_batch_size" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("where", ["adaptgen.shards._write_shards", "adaptgen.domains.base.Tokenizer.fit"])
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_corpus_that_no_memory_holds_is_said(
    adaptgen_here: Adaptgen,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: Exception,
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(where, fail)
    monkeypatch.setenv("ADAPTGEN_CACHE", str(tmp_path / "cache"))
    line = one_error(adaptgen_here("train", tiny_recipe))
    assert "examples/corpus takes more memory to read than there is. Give fewer files" in line
    assert not (tmp_path / "runs").exists()


def test_a_missing_compiler_is_said(
    start_adaptgen: Callable[..., subprocess.Popen[str]], tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    process = start_adaptgen("train", tiny_recipe, *TWO_STEPS, "--set", "training.compile=true", "--device", "cpu")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("Error: training.compile does not work here: ")
    assert last.endswith("Install a C++ compiler such as g++, or leave training.compile out.")


def test_says_what_a_recipe_asks_for_in_vain(adaptgen_here: Adaptgen, tiny_recipe: Path) -> None:
    nothing_held_out = ("--set", "data.validation_share=0", "--set", "training.warmup_steps=9")
    code, out, err = adaptgen_here("train", tiny_recipe, *TWO_STEPS, *nothing_held_out)
    assert code == 0, err
    assert "Nothing is held out, so the newest weights count as the best." in out
    assert "The learning rate never gets to 0.01: training.warmup_steps is 9 and training.max_steps 2" in out


def test_says_that_a_folder_with_splits_lacks_what_is_held_out(
    adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path, tmp_path: Path
) -> None:
    (tmp_path / "splits").mkdir()
    songs.rename(tmp_path / "splits" / "train")
    code, out, err = adaptgen_here("train", tiny_recipe, "--data", "splits", *TWO_STEPS)
    assert code == 0, err
    out = " ".join(out.split())
    assert "splits has a folder train and none named validation with files that can be used, so the newest" in out


def test_says_that_nothing_held_out_can_be_used(adaptgen_here: Adaptgen, tiny_recipe: Path, songs: Path) -> None:
    damaged = (b"MThread %d" % number for number in count())
    # The one that is dealt out first.
    broken = next(data for data in damaged if hashlib.sha256(data).hexdigest().startswith("00"))
    (songs / "broken.mid").write_bytes(broken)
    code, out, err = adaptgen_here("train", tiny_recipe, "--data", songs, *TWO_STEPS)
    assert code == 0, err
    assert "Of what was held out nothing can be used, so the newest weights count as the best." in out


def test_says_that_too_little_is_held_out_to_tell(adaptgen_here: Adaptgen, tmp_path: Path) -> None:
    for name, size in (("train", 200), ("validation", 1)):
        (tmp_path / f"{name}.txt").write_text("She laughed and went on. " * size)
    arguments = ("train", "text", "--data", tmp_path, *TINY, *TWO_STEPS, "--set", "training.seq_len=64")
    code, out, err = adaptgen_here(*arguments)
    assert code == 0, err
    assert "The 26 tokens for validation are too few to tell well which weights are best" in out
    (tmp_path / "validation.txt").write_text("She laughed and went on. " * 3)
    code, out, err = adaptgen_here(*arguments, "--force")
    assert code == 0, err
    assert "too few" not in out


def one_error(result: tuple[int, str, str]) -> str:
    """The sentence of a refusal: on one line, without a traceback."""
    code, _, err = result
    assert code in (1, 2)
    (line,) = err.strip().splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.max_stepz=5"], "unknown key 'training.max_stepz' (value 5); the nearest is 'max_steps'"),
        (["training.learning_rate=1e30", "training.warmup_steps=0"], "Lower training.learning_rate (now 1e+30)"),
        (["training.seq_len=100000"], "fewer than the 100,001 of one training sequence"),
        (["data.folder=nowhere"], "there is no folder nowhere. Give one with --data."),
        (["tokenizer.velocities=3"], "unknown key 'tokenizer.velocities'"),
        (["domain=opera"], "there is no domain 'opera'. Domains are: "),
        (["init_from=nowhere", "model=null"], "there is no checkpoint 'nowhere'"),
        (["init_from=text", "model=null"], "init_from text is for text, not for music. Give another with --set init_"),
    ],
)
def test_says_what_is_wrong_with_a_recipe(
    adaptgen_here: Adaptgen, tiny_recipe: Path, overrides: list[str], expected: str
) -> None:
    line = one_error(adaptgen_here("train", tiny_recipe, *(f"--set={override}" for override in overrides)))
    assert expected in line


def test_what_is_wrong_beside_a_recipe_is_no_fault_of_the_recipe(adaptgen_here: Adaptgen, tiny_recipe: Path) -> None:
    code, _, err = adaptgen_here("train", tiny_recipe, "--steps", 0)
    assert (code, "Error: training.max_steps is 0: input should be" in err) == (2, True), err
    tiny_recipe.write_text(tiny_recipe.read_text().replace("max_steps: 8", "max_steps: many"))
    code, _, err = adaptgen_here("train", tiny_recipe, "--steps", 0)
    assert (code, "tiny.yaml: training.max_steps is 'many'" in err) == (1, True), err


def test_says_what_is_wrong_with_the_data(adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    line = one_error(adaptgen_here("train", tiny_recipe, "--data", folder))
    assert f"{folder} has no music files (.mid, .midi" in line
    assert line.endswith("). Give another folder with --data.")
    for name in ("one.mid", "two.mid"):
        (folder / name).write_bytes(b"MThd")
    line = one_error(adaptgen_here("train", tiny_recipe, "--data", folder))
    assert f"{folder} has no file that can be trained on; the first was skipped because: " in line
    assert not (tmp_path / "runs").exists()


def test_says_what_is_wrong_with_the_output(adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file is not a folder. Give another with -o." in one_error(adaptgen_here("train", tiny_recipe, "-o", "file"))
    assert "file/run cannot be written: Not a directory. Give another folder with -o." in one_error(
        adaptgen_here("train", tiny_recipe, "-o", "file/run")
    )


def test_names_with_brackets_and_escapes_stay_what_they_are(
    adaptgen_here: Adaptgen, tiny_recipe: Path, tmp_path: Path
) -> None:
    name = "[bold]a:smile:\x1b[31m" + "long" * 40
    (tmp_path / name).write_text("")
    line = one_error(adaptgen_here("train", tiny_recipe, "-o", name))
    assert line == f"Error: {name} is not a folder. Give another with -o.".replace("\x1b", "\\x1b")


def test_a_second_ctrl_c_ends_at_once() -> None:
    import signal

    # A shell's background job is started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopSignals() as stop:
            assert not stop.is_requested()
            signal.raise_signal(signal.SIGINT)
            assert stop.is_requested()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_usage_errors_exit_with_2(adaptgen_here: Adaptgen, tiny_recipe: Path) -> None:
    assert adaptgen_here("train")[0] == 2
    assert adaptgen_here("train", tiny_recipe, "--steps", "many")[0] == 2
    assert adaptgen_here("train", tiny_recipe, "--resume", "--force")[0] == 2
