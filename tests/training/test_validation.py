"""What the loss on held-out files is a mean of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adaptgen.recipe_files import load_recipe
from adaptgen.training.loop import next_token_loss
from adaptgen.training.session import Session

SONG = Path(__file__).parents[2] / "examples" / "song.mid"


def test_a_split_shorter_than_a_sequence_is_scored_as_it_is(tiny_recipe: Path, tmp_path: Path) -> None:
    """And not laid end to end with itself, where a model need only copy."""
    overrides = [f"data.folder={SONG}", "data.validation_share=0.02", "model.attention_window=32"]
    session = Session(load_recipe(tiny_recipe, overrides=overrides), tmp_path / "run")
    (shards,) = session.corpus.shards
    tokens = torch.from_numpy(shards["validation"].tokens.astype("int64"))[None]
    assert 2 < tokens.shape[2] < session.recipe.training.seq_len
    session.run(should_stop=lambda: True)
    found = session.trainer.validate()
    assert found.by_source["."].keys() == {"nats_per_token", "bits_per_note"}
    with torch.no_grad():
        expected = float(next_token_loss(session.trainer.model(tokens[:, :, :-1]), tokens[:, :, 1:]))
    assert found.nats_per_token == pytest.approx(expected, abs=1e-5)


def test_without_units_there_are_no_bits_of_them(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(load_recipe(tiny_recipe), tmp_path / "run")
    monkeypatch.setattr(type(session.trainer.checkpoint.tokenizer), "count_units", lambda tokenizer, tokens: 0)
    session.run(should_stop=lambda: True)
    assert session.trainer.validate().by_source["."].keys() == {"nats_per_token"}
