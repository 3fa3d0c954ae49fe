"""Measuring checkpoints from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptgen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adaptgen.config import ModelConfig
from adaptgen.domains import get
from adaptgen.model import Transformer

Run = Callable[..., tuple[int, str, str]]


def random_checkpoint(
    folder: Path, *, seed: int, options: dict[str, object] | None = None, learn: Path | None = None
) -> Path:
    domain = get("text")
    tokenizer = domain.tokenizer_type.from_options(options or {})
    if learn is not None:
        tokenizer.fit([learn])
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=32)
        model = Transformer(config, tokenizer.vocab_sizes)
    save_checkpoint(Checkpoint(domain, tokenizer, model), folder, card="# random\n")
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("It was a dark night.\n\n\nIt rained.\n")
    (folder / "two.txt").write_text("Zwölf Boxkämpfer jagen Viktor.\n" * 3)
    (folder / "bad.txt").write_bytes(b"\0")
    return folder


def test_figures_are_those_of_the_model(adaptgen_here: Run, tmp_path: Path, texts: Path) -> None:
    one, two = (random_checkpoint(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2)))
    code, out, _ = adaptgen_here("eval", "--checkpoint", one, "--checkpoint", two, "--data", texts, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["documents"], found["unit"]) == (3, "byte")
    assert [item["reason"] for item in found["skipped"]] == ["is no text: character 0 is a null"]
    nats, num_bytes = [], 0
    for folder in (one, two):
        checkpoint, total = load_checkpoint(str(folder)), 0.0
        documents = [
            document
            for name in ("one.txt", "two.txt")
            for document in get("text").read_documents(texts / name, checkpoint.tokenizer, is_training=False)
        ]
        for document in documents:
            with torch.no_grad():
                logits = checkpoint.model(torch.from_numpy(document[:, :-1])[None])[0, 0]
            total += float(
                torch.nn.functional.cross_entropy(logits, torch.from_numpy(document[0, 1:]), reduction="sum")
            )
        nats.append(total)
        num_bytes = sum(document.shape[1] - 1 for document in documents)
    assert found["units"] == num_bytes
    for row, total in zip(found["models"], nats, strict=True):
        assert row["nats_per_token"]["value"] == pytest.approx(total / num_bytes, abs=1e-5)
        assert row["perplexity"] == pytest.approx(math.exp(total / num_bytes), rel=1e-4)
        bits = row["bits_per_byte"]
        assert bits["value"] == pytest.approx(total / num_bytes / math.log(2), abs=1e-5)
        assert bits["low"] <= bits["value"] <= bits["high"]
    difference = found["models"][1]["difference_to_first"]
    assert difference["value"] == pytest.approx((nats[1] - nats[0]) / num_bytes / math.log(2), abs=1e-5)


def test_models_that_begin_documents_otherwise_are_each_read_for(
    adaptgen_here: Run, tmp_path: Path, texts: Path
) -> None:
    """Of a text with few merges, vocabularies of two sizes hold the same ones."""
    merges = tmp_path / "merges.txt"
    merges.write_text("abcd " * 40)
    models = [
        random_checkpoint(tmp_path / f"of{size}", seed=1, options={"kind": "bpe", "vocab_size": size}, learn=merges)
        for size in (320, 300)
    ]
    for order in (models, models[::-1]):
        names = [argument for model in order for argument in ("--checkpoint", model)]
        code, out, err = adaptgen_here("eval", *names, "--data", texts / "one.txt", "--json")
        assert code == 0, err
        nats = {row["checkpoint"]: row["nats_per_token"]["value"] for row in json.loads(out)["models"]}
        alone = ("eval", "--checkpoint", models[0], "--data", texts / "one.txt", "--json")
        expected = json.loads(adaptgen_here(*alone)[1])["models"][0]["nats_per_token"]["value"]
        assert nats[str(models[0])] == pytest.approx(expected)


def test_the_table_names_every_model_and_the_file_holds_the_figures(
    adaptgen_here: Run, tmp_path: Path, texts: Path
) -> None:
    checkpoint, output = random_checkpoint(tmp_path / "mine", seed=1), tmp_path / "figures.json"
    arguments = ("eval", "--checkpoint", checkpoint, "--data", texts / "one.txt", "-o", output)
    code, out, _ = adaptgen_here(*arguments)
    assert code == 0
    assert "mine" in out
    assert "bits per byte" in out
    assert json.loads(output.read_text())["models"][0]["tokens"] == 34
    code, _, err = adaptgen_here(*arguments)
    assert code == 1
    assert "exists already" in err


@pytest.mark.parametrize(("splits", "taken"), [(["test"], "test"), ([], "validation")])
def test_of_a_folder_with_splits_what_was_held_out_is_taken(
    adaptgen_here: Run, tmp_path: Path, splits: list[str], taken: str
) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    for name in ("train", "validation", *splits):
        (folder / f"{name}.txt").write_text(name)
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    _, out, _ = adaptgen_here("eval", "--checkpoint", checkpoint, "--data", folder, "--json")
    found = json.loads(out)
    assert found["units"] == len(taken)
    assert found["models"][0]["nats_per_token"]["low"] is None, "one document has no interval"


def test_says_which_files_a_model_was_trained_on(adaptgen_here: Run, tmp_path: Path, tiny_recipe: Path) -> None:
    songs, new = tmp_path / "songs", tmp_path / "new"
    for folder, pattern in ((songs, "pop_*.mid"), (new, "folk_reel_0*.mid")):
        folder.mkdir()
        for path in sorted((Path(__file__).parents[2] / "examples" / "corpus").glob(pattern))[:4]:
            (folder / path.name).write_bytes(path.read_bytes())
    code, _, err = adaptgen_here("train", tiny_recipe, "--data", songs, "--steps", 1)
    assert code == 0, err
    measure = ("eval", "--checkpoint", "runs/tiny/best", "--json", "--data")
    code, _, err = adaptgen_here(*measure, songs)
    assert (code, "runs/tiny/best was trained on 3 of these 4 files" in err) == (0, True), err
    code, _, err = adaptgen_here(*measure, new)
    assert (code, "trained on" in err) == (0, False), err


def test_a_limit_takes_documents_evenly_spaced(adaptgen_here: Run, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n\n\n".join("x" * 2**number for number in range(5)))
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    _, out, _ = adaptgen_here(
        "eval", "--checkpoint", checkpoint, "--data", tmp_path / "many.txt", "--limit", 3, "--json"
    )
    assert json.loads(out)["units"] == (1 + 3) + (2 + 3) + (8 + 3)


def test_a_limit_reads_no_more_files_than_it_needs(adaptgen_here: Run, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / "texts" / f"{number}.txt").write_bytes(b"x" * 2**number if number % 2 == 0 else b"\x00\xff" * 9)
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    _, out, _ = adaptgen_here("eval", "--checkpoint", checkpoint, "--data", tmp_path / "texts", "--limit", 3, "--json")
    found = json.loads(out)
    assert (found["units"], found["skipped"]) == (1 + 4 + 16, []), "every other file cannot be read"


@pytest.mark.parametrize(("limit", "units", "num_skipped"), [(3, 2 + 8 + 32, 3), (2, 2 + 8, 1), (6, 2 + 8 + 32, 3)])
def test_a_limit_counts_no_files_that_cannot_be_read(
    adaptgen_here: Run, tmp_path: Path, limit: int, units: int, num_skipped: int
) -> None:
    """Every other file, the first included, is empty or no text; of others as many are taken, as far as there are."""
    (tmp_path / "texts").mkdir()
    for number, content in enumerate((b"", b"x" * 2, b"\0", b"x" * 8, b"", b"x" * 32)):
        (tmp_path / "texts" / f"{number}.txt").write_bytes(content)
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    measure = ("eval", "--checkpoint", checkpoint, "--data", tmp_path / "texts", "--json")
    code, out, err = adaptgen_here(*measure, "--limit", limit)
    assert code == 0, err
    found = json.loads(out)
    assert (found["units"], len(found["skipped"])) == (units, num_skipped)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "nothing to measure"),
        (("--dataset", "cooking"), 2, "no dataset 'cooking'"),
        (("--dataset", "music", "--limit", "0"), 2, "--limit is 0"),
        (("--dataset", "music", "--seed", "-1"), 2, "--seed is -1"),
        (("--checkpoint", "music", "--data", "nowhere"), 1, "no file or folder nowhere"),
        (("--checkpoint", "music", "--data", "empty"), 1, "has no music files"),
        (("--checkpoint", "music", "--data", "texts/one.txt"), 1, "texts/one.txt has no music files (.mid, "),
        (("--checkpoint", "music", "--checkpoint", "mine"), 1, "music is for music, mine for text"),
        (("--checkpoint", "mine", "--checkpoint", "other", "--data", "texts"), 1, "does not read the same bytes"),
    ],
)
def test_what_cannot_be_measured_is_said(
    adaptgen_here: Run, tmp_path: Path, texts: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    random_checkpoint(tmp_path / "mine", seed=1)
    random_checkpoint(tmp_path / "other", seed=1, options={"kind": "text8"})
    found, _, err = adaptgen_here("eval", *arguments)
    assert (found, expected in err) == (code, True), err
    assert "Traceback" not in err


def test_files_without_units_are_said(
    adaptgen_here: Run, tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    monkeypatch.setattr(get("text").tokenizer_type, "count_units", lambda tokenizer, tokens: 0)
    code, _, err = adaptgen_here("eval", "--checkpoint", checkpoint, "--data", texts)
    assert (code, "texts has no bytes to measure. Give another with --data." in err) == (1, True), err


def test_held_out_files_that_do_not_come_with_adaptgen_are_said(
    adaptgen_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", seed=1)
    monkeypatch.setattr(type(get("text")), "held_out", "examples/nowhere")
    code, _, err = adaptgen_here("eval", "--dataset", "text", "--checkpoint", checkpoint)
    assert (code, "no held-out text files come with adaptgen. Give your own with --data." in err) == (1, True), err


def test_shipped_twins_show_what_the_shortcut_does_without_any_data(adaptgen_here: Run) -> None:
    code, out, _ = adaptgen_here("eval", "--dataset", "music", "--limit", "3", "--json")
    assert code == 0
    figures = json.loads(out)
    plain, shortcut, large, recalling = figures["models"]
    assert figures["documents"] == 3
    names = ["music-twin-plain", "music-twin-shortcut", "music", "music"]
    assert [row["checkpoint"] for row in figures["models"]] == names
    assert [row["recall"] for row in figures["models"]] == [False, False, False, True]
    assert shortcut["parameters"] == pytest.approx(plain["parameters"], rel=0.01)
    assert shortcut["difference_to_first"]["high"] < 0, "lower, outside the interval"
    assert large["bits_per_note"]["value"] < 7
    assert recalling["bits_per_note"]["value"] < large["bits_per_note"]["value"]


def test_models_of_one_stream_and_of_ten_are_not_compared(adaptgen_here: Run) -> None:
    code, out, _ = adaptgen_here("eval", "--dataset", "speech", "--limit", "2", "--json")
    assert code == 0
    plain, shortcut, large = json.loads(out)["models"]
    assert [row["checkpoint"] for row in (plain, shortcut, large)] == [
        "speech-twin-plain",
        "speech-twin-shortcut",
        "speech",
    ]
    assert [row["streams"] for row in (plain, shortcut, large)] == [1, 1, 10]
    assert "difference_to_first" in shortcut
    assert "difference_to_first" not in large
    by_codebook = [bits["value"] for bits in large["bits_per_second_by_codebook"]]
    assert sum(by_codebook) == pytest.approx(large["bits_per_second"]["value"])
    assert by_codebook[0] < plain["bits_per_second"]["value"] * 1.2, "its coarsest stream is one of the same"


def test_what_a_model_learns_of_the_first_halves_shows_on_the_second(adaptgen_here: Run, tmp_path: Path) -> None:
    model, text = random_checkpoint(tmp_path / "a", seed=1), tmp_path / "again.txt"
    text.write_text("and so on, " * 300)
    code, out, _ = adaptgen_here("eval", "--checkpoint", model, "--data", text, "--adapt", "--json")
    assert code == 0
    found = json.loads(out)
    plain, learned = found["models"]
    assert (plain["adapted"], learned["adapted"]) == (False, True)
    assert found["units"] == pytest.approx(11 * 300 / 2, abs=2)
    assert plain["tokens"] == learned["tokens"] == found["units"]
    assert learned["nats_per_token"]["value"] < plain["nats_per_token"]["value"]
    assert learned["difference_to_first"]["value"] < 0
