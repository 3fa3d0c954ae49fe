"""Looking at where a model looks, from the command line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptgen.checkpoint import Checkpoint, save_checkpoint
from adaptgen.config import ModelConfig, ShortcutConfig
from adaptgen.domains import get
from adaptgen.model import Transformer

Run = Callable[..., tuple[int, str, str]]
SONG = Path(__file__).parents[2] / "examples" / "song.mid"


def random_checkpoint(folder: Path, *, domain_name: str, shortcut: ShortcutConfig | None) -> Path:
    domain = get(domain_name)
    tokenizer = domain.tokenizer_type.from_options({})
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ModelConfig(num_layers=3, num_heads=2, model_dim=16, attention_window=32, shortcut=shortcut)
        model = Transformer(config, tokenizer.vocab_sizes)
    save_checkpoint(Checkpoint(domain, tokenizer, model), folder, card="# random\n")
    return folder


def test_a_song_gives_a_picture_a_page_and_figures_that_agree(adaptgen_here: Run, tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="music", shortcut=ShortcutConfig())
    code, out, err = adaptgen_here("inspect", SONG, "--checkpoint", checkpoint, "--tokens", 300)
    assert code == 0, err
    assert "hardest quarter" in out
    assert (tmp_path / "song.attention.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "song.attention.json").read_text())
    tokens = content["tokens"]
    assert len(tokens) == 300
    assert "links" not in tokens[0]
    for index, token in enumerate(tokens[1:], start=1):
        assert sum(token["depth_shares"]) == pytest.approx(1, abs=1e-3)
        assert sum(token["distance_shares"]) == pytest.approx(1, abs=1e-3)
        assert all(0 <= link["token"] < index and link["depth"] in (0, 1) for link in token["links"])
        assert ("height" in token) == (token["kind"] in ("Pitch", "PitchDrum"))
    averages = content["averages"]
    assert sum(row["tokens"] for row in averages["by_kind"].values()) == 299
    assert sum(row["tokens"] for row in averages["by_cost"].values()) == 299
    costs = [row["nats"] for row in averages["by_cost"].values()]
    assert costs == sorted(costs)
    bars = [token for token in tokens[1:] if token["kind"] == "Bar"]
    assert averages["by_kind"]["Bar"]["nats"] == pytest.approx(sum(t["nats"] for t in bars) / len(bars), abs=1e-3)
    page = (tmp_path / "song.attention.html").read_text()
    embedded = re.search(r"const data = (\{.*\});\n", page)
    assert json.loads(embedded.group(1))["tokens"] == tokens
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "the page needs nothing else"


def test_a_picture_has_no_more_than_can_be_drawn(
    adaptgen_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="music", shortcut=ShortcutConfig())
    monkeypatch.setattr("adaptgen.cli.inspect.DRAWN_TOKENS", 160)
    sizes = []
    for tokens in (160, 600):
        code, out, err = adaptgen_here("inspect", SONG, "--checkpoint", checkpoint, "--tokens", tokens, "-o", tokens)
        assert code == 0, err
        sizes.append((tmp_path / f"{tokens}.png").read_bytes()[16:24])
        assert ("The picture shows the first 160 of 600 tokens" in out) == (tokens == 600)
        assert len(json.loads((tmp_path / f"{tokens}.json").read_text())["tokens"]) == tokens
    assert sizes[0] == sizes[1], "width and height"


def test_a_model_that_reads_one_layer_shows_how_far_back(adaptgen_here: Run, tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="music", shortcut=ShortcutConfig(depths=(0,)))
    code, out, err = adaptgen_here("inspect", SONG, "--checkpoint", checkpoint, "--tokens", 60, "-o", "found.png")
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "found.png", "found.html", "found.json"}
    assert "64 or more" in out
    assert "mean depth" not in out, "it would be 0 everywhere"
    assert "music-twin-shortcut" in out
    averages = json.loads((tmp_path / "found.json").read_text())["averages"]
    far = averages["all"]["all tokens"]["distance_shares"]
    assert far["0"] > far["64 or more"] == 0, "of 60 tokens none has a frame so far back"


def test_a_text_that_looks_like_a_page_harms_no_page(adaptgen_here: Run, tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="text", shortcut=ShortcutConfig())
    story = tmp_path / "<b>.txt"
    story.write_text("$x$ </script><b>No 1</b>\n\tÄ.")
    code, out, err = adaptgen_here("inspect", story, "--checkpoint", checkpoint, "--json", "-o", "found")
    assert code == 0, err
    assert set(json.loads(out)["averages"]["by_kind"]) == {
        "letters", "space", "digits", "punctuation", "bytes of other characters",
    }  # fmt: skip
    page = (tmp_path / "found.html").read_text()
    assert page.count("</script>") == 1
    assert "<b>" not in page


def test_all_documents_of_a_file_are_read(adaptgen_here: Run, tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "mine", domain_name="text", shortcut=ShortcutConfig())
    (tmp_path / "MY_DATA.txt").write_text("A title\n\n\nAnd a story, which is longer.\n")
    code, out, err = adaptgen_here("inspect", "MY_DATA.txt", "--checkpoint", checkpoint, "--json")
    assert code == 0, err
    assert json.loads(out)["averages"]["all"]["all tokens"]["tokens"] > 30
    assert "<title>MY_DATA.txt, read by mine</title>" in (tmp_path / "MY_DATA.attention.html").read_text()


def test_a_checkpoint_of_a_run_is_named_by_the_run_and_its_folder(adaptgen_here: Run, tmp_path: Path) -> None:
    run = tmp_path / "waltzes"
    run.mkdir()
    (run / "recipe.yaml").write_text("")
    checkpoint = random_checkpoint(run / "best", domain_name="music", shortcut=ShortcutConfig())
    shutil.copytree(checkpoint, run / "kept")
    for given, name in (
        (checkpoint, "waltzes/best"),
        ("waltzes/best", "waltzes/best"),
        ("waltzes/kept", "waltzes/kept"),
    ):
        code, _, err = adaptgen_here("inspect", SONG, "--checkpoint", given, "--tokens", 20, "-o", "found", "--force")
        assert code == 0, err
        assert f"<title>song.mid, read by {name}</title>" in (tmp_path / "found.html").read_text()
        assert json.loads((tmp_path / "found.json").read_text())["checkpoint"] == name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("song.mid", "-o", "."), "-o . is a folder"),
        (("song.mid", "--tokens", 1), "--tokens is 1"),
        (("song.mid", "--checkpoint", "plain"), "plain has no shortcut to look at"),
        (("missing.mid",), "missing.mid"),
    ],
)
def test_what_cannot_be_looked_at_is_said(
    adaptgen_here: Run, tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    (tmp_path / "song.mid").write_bytes(SONG.read_bytes())
    random_checkpoint(tmp_path / "plain", domain_name="music", shortcut=None)
    before = sorted(tmp_path.iterdir())
    code, _, err = adaptgen_here("inspect", *arguments)
    assert code in (1, 2)
    assert expected in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_that_has_learned_the_file_looks_otherwise(adaptgen_here: Run, tmp_path: Path) -> None:
    averages = []
    for options in ((), ("--adapt",)):
        code, out, _ = adaptgen_here("inspect", SONG, "--tokens", 300, "--json", "--force", *options)
        assert code == 0
        averages.append(json.loads(out)["averages"])
    assert averages[0] != averages[1]
