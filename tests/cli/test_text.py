"""Text from the command line: train on a folder, continue a file, look at its tokens."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import TINY, TWO_STEPS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(adaptgen_here: Run) -> str:
    code, _, err = adaptgen_here("train", "recipes/text.yaml", *TINY, *TWO_STEPS)
    assert code == 0, err
    return "runs/text/best"


def test_train_continue_tokenize_eval(adaptgen_here: Run, trained: str, tmp_path: Path) -> None:
    card = (tmp_path / trained / "README.md").read_text()
    assert "adaptgen continue story.txt --checkpoint runs/text/best" in card
    assert "bits per byte" in card
    story = tmp_path / "Story.TXT"
    story.write_text("Es war einmal ein König.\n")
    arguments = ("continue", story, "--checkpoint", trained, "--seed", 1, "--json")
    code, out, err = adaptgen_here(*arguments, "--words", 5, "--variations", 2)
    assert code == 0, err
    reports = json.loads(out)
    assert [report["files"] for report in reports] == [["Story.continued.1.TXT"], ["Story.continued.2.TXT"]]
    for report in reports:
        written = (tmp_path / report["files"][0]).read_bytes()
        assert written.startswith(story.read_bytes())
        assert report["bytes"] == len(written) - story.stat().st_size
        assert report["encoding"] == "utf-8"
    code, out, err = adaptgen_here("tokenize", story, "--checkpoint", trained, "--roundtrip", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "characters": 25,
        "characters_lost": 0,
        "bytes": 26,
        "tokens": 26,
        "tokens_per_byte": 1.0,
    }
    code, out, _ = adaptgen_here("tokenize", story, "--checkpoint", trained)
    assert out.splitlines()[:4] == ["<begin>", "E", "s", " "]
    code, out, err = adaptgen_here("eval", "--checkpoint", trained, "--dataset", "text", "--limit", 1, "--json")
    assert code == 0, err
    assert 0 < json.loads(out)["models"][0]["bits_per_byte"]["value"] < 9


def test_the_name_asked_for_is_the_name_written(adaptgen_here: Run, trained: str, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Once")
    (tmp_path / ".md").write_text("Once")
    for file, output, written in (
        ("story.txt", "other.md", "other.md"),
        ("story.txt", "OTHER.TXT", "OTHER.TXT"),
        ("story.txt", "plain", "plain.txt"),
        (".md", "hidden", "hidden.md"),
    ):
        code, out, err = adaptgen_here("continue", file, "--checkpoint", trained, "--chars", 3, "-o", output, "--json")
        assert code == 0, err
        assert json.loads(out)[0]["files"] == [written]
        assert len((tmp_path / written).read_text()) == 7


def test_a_text_that_is_interrupted_ends_its_line(
    adaptgen_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, on_text: Callable[[str], None], **__: object) -> None:
        on_text(" upon a")
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptgen.continuation.continue_file", interrupted)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    (tmp_path / "story.txt").write_text("Once")
    code, out, err = adaptgen_here("continue", "story.txt", "--checkpoint", "text-twin-plain")
    assert (code, out) == (130, " upon a\n")
    assert err.splitlines() == ["Interrupted."]
    assert not (tmp_path / "story.continued.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("continue", "story.txt", "--bars", 3), "--bars says nothing about text"),
        (("continue", "binary.txt"), "is no text: character 0 is a null"),
        (("continue", "missing.txt"), "missing.txt cannot be read: No such file"),
        (("continue", "song.mid", "--words", 3), "--words says nothing about music"),
        (("render", "story.txt"), "story.txt is text, which has no sound"),
    ],
)
def test_what_makes_no_sense_is_said(
    adaptgen_here: Run, trained: str, tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    (tmp_path / "story.txt").write_text("Once")
    (tmp_path / "binary.txt").write_bytes(b"\0\1")
    song = Path(__file__).parents[2] / "examples" / "song.mid"
    (tmp_path / "song.mid").write_bytes(song.read_bytes())
    if arguments[0] == "continue" and arguments[1] != "song.mid":
        arguments = (*arguments, "--checkpoint", trained)
    before = sorted(tmp_path.iterdir())
    code, _, err = adaptgen_here(*arguments)
    assert code in (1, 2)
    assert expected in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_bundles_of_a_corpus_are_split_by_name_and_read_packed(adaptgen_here: Run, tmp_path: Path) -> None:
    import lzma

    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "train.txt.xz").write_bytes(lzma.compress(b"the cat sat on the mat.\n\n\n" * 200))
    (folder / "validation.txt").write_text("the dog sat on the log.\n" * 40)
    code, out, err = adaptgen_here(
        "train", "text", "--data", folder, *TINY, *TWO_STEPS, "--set", "training.seq_len=64", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["num_files"] == 2


def test_a_single_file_is_trained_on_and_its_end_is_held_out(adaptgen_here: Run, tmp_path: Path) -> None:
    text = "".join(f"This is sentence {number} of a novel.\n" for number in range(300))
    (tmp_path / "novel.txt").write_text(text)
    arguments = ("train", "text", *TINY, *TWO_STEPS, "--set", "training.seq_len=64", "--json")
    code, out, err = adaptgen_here(*arguments, "--data", "novel.txt")
    assert code == 0, err
    report = json.loads(out)
    assert report["num_files"] == 1
    assert report["best_metrics"]["validation"]["."]["bits_per_byte"] > 0
    code, _, err = adaptgen_here(*arguments, "--data", "novel.txt", "-o", "other", "--set", "data.validation_share=0")
    assert code == 0, err
    assert "Nothing was held out" in (tmp_path / "other" / "best" / "README.md").read_text()


def test_bpe_is_learned_once_and_kept(adaptgen_here: Run, tmp_path: Path) -> None:
    arguments = ("train", "text", *TINY, *TWO_STEPS, "--set", "tokenizer={kind: bpe, vocab_size: 400}")
    code, _, err = adaptgen_here(*arguments)
    assert code == 0, err
    code, _, err = adaptgen_here("train", "text", *TINY, *arguments[-2:], "--steps", 3, "--resume")
    assert code == 0, err
    (tmp_path / "story.txt").write_text("Once upon a time")
    code, out, err = adaptgen_here(
        "continue", "story.txt", "--checkpoint", "runs/text/best", "--tokens", 12, "--json", "--seed", 1
    )
    assert code == 0, err
    assert json.loads(out)[0]["tokens"] == 12
