"""Recall against a computation by loops, and that frame by frame it is what it is over a whole document."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import adaptgen
from adaptgen import recall as recalling
from adaptgen.checkpoint import load_checkpoint, save_recall
from adaptgen.config import ModelConfig
from adaptgen.domains.base import Grammar
from adaptgen.errors import CheckpointError
from adaptgen.evaluation import read_document, score_documents
from adaptgen.generation import generate
from adaptgen.model import ForwardDecoder, Transformer, new_decoder
from adaptgen.recall import Past, Recall
from adaptgen.sampling import Sampling
from adaptgen.training.recall import fit_recall

RECALL = Recall(frames=40, sharpness=12.0, likeness=9.0, record=2.0, bias=-8.0, following=0.4)
TOKENIZER = SimpleNamespace(count_units=lambda tokens: 1.0)
all_streams = pytest.mark.parametrize("vocab_sizes", [(9,), (9, 5, 7)], ids=["K1", "K3"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def build(vocab_sizes: tuple[int, ...], *, noise: float = 0.3) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=8)
    model = Transformer(config, vocab_sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=noise)
    return model


def repetitive(vocab_sizes: tuple[int, ...], length: int, *, seed: int = 0) -> np.ndarray:
    """A document that comes back to the same 30 frames, with other frames between."""
    rng = np.random.default_rng(seed)
    tokens = np.stack([rng.integers(size, size=length) for size in vocab_sizes])
    for start in range(0, length, 45):
        tokens[:, start : start + 30] = tokens[:, :30][:, : length - start]
    return tokens


def nats(model: Transformer, document: np.ndarray, recall: Recall | None = RECALL, *, piece_frames: int = 256) -> float:
    (score,) = score_documents(model, [document], TOKENIZER, recall=recall, piece_frames=piece_frames)
    return score.nats


def nats_by_hand(model: Transformer, document: np.ndarray) -> float:
    """The formula, one frame after the other."""
    pieces = list(read_document(model, document))
    states = np.concatenate([states for states, _ in pieces]).astype(np.float64)
    predicted = np.concatenate([likelihoods for _, likelihoods in pieces], axis=1)
    total, record, places = 0.0, 0.0, {}
    for now in range(document.shape[1] - 1):
        past = range(max(0, now - RECALL.frames), now)
        norms = np.linalg.norm(states, axis=1)
        cosines = [states[now] @ states[then] / (norms[now] * norms[then]) for then in past]
        shares = [math.exp(RECALL.sharpness * cosine) for cosine in cosines]
        # At which place of a passage the document is: one on from where it was, or, seldom, anywhere.
        places = {
            then: (0.95 * places.get(then - 1, 0.0) + 0.05 / len(past)) * math.exp(20.0 * cosine)
            for then, cosine in zip(past, cosines, strict=True)
        }
        leads = []
        for stream in range(len(document)):
            came, likelihood, weight, found = document[stream, now + 1], predicted[stream, now], 0.0, 0.0
            if shares:
                agreeing = [
                    share for then, share in zip(past, shares, strict=True) if document[stream, then + 1] == came
                ]
                followed = [places[then] for then in past if document[stream, then + 1] == came]
                found = 0.6 * sum(agreeing) / sum(shares) + 0.4 * sum(followed) / sum(places.values())
                weight = 1 / (1 + math.exp(-RECALL.likeness * max(cosines) - RECALL.record * record - RECALL.bias))
            total -= math.log((1 - weight) * likelihood + weight * found)
            leads.append(math.log(max(found, 1e-4)) - math.log(max(likelihood, 1e-4)))
        for then in past:
            agreement = float(np.mean(document[:, then + 1] == document[:, now + 1]))
            places[then] *= 0.02 + 0.98 * agreement
        places = {then: place / sum(places.values()) for then, place in places.items()}
        lead = min(max(sum(leads) / len(leads), -4.0), 4.0) if shares else 0.0
        record += (lead - record) / 32
    return total


class TestScoring:
    @all_streams
    def test_it_is_the_formula(self, vocab_sizes: tuple[int, ...]) -> None:
        model, document = build(vocab_sizes), repetitive(vocab_sizes, 120)
        assert nats(model, document) == pytest.approx(nats_by_hand(model, document), abs=1e-3)

    @pytest.mark.parametrize("piece_frames", [1, 7, 39, 64])
    def test_pieces_change_nothing(self, piece_frames: int) -> None:
        model, document = build((9,)), repetitive((9,), 150)
        assert nats(model, document, piece_frames=piece_frames) == pytest.approx(nats(model, document), abs=1e-3)

    def test_progress_adds_up_to_all_tokens(self) -> None:
        done: list[int] = []
        documents = [repetitive((9, 5), length) for length in (40, 1, 25)]
        scores = score_documents(build((9, 5)), documents, TOKENIZER, recall=RECALL, on_progress=done.append)
        assert sum(done) == sum(score.num_tokens for score in scores) == 2 * (39 + 0 + 24)

    def test_what_repeats_is_predicted_better(self) -> None:
        model, document = build((9,)), repetitive((9,), 400)
        recall = Recall(frames=400, sharpness=40.0, likeness=10.0, record=2.0, bias=-9.0)
        assert nats(model, document, recall) < 0.8 * nats(model, document, None)


class TestDecoding:
    @all_streams
    @pytest.mark.parametrize("make", [ForwardDecoder, new_decoder], ids=["forward", "fast"])
    @pytest.mark.parametrize("prompt_frames", [1, 30, 100])
    def test_it_is_what_a_whole_document_gets(
        self, make: object, vocab_sizes: tuple[int, ...], prompt_frames: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So long that what each row keeps grows, and forgets, several times.

        Without passages, which are not followed in what is drawn.
        """
        recall = replace(RECALL, following=0.0)
        monkeypatch.setattr(recalling, "OWN_DISTANCE", 0)
        monkeypatch.setattr(recalling, "FIRST_ROOM", 8)
        model = build(vocab_sizes)
        rows = np.stack([repetitive(vocab_sizes, 260, seed=seed) for seed in (1, 2, 3)])
        rows[:, :, :prompt_frames] = rows[0, :, :prompt_frames]
        decoder = make(model)
        logits = decoder.start(rows[0, :, :prompt_frames], 3)
        past = Past(recall, rows[0, :, :prompt_frames], decoder.prompt_states, decoder.prompt_likelihoods, 3)
        found, kept = np.zeros(3), [0, 1, 2]
        for frame in range(prompt_frames, 260):
            if frame == 150:
                decoder.keep([0, 2])
                past.keep([0, 2])
                kept, logits = [0, 2], logits[[0, 2]]
            mixed = past.mix(logits)
            came = rows[kept, :, frame]
            found[kept] -= np.take_along_axis(mixed, came[:, :, None], axis=2).sum(axis=(1, 2))
            logits = decoder.step(came)
            past.add(came, decoder.states)
        before = nats(model, rows[0, :, :prompt_frames], recall) if prompt_frames > 1 else 0.0
        for row in (0, 2):
            # The fast decoder holds weights as float16.
            assert found[row] == pytest.approx(nats(model, rows[row], recall) - before, rel=2e-3)

    def test_probabilities_add_up_to_one(self) -> None:
        vocab_sizes = (9, 5, 7)
        model, document = build(vocab_sizes), repetitive(vocab_sizes, 60)
        decoder = new_decoder(model)
        logits = decoder.start(document, 2)
        past = Past(RECALL, document, decoder.prompt_states, decoder.prompt_likelihoods, 2)
        probabilities = np.exp(past.mix(logits))
        assert probabilities.sum(axis=2) == pytest.approx(1.0)
        assert (probabilities[:, 1, 5:] == 0).all(), "of streams with fewer tokens no others may come"

    def test_what_it_has_drawn_is_recalled_512_frames_later_and_no_sooner(self) -> None:
        """With a prompt of one frame there is nothing but that."""
        model, recall = build((9,)), Recall(frames=1000, sharpness=12.0, likeness=9.0, record=2.0, bias=0.0)
        rows = repetitive((9,), 520)[None]
        decoder = new_decoder(model)
        logits = decoder.start(rows[0, :, :1], 1)
        past = Past(recall, rows[0, :, :1], decoder.prompt_states, decoder.prompt_likelihoods, 1)
        for frame in range(1, rows.shape[2]):
            alone = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
            # The first frame that can follow is the one that was drawn first.
            assert (past.mix(logits) == pytest.approx(alone, abs=1e-5)) == (frame <= 1 + 512)
            logits = decoder.step(rows[:, :, frame])
            past.add(rows[:, :, frame], decoder.states)

    def test_it_plays_what_the_prompt_repeats(self) -> None:
        """A model that knows nothing goes on with the pattern, and without recall it does not."""

        class Free(Grammar):
            length = 60

            @property
            def is_done(self) -> bool:
                return self.length < 0

            @property
            def progress(self) -> float:
                return 0.0

            def allowed(self) -> np.ndarray:
                return np.ones((1, 9), dtype=bool)

            def accept(self, frame: np.ndarray) -> None:
                self.length -= 1

        model, pattern = build((9,)), np.random.default_rng(1).integers(9, size=(1, 20))
        prompt = np.tile(pattern, 10)
        sure = Recall(frames=500, sharpness=100.0, likeness=60.0, record=5.0, bias=-50.0)

        def share_that_fits(recall: Recall | None) -> float:
            (drawn,) = generate(new_decoder(model), prompt, [Free()], Sampling(), seed=0, recall=recall)
            return float(np.mean(drawn[0] == np.resize(pattern, drawn.shape[1])))

        assert share_that_fits(sure) > 0.9
        assert share_that_fits(None) < 0.5

    def test_a_passage_goes_on_in_its_own_order(self) -> None:
        """States that are all alike do not say where a passage is; the frames that came do, in each row for itself."""
        model = build((9,), noise=0.0)
        prompt = np.tile([[1, 2, 1, 3, 1, 4, 1, 5]], 10)
        rows = np.array([[1, 2, 1, 2, 1], [1, 2, 1, 3, 1]])

        def probability_of_a_4(row: int, following: float) -> float:
            # Of a prompt that is longer than can be recalled.
            recall = Recall(frames=60, sharpness=12.0, likeness=0.0, record=0.0, bias=50.0, following=following)
            decoder = new_decoder(model)
            logits = decoder.start(prompt, 2)
            past = Past(recall, prompt, decoder.prompt_states, decoder.prompt_likelihoods, 2)
            for frames in rows.T[:, :, None]:
                past.mix(logits)
                logits = decoder.step(frames)
                past.add(frames, decoder.states)
            past.keep([row])
            return float(np.exp(past.mix(logits[[row]]))[0, 0, 4])

        assert probability_of_a_4(1, 1.0) > 0.9
        assert probability_of_a_4(0, 1.0) < 0.1
        assert probability_of_a_4(1, 0.0) < 0.3


class TestFitting:
    def test_it_finds_numbers_that_lower_the_loss(self) -> None:
        model = build((9,))
        documents = [repetitive((9,), 800, seed=seed) for seed in (1, 2)]
        recall = fit_recall(model, [documents[:1], documents[1:]])
        alone = sum(nats(model, document, None) for document in documents)
        assert sum(nats(model, document, recall) for document in documents) < 0.8 * alone

    def test_where_all_is_said_by_chance_there_is_none(self) -> None:
        indifferent = build((9,), noise=0.0)
        assert fit_recall(indifferent, [[np.random.default_rng(0).integers(9, size=(1, 1500))]]) is None

    def test_so_little_tells_nothing(self) -> None:
        assert fit_recall(build((9,)), [[repetitive((9,), 300)]]) is None


class TestCheckpoints:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The shipped music checkpoint's files, to be changed."""
        source = Path(__file__).parent.parent / "checkpoints" / "music"
        folder = tmp_path / "best"
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    def test_it_is_kept(self, folder: Path) -> None:
        for recall in (RECALL, None):
            save_recall(folder, recall)
            assert load_checkpoint(str(folder)).recall == recall

    def test_killed_it_leaves_the_checkpoint_as_it_was(self, folder: Path) -> None:
        before = contents(folder)
        script = (
            "import os, pathlib, signal, sys\n"
            "from adaptgen.checkpoint import save_recall\n"
            "os.rename = os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "save_recall(pathlib.Path(sys.argv[1]), None)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(adaptgen.__file__).parents[1])}
        killed = subprocess.run([sys.executable, "-c", script, folder], env=environment)
        assert killed.returncode == -signal.SIGKILL
        assert contents(folder) == before
        save_recall(folder, None)
        assert [path.name for path in folder.parent.iterdir()] == ["best"], "what was left is cleared away"
        config = json.loads(before.pop("config.json"))
        after = contents(folder)
        assert json.loads(after.pop("config.json")) == {**config, "recall": None}
        assert after == before

    def test_older_checkpoints_have_none(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        del config["recall"]
        (folder / "config.json").write_text(json.dumps(config))
        assert load_checkpoint(str(folder)).recall is None

    @pytest.mark.parametrize(
        "damage",
        [{"frames": 0}, {"sharpness": -1.0}, {"bias": None}, {"bias": math.inf}, {"following": 2.0}, {"depth": 3}],
    )
    def test_damage_is_named(self, folder: Path, damage: dict[str, object]) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["recall"] |= damage
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(str(folder))
